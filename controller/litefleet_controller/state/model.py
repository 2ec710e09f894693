"""The values that `State` stores, and its errors.  Times are seconds since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..common.errors import RunError
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceEvent, DeviceRow


class StateError(RunError):
    """The database cannot be used; the message says why and what to do."""


class StateDamaged(StateError):
    """The database's file is empty, incomplete or no database, and the file beside it says what it held."""


class StateOlder(StateError):
    """This state is older than its devices, or than the file beside its database: a person decides (exit code 3)."""

    exit_code = 3


class FleetLocked(StateError):
    """Another live controller runs this fleet's rollout (exit code 1)."""


class FleetLockLost(StateError):
    """Another controller took over this fleet because this one had not renewed its lock; nothing was written."""


class Conflict(StateError):
    """The stored value differs from the one that the caller read; nothing was written."""


@dataclass(frozen=True)
class Owner:
    """A controller process: enough to determine whether it is still alive."""

    user: str
    host: str
    pid: int
    boot_id: str = ""  # of the host: a pid is not unique across reboots
    started: str = ""  # the process's start time as the kernel counts it: a pid may be used again

    def __str__(self) -> str:
        return f"{self.user}@{self.host}, process {self.pid}"


@dataclass(frozen=True)
class FleetLock:
    """The right to run one fleet's rollout.  `token` grows with every owner, so that a stale lock is detected."""

    fleet: str
    token: int


@dataclass(frozen=True)
class Confirmed:
    """The release that a device was last confirmed to run."""

    device: str
    model: str
    release: str
    artifact: str
    runtime: str
    fingerprint: str  # of its environment
    rollout: str
    at: float
    measurements: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """The facts that a device last reported."""

    device: str
    facts: Mapping[str, object]
    fingerprint: str
    seen_at: float
    host_key: str = ""  # the fingerprint of its SSH host key: who it is, whatever its name


@dataclass(frozen=True)
class RowChange:
    """One row's transition: the row as it was read, the event, the row after it, and the outcome.

    With `measured`, the rollout's state has this row's findings and measurements already, stored with an earlier outcome.
    """

    before: DeviceRow
    event: DeviceEvent
    after: DeviceRow
    outcome: DeviceOutcome | None = None
    confirmed: Confirmed | None = None
    measured: bool = False


@dataclass(frozen=True)
class Transition:
    """One move of one row, as it was stored."""

    at: float
    device: str
    model: str
    event: str
    before: str
    after: str
    release: str
    sentence: str


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
