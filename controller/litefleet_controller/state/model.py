"""What the controller remembers: the values, and the port that `State` implements.  Times are seconds since the epoch, UTC.

Every call is one transaction, committed and synced when it returns.  Calls that change a rollout need the fleet's `Hold`, and
fail with `LostHold` when another controller has taken it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..common.errors import LitefleetError
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceEvent, DeviceRow

__all__ = [
    "AuditEntry",
    "Confirmed",
    "Conflict",
    "FleetLock",
    "FleetLockLost",
    "FleetLocked",
    "KnownDevice",
    "Owner",
    "RowChange",
    "StateError",
]


class StateError(LitefleetError):
    """The database can't be used; the text says why and what to do."""


class FleetLocked(StateError):
    """Another controller that is alive runs this fleet's rollout (exit code 1)."""


class FleetLockLost(StateError):
    """Another controller took this fleet over while we were taken for dead; nothing was written."""


class Conflict(StateError):
    """What is stored is not what the caller believed; nothing was written."""


@dataclass(frozen=True)
class Owner:
    """A controller: enough to tell whether it still lives."""

    user: str
    host: str
    pid: int
    boot_id: str = ""  # of the host: a pid means nothing after a reboot
    started: str = ""  # the process's start time as the kernel counts it: a pid may be used again

    def __str__(self) -> str:
        return f"{self.user}@{self.host}, process {self.pid}"


@dataclass(frozen=True)
class FleetLock:
    """The right to run one fleet's rollout.  `token` grows with every owner, so that a stale one is told apart."""

    fleet: str
    token: int


@dataclass(frozen=True)
class Confirmed:
    """What a device was last confirmed to run."""

    device: str
    model: str
    release: str
    artifact: str
    runtime: str
    fingerprint: str  # of its environment
    rollout: str
    at: float
    measurements: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownDevice:
    """What a device last told of itself."""

    device: str
    facts: Mapping[str, object]
    fingerprint: str
    seen_at: float


@dataclass(frozen=True)
class RowChange:
    """One row's move: what is believed to be stored, what happened, what it is now, and what came of it."""

    before: DeviceRow
    event: DeviceEvent
    after: DeviceRow
    outcome: DeviceOutcome | None = None
    confirmed: Confirmed | None = None


@dataclass(frozen=True)
class AuditEntry:
    """One link of the chain: `hash` is the SHA-256 over the canonical JSON of all other fields, `previous` included."""

    seq: int
    at: float
    who: str
    action: str  # "rollout created", "wave begun", "paused by gate", ...
    what: Mapping[str, object]
    previous: str
    hash: str
