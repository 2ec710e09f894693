"""Devices in the order of their turn, behind their jump hosts.  Changing a device's turn costs no search."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

_Entry = tuple[float, int, int, str]  # when, the place among equals, the entry's own number, the device


class ParallelLimits:
    """Devices with the number that says when each has its turn: a wave, or a time."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[_Entry]] = {}  # by jump host; entries that no longer count are dropped at the top
        self._current: dict[str, int] = {}  # device -> its entry's number
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._current)

    def put(self, device: str, when: float, place: int, jump: str = "") -> None:
        """Set a device's turn, in place of an earlier one."""
        number = self._current[device] = next(self._numbers)
        heapq.heappush(self._heaps.setdefault(jump, []), (when, place, number, device))

    def drop(self, device: str) -> None:
        """Remove a device; nothing happens when it is not in."""
        self._current.pop(device, None)

    def clear(self) -> None:
        """Remove all devices."""
        self._heaps.clear()
        self._current.clear()

    def first(self, after: float) -> float | None:
        """Return the earliest turn that is later than `after`, among the devices that are next behind their jump host."""
        return min((entry[0] for entry, _ in self._heads() if entry[0] > after), default=None)

    def any_until(self, when: float) -> bool:
        """Return whether a device has its turn at `when` or earlier."""
        return any(entry[0] <= when for entry, _ in self._heads())

    def take(self, most: int, until: float, free: Callable[[str], float]) -> tuple[str, ...]:
        """Return up to `most` devices whose turn is at `until` or earlier, in order; they stay in.

        `free` returns how many more devices may run behind a jump host.
        """
        left: dict[str, float] = {}
        heads: list[tuple[_Entry, str]] = []
        for entry, jump in self._heads():
            left[jump] = free(jump)
            if entry[0] <= until and left[jump] > 0:
                heads.append((entry, jump))
        heapq.heapify(heads)
        taken: list[tuple[_Entry, str]] = []
        while heads and len(taken) < most:
            entry, jump = heapq.heappop(heads)
            taken.append((heapq.heappop(self._heaps[jump]), jump))
            left[jump] -= 1
            following = self._head(jump)
            if left[jump] > 0 and following is not None and following[0] <= until:
                heapq.heappush(heads, (following, jump))
        for entry, jump in taken:
            heapq.heappush(self._heaps[jump], entry)
        return tuple(entry[3] for entry, _ in taken)

    def _heads(self) -> Iterator[tuple[_Entry, str]]:
        for jump in list(self._heaps):
            entry = self._head(jump)
            if entry is not None:
                yield entry, jump

    def _head(self, jump: str) -> _Entry | None:
        heap = self._heaps[jump]
        while heap and self._current.get(heap[0][3]) != heap[0][2]:
            heapq.heappop(heap)
        return heap[0] if heap else None
