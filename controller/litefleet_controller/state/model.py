"""What the controller remembers: the values, and the port that `State` implements.  Times are seconds since the epoch, UTC.

Every call is one transaction, committed and synced when it returns.  Calls that change a rollout need the fleet's `Hold`, and
fail with `LostHold` when another controller has taken it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..common.errors import LitefleetError
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceEvent, DeviceRow, Rollout, RolloutEvent

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
    "StatePort",
    "StoredRelease",
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
class StoredRelease:
    """A release as it was made ready, so that a resumed rollout sends the very same bytes."""

    id: str
    model: str
    kind: str  # "x86_64 cp311 glibc 2.36": the devices it is for
    manifest: Mapping[str, Any]
    artifact: str  # SHA-256 of the .nb
    blobs: Mapping[str, Path]  # SHA-256 -> file on the controller
    runtime_key: str = "system"
    runtime_blob: tuple[str, Path] | None = None
    runtime_size: int = 0
    recipe: str = ""  # SHA-256 over all that decides the release but the device: source, options, goldens, versions
    special: bool = False  # made for a device with a file or runtime of its own: not for others of its kind
    signed: Mapping[str, Any] | None = None  # {"seal": {...}, "signature": "..."}


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
    measurements: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownDevice:
    """What a device last told of itself."""

    device: str
    facts: Mapping[str, Any]
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
    what: Mapping[str, Any]
    previous: str
    hash: str


class StatePort(Protocol):
    """Durable state.  All methods block; the engine calls them from one thread of its own."""

    def acquire(self, fleet: str, owner: Owner, ttl_s: float = 60.0) -> FleetLock:
        """Become the one controller of `fleet`.

        Raises: Held while another lives (its hold is fresh, or its process runs on this host).
        """
        ...

    def renew(self, lock: FleetLock) -> None:
        """Say that we still live; LostHold when somebody took over."""

    def release(self, lock: FleetLock) -> None:
        """Give the fleet free; nothing happens when it was taken over."""

    def holder(self, fleet: str) -> Owner | None:
        """Return who runs this fleet right now, alive as far as can be known."""

    def create(
        self,
        lock: FleetLock,
        rollout: Rollout,
        rows: Sequence[DeviceRow],
        releases: Sequence[StoredRelease],
        audit: Mapping[str, Any],
    ) -> Rollout:
        """Store a new rollout (its `id` is empty: one is given) with its rows and releases, and return it with its id."""
        ...

    def rollout(self, rollout_id: str) -> Rollout | None:
        """Return one rollout."""

    def rollouts(self, fleet: str, limit: int = 20) -> tuple[Rollout, ...]:
        """Return the latest rollouts, the newest first."""
        ...

    def rows(self, rollout_id: str) -> tuple[DeviceRow, ...]:
        """Return a rollout's rows in the order of wave and position."""
        ...

    def move(self, lock: FleetLock, rollout_id: str, changes: Sequence[RowChange]) -> None:
        """Store moves of rows, all or none.

        Raises: Conflict when a stored row is not in the state of `before`; IllegalMove when the table has no such move.
        """

    def advance(
        self,
        lock: FleetLock,
        before: Rollout,
        event: RolloutEvent | None,
        after: Rollout,
        changes: Sequence[RowChange] = (),
        joined: Sequence[DeviceRow] = (),
        audit: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a rollout's own move, with row moves and new rows, all or none.  No event: a change of wave, soak, approval.

        `audit` goes into the log with the event as its action.
        """

    def relocate(self, lock: FleetLock, rollout_id: str, rows: Sequence[DeviceRow]) -> None:
        """Store rows whose state does not change: another wave, another time of the next try, forgiven."""

    def store_releases(self, lock: FleetLock, releases: Sequence[StoredRelease]) -> None:
        """Store releases; one that is there already gets its files and seal anew."""

    def stored_release(self, release: str) -> StoredRelease | None:
        """Return a release by its id."""

    def releases_of(self, rollout_id: str) -> tuple[StoredRelease, ...]:
        """Return the releases that a rollout's rows name."""
        ...

    def next_number(self, fleet: str, model: str) -> int:
        """Return a number above all that were given; never below the clock's seconds, should the database be lost."""
        ...

    def record_facts(self, devices: Sequence[KnownDevice]) -> None:
        """Store what devices told of themselves."""

    def known(self) -> Mapping[str, KnownDevice]:
        """Return what is known of every device, by name."""
        ...

    def confirm(self, entries: Sequence[Confirmed]) -> None:
        """Store what devices run that got it in another way than by a rollout's row: from a file that was carried there."""

    def confirmed(self) -> Mapping[tuple[str, str], Confirmed]:
        """Return what every device was last confirmed to run, by (device, model)."""
        ...

    def outcomes(self, rollout_id: str) -> tuple[DeviceOutcome, ...]:
        """Return the last outcome of each row of a rollout that has one, in the rows' order."""
        ...

    def ask(self, rollout_id: str, request: str, who: str) -> None:
        """Ask the controller at work to "pause" or "abort"; "" takes it back.  Needs no hold."""

    def requested_action(self, rollout_id: str) -> str:
        """Return what is asked."""
        ...

    def log(self, who: str, action: str, what: Mapping[str, Any]) -> None:
        """Append to the audit log."""

    def audit(self, limit: int = 1000) -> tuple[AuditEntry, ...]:
        """Return the last entries, the oldest first."""
        ...

    def check_audit(self) -> str:
        """Return "" when the whole chain holds, else the sentence that says where it breaks."""
        ...

    def prune(self, keep_days: float, keep_rollouts: int) -> int:
        """Drop what is stored of old rollouts that are over and return how many; the audit log stays."""
        ...

    def close(self) -> None:
        """Close the database."""
