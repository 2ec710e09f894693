"""Where a device stands: its rows taken together.  A device is begun, counted and waited for as a whole."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .model import DeviceRow
from .states import DeviceState

Stratum = tuple[str, str, str]  # CPU part, libc, runtime

_GAVE_UP = "LF615"


class Phase(enum.Enum):
    """What a device waits for."""

    PENDING = "pending"  # its turn
    IN_FLIGHT = "in flight"  # a conversation's end
    OFFLINE = "offline"  # being reached
    SETTLED = "settled"  # nothing


@dataclass(frozen=True)
class DeviceTotals:
    """One device in one rollout."""

    device: str
    phase: Phase
    wave: int
    position: int
    jump: str
    try_at: float  # when it is next tried, while it is offline
    since: float  # when it was found offline; 0 = it is not, or unknown
    takes_part: bool  # had something to do in this rollout
    parts: frozenset[str]  # its CPU part; empty while that is unknown
    failed: bool  # counts in the gates
    clusters: frozenset[tuple[str, str]]  # (finding code, CPU part) of what failed
    regressed: bool
    kinds: frozenset[Stratum]  # of its rows that are not settled; one kind for all that never reported what they are
    expected: bool  # counts in its wave's success: takes part, and no person has resumed over its failure
    well: bool  # has come to its end, and runs what it should
    tried: frozenset[Stratum]  # kinds of device that it is evidence for
    waiting: frozenset[Stratum]  # kinds of device that it could stand for, were it in the first wave


def counts_as_failed(row: DeviceRow) -> bool:
    """Return whether a row counts in the gates: it was tried; a device that was never reached was not."""
    return row.failed and _GAVE_UP not in row.codes


def totals_of(rows: Sequence[DeviceRow]) -> DeviceTotals:
    """Return where the device stands that `rows` are all the rows of (at least one)."""
    phase = _phase(rows)
    offline = [row for row in rows if row.state is DeviceState.OFFLINE] if phase is Phase.OFFLINE else []
    failed = [row for row in rows if counts_as_failed(row)]
    return DeviceTotals(
        device=rows[0].device,
        phase=phase,
        wave=min(row.wave for row in rows),
        position=min(row.position for row in rows),
        jump=rows[0].jump,
        try_at=min((row.next_try_at for row in offline), default=0.0),
        since=min((row.offline_since for row in offline if row.offline_since > 0), default=0.0),
        takes_part=any(_takes_part(row) for row in rows),
        parts=frozenset(row.part for row in rows if row.part),
        failed=bool(failed),
        clusters=frozenset((row.codes[0], row.part) for row in failed if row.codes and row.part),
        regressed=any(row.regressed for row in failed),
        kinds=frozenset(_kind(row) for row in rows if not row.state.settled),
        expected=any(_takes_part(row) for row in rows) and not any(row.forgiven for row in rows),
        well=phase is Phase.SETTLED and not failed and any(row.state.well for row in rows),
        tried=frozenset(_kind(row) for row in rows if _tried(row)),
        waiting=_strata(row for row in rows if row.wave > 0 and row.state is DeviceState.PENDING),
    )


def _phase(rows: Iterable[DeviceRow]) -> Phase:
    states = {row.state for row in rows}
    if any(state.in_flight for state in states):
        return Phase.IN_FLIGHT
    if DeviceState.PENDING in states:
        return Phase.PENDING
    return Phase.OFFLINE if DeviceState.OFFLINE in states else Phase.SETTLED


def _takes_part(row: DeviceRow) -> bool:
    """Return whether a row has something to do: not one that is blocked, skipped, or ran the release when the plan was made."""
    if row.state in (DeviceState.BLOCKED, DeviceState.SKIPPED):
        return False
    return row.state is not DeviceState.UNCHANGED or row.attempts > 0


def _tried(row: DeviceRow) -> bool:
    """Return whether a row is evidence for its kind: it was tried, or ran the release before."""
    if row.state in (DeviceState.CONFIRMED, DeviceState.FAILED):
        return _GAVE_UP not in row.codes
    return row.state is DeviceState.UNCHANGED


def _kind(row: DeviceRow) -> Stratum:
    return row.stratum if row.known else ("", "", "")


def _strata(rows: Iterable[DeviceRow]) -> frozenset[Stratum]:
    return frozenset(row.stratum for row in rows if row.known)
