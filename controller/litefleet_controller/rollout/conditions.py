"""Where a device stands in a rollout, in one word, and how many devices stand where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from .model import DeviceRow
from .states import DeviceState

Condition = Literal["done", "failed", "working", "offline", "pending", "blocked", "rolled back", "skipped"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
# A device with several models gets the condition that needs attention most.
GRAVEST: tuple[Condition, ...] = (*CONDITIONS[1:], *CONDITIONS[:1])
_CONDITION: Mapping[DeviceState, Condition] = {
    DeviceState.PENDING: "pending",
    DeviceState.STAGING: "working",
    DeviceState.PROVEN: "working",
    DeviceState.SWITCHING: "working",
    DeviceState.LEASED: "working",
    DeviceState.CONFIRMED: "done",
    DeviceState.UNCHANGED: "done",
    DeviceState.FAILED: "failed",
    DeviceState.BLOCKED: "blocked",
    DeviceState.OFFLINE: "offline",
    DeviceState.SKIPPED: "skipped",
    DeviceState.ROLLED_BACK: "rolled back",
}

STATES_OF: Mapping[Condition, tuple[DeviceState, ...]] = {
    condition: tuple(state for state, of in _CONDITION.items() if of == condition) for condition in CONDITIONS
}
RANKS: Mapping[DeviceState, int] = {state: GRAVEST.index(condition) for state, condition in _CONDITION.items()}


def wave_counts(rows: Iterable[DeviceRow]) -> dict[int, Counter[Condition]]:
    """Return the number of devices in each condition, by wave (from 0)."""
    devices: dict[tuple[int, str], int] = {}  # to the place of its condition in `GRAVEST`
    for row in rows:
        key, rank = (row.wave, row.device), RANKS[row.state]
        devices[key] = min(rank, devices.get(key, rank))
    found: dict[int, Counter[Condition]] = {}
    for (wave, _), rank in devices.items():
        found.setdefault(wave, Counter())[GRAVEST[rank]] += 1
    return dict(sorted(found.items()))


class RowSummary(NamedTuple):
    """What a status shows of all rows of a rollout together."""

    waves: Mapping[int, Counter[Condition]]  # devices by wave (from 0) and condition
    released: tuple[tuple[str, str], ...]  # each (model, release) once, in the order of the rows

    @property
    def devices(self) -> int:
        """The number of devices: all rows of one are in one wave."""
        return sum(counts.total() for counts in self.waves.values())

    @property
    def well(self) -> int:
        """The number of devices that run what they should, in every row."""
        return sum(counts["done"] for counts in self.waves.values())


def summary_of(rows: Sequence[DeviceRow]) -> RowSummary:
    """Return the summary of rows that were read."""
    return RowSummary(wave_counts(rows), tuple(dict.fromkeys((row.model, row.release) for row in rows)))
