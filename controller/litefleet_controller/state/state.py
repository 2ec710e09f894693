"""`State`: the durable state, one transaction for each call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from litefleet_agent.releases.journal import Told

from ..devices.identity import Identity
from ..devices.release import Release
from ..rollout import DeviceEvent, DeviceRow, Rollout, RolloutEvent
from . import (
    audit_log,
    device_history,
    device_views,
    devices,
    fleet_lock,
    identity_changes,
    outbox,
    rollout_queries,
    rollouts,
    versions,
)
from . import transitions as row_transitions
from .database import ConnectionQuery, Database
from .device_history import HistoryEntry, ServiceStatus
from .device_views import LastRow, RolloutMove
from .identity import Beside, Noted, beside_file, read_identity
from .model import AuditEntry, Confirmed, Conflict, FleetLock, KnownDevice, Owner, RowChange, Transition
from .outbox import Outbox, Subscription
from .owners import this_process
from .query import Query
from .reader import StateReader
from .schema import sqlite_path
from .tables import rollouts as rollout_table
from .tables import transitions

_DAY_S = 86400.0
_REQUEST = sa.select(rollout_table.c.request).where(rollout_table.c.id == sa.bindparam("of_rollout"))  # asked often


class State(StateReader):
    """The durable state in a database.

    Every method blocks, is one transaction, and is committed and synced when it returns.  Methods that change a rollout take
    the fleet's lock and raise FleetLockLost when another controller has taken it.  Every method raises StateError when the
    database cannot be used; nothing is written then.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float],
        beside: Beside | None = None,
        told: Sequence[Subscription] = (),
    ) -> None:
        super().__init__(database.name, clock, beside)
        self._database = database
        self._told = told  # who is told what happens

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str],
        clock: Callable[[], float] = time.time,
        beside: Path | None = None,
        told: Sequence[Subscription] = (),
    ) -> State:
        """Open a path (SQLite, made when it is missing) or a PostgreSQL URL, and bring its schema up to date.

        `beside` is the file that holds the state's identity, by default `<database>.id` beside an SQLite file.  `told`: the
        receivers that get a notice of what happens, stored in the transaction in which it happens.
        Raises: StateError with what to do; StateDamaged where a file is empty, missing or damaged that held a state before.
        """
        path = sqlite_path(where)
        if path is None:
            return cls(Database.open(where), clock, Beside(beside) if beside else None, told)
        file = beside_file(path, beside)
        file.check_file(path)
        with file.names_damage():
            return cls(Database.open(where), clock, file, told)

    @contextmanager
    def query(self) -> Iterator[Query]:
        """Read in one transaction, by SQL text."""
        with self._database.read() as connection:
            yield ConnectionQuery(connection)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Return a transaction that only reads, for queries of their own over `tables`; StateError as for every method."""
        return self._database.read()

    def acquire(self, fleet: str, owner: Owner, ttl_s: float = 60.0, adopting: bool = False) -> FleetLock:
        """Lock `fleet` for this controller; FleetLocked while another one is alive.  A takeover from a dead one is logged.

        Raises: StateOlder where this database is older than the file beside it, unless `adopting`.
        """
        now = self._clock()
        with self._database.write() as connection:
            if not adopting and self._beside is not None:
                self._beside.check(read_identity(ConnectionQuery(connection), fleet), self._database.name)
            identity_changes.ensure(connection, fleet)
            lock, dead = fleet_lock.acquire(connection, fleet, owner, ttl_s, now)
            if dead is not None:
                details = {"fleet": fleet, "from": str(dead), "token": lock.token}
                audit_log.append(connection, now, _actor(owner), "taken over", details)
            return lock

    def renew(self, lock: FleetLock) -> None:
        """Renew the heartbeat; LostHold when another process took over."""
        with self._database.write() as connection:
            fleet_lock.renew(connection, lock, self._clock())

    def release(self, lock: FleetLock) -> None:
        """Release the fleet's lock and write the identity beside the database; nothing happens when the lock was taken over."""
        with self._database.write() as connection:
            fleet_lock.release(connection, lock)
            ours = read_identity(ConnectionQuery(connection), lock.fleet)
            noted = Noted(
                Told(lock.fleet, ours.state, ours.number), identity_changes.last_audit(connection), self._clock()
            )
        if self._beside is not None:
            self._beside.write(lock.fleet, noted)

    def create(
        self,
        lock: FleetLock,
        rollout: Rollout,
        rows: Sequence[DeviceRow],
        releases: Sequence[Release],
        audit: Mapping[str, object],
    ) -> Rollout:
        """Store a new rollout with its rows and releases and return it with its id; the log names who asked for it."""
        if rollout.fleet != lock.fleet:
            raise Conflict(f"a rollout of fleet '{rollout.fleet}' cannot be made while holding '{lock.fleet}'")
        now = self._clock()
        with self._database.write() as connection:
            owner = fleet_lock.check(connection, lock)
            made = rollouts.insert(connection, rollout, now)
            rollouts.store_releases(connection, releases, now)
            rollouts.link_releases(connection, made.id, [release.id for release in releases])
            row_transitions.insert_rows(connection, made.id, rows)
            outbox.devices_offline(connection, self._told, made.id, rows, now)
            details = {**audit, "rollout": made.id, "fleet": made.fleet, "kind": made.kind, "rows": len(rows)}
            audit_log.append(connection, now, rollout.by or _actor(owner), "rollout created", details)
            return made

    def move(self, lock: FleetLock, rollout_id: str, changes: Sequence[RowChange]) -> int:
        """Store moves of rows, all or none; Conflict, IllegalMove.

        Where sessions begin, the number that devices get grows, and is returned; else 0.
        """
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            rollouts.check_fleet(connection, rollout_id, lock.fleet)
            self._move(connection, rollout_id, changes, self._clock())
            if any(change.event is DeviceEvent.BEGIN for change in changes):
                return identity_changes.increase(connection, lock.fleet)
        return 0

    def _move(self, connection: sa.Connection, rollout_id: str, changes: Sequence[RowChange], now: float) -> None:
        row_transitions.move(connection, rollout_id, changes, now)
        outbox.devices_lost(connection, self._told, rollout_id, changes, now)

    def outbox(self, fleet: str) -> Outbox:
        """Return its notices."""
        return Outbox(self._database, self._clock, fleet)

    def adopt(
        self,
        lock: FleetLock,
        entries: Sequence[Confirmed],
        known: Sequence[KnownDevice],
        renew: bool,
        actor: str,
        details: Mapping[str, object],
    ) -> Identity:
        """Store what devices run as confirmed on them, and return the identity to send them.

        With `renew` the state gets a new id, so that devices which were told more than it knows stay recognisable.
        """
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            if renew:
                identity_changes.renew_identity(connection, lock.fleet)
            number = identity_changes.increase(connection, lock.fleet)
            devices.forget_confirmed(connection, [device.device for device in known])
            devices.confirm(connection, entries)
            devices.record_facts(connection, known)
            ours = read_identity(ConnectionQuery(connection), lock.fleet)
            content = {**details, "fleet": lock.fleet, "state": ours.state, "number": number}
            audit_log.append(connection, self._clock(), actor, "state adopted", content)
            return ours

    def rename(self, lock: FleetLock, names: Mapping[str, str], actor: str) -> None:
        """Move all that is stored of devices to their new names, old -> new."""
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            for old, new in names.items():
                devices.rename(connection, lock.fleet, old, new)
                audit_log.append(
                    connection, self._clock(), actor, "device renamed", {"fleet": lock.fleet, "from": old, "to": new}
                )

    def advance(
        self,
        lock: FleetLock,
        before: Rollout,
        event: RolloutEvent | None,
        after: Rollout,
        changes: Sequence[RowChange] = (),
        joined: Sequence[DeviceRow] = (),
        audit: Mapping[str, object] | None = None,
    ) -> None:
        """Store a rollout's own move, with row moves and new rows, all or none; Conflict, IllegalMove.

        It is logged when there is an event, under its name, or when `audit` is given: then under its "action", else "changed".
        """
        now = self._clock()
        with self._database.write() as connection:
            owner = fleet_lock.check(connection, lock)
            rollouts.check_fleet(connection, before.id, lock.fleet)
            rollouts.advance(connection, before, event, after, now)
            self._move(connection, before.id, changes, now)
            row_transitions.insert_rows(connection, before.id, joined)
            outbox.devices_offline(connection, self._told, before.id, joined, now)
            outbox.rollout_moved(connection, self._told, after, event, now)
            if event is not None or audit is not None:
                action = event.value if event is not None else str((audit or {}).get("action", "changed"))
                audit_log.append(connection, now, _actor(owner), action, _audit_details(before, after, audit))

    def relocate(self, lock: FleetLock, rollout_id: str, rows: Sequence[DeviceRow]) -> None:
        """Store rows whose state does not change; Conflict when it did."""
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            rollouts.check_fleet(connection, rollout_id, lock.fleet)
            row_transitions.relocate(connection, rollout_id, rows)

    def store_releases(self, lock: FleetLock, releases: Sequence[Release]) -> None:
        """Store releases; one that is already stored gets its files and seal replaced."""
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            rollouts.store_releases(connection, releases, self._clock())

    def stored_release(self, release: str) -> Release | None:
        """Return a release by its id."""
        with self._database.read() as connection:
            return rollouts.stored_release(connection, release)

    def latest_release(self, model: str, recipe: str, kind: str) -> Release | None:
        """Return the stored release of a model for a kind of device ("x86_64 cp311 glibc 2.36") by its recipe."""
        with self._database.read() as connection:
            return rollouts.latest_release(connection, model, recipe, kind)

    def versions_with(self, named: Sequence[Release]) -> Mapping[str, str]:
        """Return `versions`, and what these releases are or would be stored as."""
        with self._database.read() as connection:
            stored = rollout_queries.all_versions(ConnectionQuery(connection))
            return stored | {r.id: r.version for r in versions.labelled(connection, named, self._clock()) if r.id}

    def name_versions(self, lock: FleetLock, named: Sequence[Release]) -> None:
        """Give the stored releases of these releases' recipes the version that litefleet.yaml names now."""
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            versions.rename_versions(connection, versions.labelled(connection, named, self._clock()))

    def releases_of(self, rollout_id: str) -> tuple[Release, ...]:
        """Return the releases that a rollout was created with and those that its rows have named since."""
        with self._database.read() as connection:
            return rollouts.releases_of(connection, rollout_id)

    def next_number(self, fleet: str, model: str) -> int:
        """Return a number greater than all earlier ones, and never below the clock's seconds, should the database be lost."""
        with self._database.write() as connection:
            return devices.next_number(connection, fleet, model, self._clock())

    def record_facts(self, known: Sequence[KnownDevice]) -> None:
        """Store the facts that devices reported."""
        with self._database.write() as connection:
            devices.record_facts(connection, known)

    def known(self, names: Collection[str] | None = None) -> Mapping[str, KnownDevice]:
        """Return the last reported facts of every device, or of some, by name."""
        with self._database.read() as connection:
            return devices.all_known(connection, names)

    def confirm(self, entries: Sequence[Confirmed]) -> None:
        """Store what devices run that was installed without a rollout: from a bundle file."""
        with self._database.write() as connection:
            devices.confirm(connection, entries)

    def confirmed(self) -> Mapping[tuple[str, str], Confirmed]:
        """Return what every device was last confirmed to run, by (device, model)."""
        with self._database.read() as connection:
            return devices.all_confirmed(connection)

    def record_history(self, service: ServiceStatus, entries: Sequence[HistoryEntry] = ()) -> None:
        """Store a device's service status and the new entries of its history."""
        with self._database.write() as connection:
            before = device_history.service_of(connection, service.device) if self._told else None
            device_history.record_history(connection, service, entries)
            outbox.drift_found(connection, self._told, before, service, self._clock())

    def service(self, device: str) -> ServiceStatus | None:
        """Return a device's service status at its last contact; None where it has none."""
        with self._database.read() as connection:
            return device_history.service_of(connection, device)

    def services(self, names: Collection[str] | None = None) -> Mapping[str, ServiceStatus]:
        """Return the service status of each device, or of some, at its last contact, by name."""
        with self._database.read() as connection:
            return device_history.all_services(connection, names)

    def last_rows(self, fleet: str, names: Collection[str] | None = None) -> Mapping[tuple[str, str], LastRow]:
        """Return the row of each device, or of some, in its latest rollout, by (device, model)."""
        with self._database.read() as connection:
            if names is not None:
                return device_views.last_rows_of(connection, fleet, names)
            return device_views.last_rows(connection, fleet)

    def moves_of(self, fleet: str, device: str, limit: int = 1000) -> tuple[RolloutMove, ...]:
        """Return a device's last moves in all rollouts of a fleet, the oldest first."""
        with self._database.read() as connection:
            return device_views.moves_of(connection, fleet, device, limit)

    def stored_of(self, device: str) -> Mapping[str, int]:
        """Return how much is stored of a device, by what it is."""
        with self._database.read() as connection:
            return device_views.stored_of(connection, device)

    def forget(self, lock: FleetLock, device: str, actor: str) -> None:
        """Delete what is stored of a device; its rows in rollouts and the audit log stay."""
        with self._database.write() as connection:
            fleet_lock.check(connection, lock)
            device_views.forget(connection, device)
            audit_log.append(
                connection, self._clock(), actor, "device forgotten", {"fleet": lock.fleet, "device": device}
            )

    def history_entries(
        self, devices: Sequence[str] = (), since: float = 0.0, limit: int = 100
    ) -> tuple[HistoryEntry, ...]:
        """Return the latest entries of devices' histories, the oldest first; no devices: of all."""
        with self._database.read() as connection:
            return device_history.history_entries(connection, devices, since, limit)

    def history(self, rollout_id: str, device: str = "", limit: int = 1000) -> tuple[Transition, ...]:
        """Return the last moves of a rollout's rows, or of one device's, the oldest first."""
        chosen = sa.select(transitions).where(transitions.c.rollout == rollout_id)
        if device:
            chosen = chosen.where(transitions.c.device == device)
        with self._database.read() as connection:
            found = connection.execute(chosen.order_by(transitions.c.seq.desc()).limit(limit)).all()
            return tuple(_transition(row) for row in reversed(found))

    def last_move(self, rollout_id: str) -> int:
        """Return the number of the last move of a rollout's rows; 0 before the first."""
        with self._database.read() as connection:
            return row_transitions.last_move(connection, rollout_id)

    def moves_since(self, rollout_id: str, after: int, limit: int) -> tuple[tuple[int, Transition], ...]:
        """Return the first moves of a rollout's rows whose number is greater than `after`, with their numbers."""
        with self._database.read() as connection:
            found = row_transitions.moves_since(connection, rollout_id, after, limit)
            return tuple((row.seq, _transition(row)) for row in found)

    def switched_on(self, rollout_id: str) -> frozenset[tuple[str, str]]:
        """Return the (device, model) that a rollout asked to activate, and that were not reverted since."""
        with self._database.read() as connection:
            return row_transitions.switched_on(connection, rollout_id)

    def begun_since(self, rollout_id: str, since: float) -> tuple[tuple[float, str], ...]:
        """Return when (epoch seconds) a rollout began sessions with which devices, from `since` on, the oldest first."""
        with self._database.read() as connection:
            return row_transitions.begun_since(connection, rollout_id, since)

    def ask(self, rollout_id: str, request: str, actor: str) -> None:
        """Request "pause" or "abort" from the controller at work; "" clears the request; Conflict when the rollout is over."""
        now = self._clock()
        with self._database.write() as connection:
            rollouts.ask(connection, rollout_id, request)
            action = f"asked to {request}" if request else "request cleared"
            audit_log.append(connection, now, actor, action, {"rollout": rollout_id})

    def requested_action(self, rollout_id: str) -> str:
        """Return the requested action; "" where there is none, or no such rollout."""
        with self._database.read() as connection:
            return str(connection.execute(_REQUEST, {"of_rollout": rollout_id}).scalar() or "")

    def progress_stamp(self, rollout_id: str) -> tuple[object, ...]:
        """Return values of which one changes whenever a rollout, or a row of it, changes; () for no such rollout."""
        with self._database.read() as connection:
            return rollouts.progress_stamp(connection, rollout_id)

    def log(self, actor: str, action: str, details: Mapping[str, object]) -> None:
        """Append to the audit log."""
        with self._database.write() as connection:
            audit_log.append(connection, self._clock(), actor, action, details)

    def audit(self, limit: int = 1000) -> tuple[AuditEntry, ...]:
        """Return the last entries, the oldest first."""
        with self._database.read() as connection:
            return audit_log.entries(connection, limit)

    def check_audit(self) -> str:
        """Return "" when the whole chain is intact, else the sentence that names the first broken entry.

        Entries removed from the end are detected as far as the file beside the database names them.
        """
        with self._database.read() as connection:
            problem = audit_log.check(connection)
            noted = self._beside.read() if self._beside is not None and not problem else {}
            for entry in noted.values():
                problem = problem or audit_log.check_last(connection, *entry.audit)
            return problem

    def prune(self, keep_days: float, keep_rollouts: int) -> int:
        """Drop what is stored of old rollouts that are over and return how many; each fleet's newest ones stay."""
        now = self._clock()
        before = now - keep_days * _DAY_S
        with self._database.write() as connection:
            old = rollouts.old(connection, before, keep_rollouts)
            for name in old:
                connection.execute(sa.delete(rollout_table).where(rollout_table.c.id == name))
            rollouts.drop_unused_releases(connection, before)
            if old:
                audit_log.append(connection, now, _actor(this_process()), "pruned", {"rollouts": sorted(old)})
            return len(old)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _actor(owner: Owner) -> str:
    return f"{owner.user}@{owner.host}"


def _audit_details(before: Rollout, after: Rollout, audit: Mapping[str, object] | None) -> dict[str, object]:
    """Return what the log says of a rollout's move."""
    return {
        **(audit or {}),
        "rollout": before.id,
        "from": before.state.value,
        "to": after.state.value,
        "wave": after.wave + 1,
        "reason": after.reason,
    }


def _transition(row: Any) -> Transition:
    moved = (row.event, row.state_before, row.state_after)
    return Transition(row.at, row.device, row.model, *moved, row.release, row.sentence)
