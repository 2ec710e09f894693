"""Predictors by the sizes of the inputs that they run with: a bounded number, the one that was used least recently goes first."""

import os
from collections import OrderedDict
from typing import Any, Callable, Hashable, Optional

__all__ = ["Predictors", "resident_bytes"]


def resident_bytes() -> int:
    """Return how much memory this process holds, 0 when that can't be told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class Predictors:
    """One predictor at work, and others set aside.

    `load()` makes another one.  At most `most` are held, and fewer where another one would not fit into `limit` bytes of
    memory (0 = no limit), by what the largest so far took.
    """

    def __init__(
        self, load: Callable[[], Any], most: int = 1, limit: int = 0, resident: Callable[[], int] = resident_bytes
    ) -> None:
        self.loads = 0
        self.current: Any = None
        self._load, self._most, self._limit, self._resident = load, most, limit, resident
        self._sizes: Optional[Hashable] = None  # that the current one ran with; None = it has not run yet
        self._aside: "OrderedDict[Hashable, Any]" = OrderedDict()  # the latest last
        self._before = self._largest = 0  # bytes resident before the latest load; that a predictor took

    def fresh(self) -> None:
        """Make a new one and let go of all others: before, since a second one beside it would hold the weights twice."""
        self._aside.clear()
        self._make()

    def _make(self) -> None:
        self.current, self._sizes = None, None
        self._before = self._resident()
        self.current = self._load()
        self.loads += 1

    def turn_to(self, sizes: Hashable) -> None:
        """Have a predictor at work that never ran with other sizes than these."""
        if self.current is not None and self._sizes in (None, sizes):
            self._sizes = sizes
            return
        if self.current is not None:
            self._largest = max(self._largest, self._resident() - self._before)
            self._aside[self._sizes] = self.current
        self.current = self._aside.pop(sizes, None)
        if self.current is None:
            self._make_room()
            self._make()
        self._sizes = sizes

    def _make_room(self) -> None:
        while len(self._aside) >= self._most:
            self._aside.popitem(last=False)
        if self._aside and self._crowded():
            self._aside.popitem(last=False)  # the system may not get that back, but the next one uses it

    def _crowded(self) -> bool:
        return bool(self._limit) and self._resident() + self._largest > self._limit
