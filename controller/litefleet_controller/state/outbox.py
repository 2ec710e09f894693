"""The outbox: what receivers are to be told, stored in the transaction that makes it so, and delivered later.

A notice is one event for one receiver.  It is `waiting` until a receiver took it (`delivered`) or every attempt failed (`dead`).
A process claims a notice for as long as one attempt may take; when that process dies, another one delivers it after that time.
So a crash loses none, and a receiver may get one twice: with the same `id`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ..rollout import DeviceEvent, DeviceRow, DeviceState, Rollout, RolloutEvent
from .database import Database
from .device_history import ServiceStatus
from .model import RowChange
from .tables import notices, rollout_rows

EventName = Literal["stopped", "approval-wanted", "finished", "drift", "device-lost"]
EVENTS: tuple[EventName, ...] = ("stopped", "approval-wanted", "finished", "drift", "device-lost")
GATHER_S = 30.0  # what is lost or has drifted within this time is one notice
CLAIM_S = 180.0  # longer than any attempt takes
_OF_ROLLOUT: Mapping[RolloutEvent, EventName] = {
    RolloutEvent.PAUSE: "stopped",
    RolloutEvent.ABORT: "stopped",
    RolloutEvent.ASK: "approval-wanted",
    RolloutEvent.FINISH: "finished",
}
_NOT_LOST = frozenset({"LF508", "LF509", "LF515"})  # busy, interrupted, a worker ended: the device itself is there
_MOST_DEVICES = 100  # named in one notice
_MOST_KEPT = {"waiting": 10_000, "dead": 10_000, "delivered": 1_000}  # of one receiver
_WAITING, _DELIVERED, _DEAD = "waiting", "delivered", "dead"


@dataclass(frozen=True)
class Subscription:
    """A receiver of a fleet, and the events that it is told."""

    fleet: str
    receiver: str
    events: frozenset[str]


@dataclass(frozen=True)
class Notice:
    """One event for one receiver, as it is stored.  Times are seconds since the epoch."""

    seq: int
    id: str
    at: float
    fleet: str
    receiver: str
    event: str
    rollout: str
    content: Mapping[str, object]
    state: str
    attempts: int
    next_at: float
    claimed_until: float
    error: str


# --- within the transactions of `State`


def rollout_moved(
    connection: sa.Connection, told: Sequence[Subscription], rollout: Rollout, event: RolloutEvent | None, now: float
) -> None:
    """Store what receivers are told of a rollout's move; `rollout` is as it is after the move."""
    name = _OF_ROLLOUT.get(event) if event is not None else None
    wanted = [one for one in told if name in one.events and one.fleet == rollout.fleet]
    if name is None or not wanted:
        return
    states = sa.select(rollout_rows.c.state, sa.func.count()).where(rollout_rows.c.rollout == rollout.id)
    content = {
        "rollout": {
            "id": rollout.id,
            "kind": rollout.kind,
            "state": rollout.state.value,
            "wave": rollout.wave + 1,
            "waves": len(rollout.waves),
            "models": list(rollout.models)[:_MOST_DEVICES],
            "by": rollout.by,
            "reason": rollout.reason,
            "rows": {state: count for state, count in connection.execute(states.group_by(rollout_rows.c.state))},
        },
        "devices": [{"name": device} for device in rollout.behind[:_MOST_DEVICES]],
        "device_count": len(rollout.behind),
    }
    connection.execute(sa.insert(notices), [_new(one, name, rollout.id, content, now, now) for one in wanted])


def devices_lost(
    connection: sa.Connection, told: Sequence[Subscription], rollout_id: str, changes: Sequence[RowChange], now: float
) -> None:
    """Store what receivers are told of devices that could not be reached, once for each time that a device goes offline."""
    if any("device-lost" in one.events for one in told):
        now_off = [c.after for c in changes if c.event is DeviceEvent.LOSE and not c.before.offline_since]
        devices_offline(connection, told, rollout_id, now_off, now)


def devices_offline(
    connection: sa.Connection, told: Sequence[Subscription], rollout_id: str, rows: Sequence[DeviceRow], now: float
) -> None:
    """Store what receivers are told of the rows that are offline, as a plan has them that could not reach a device."""
    wanted = [one for one in told if "device-lost" in one.events]
    lost = {
        row.device: {"name": row.device, "code": (*row.codes, "")[0], "reason": row.sentence}
        for row in rows
        if wanted and row.state is DeviceState.OFFLINE and not _NOT_LOST & set(row.codes)
    }
    for one in wanted if lost else ():
        _gather(connection, one, "device-lost", rollout_id, list(lost.values()), now)


def drift_found(
    connection: sa.Connection,
    told: Sequence[Subscription],
    earlier: ServiceStatus | None,
    service: ServiceStatus,
    now: float,
) -> None:
    """Store that a device's service found changes, where it reports another number of them than `earlier`."""
    wanted = [one for one in told if "drift" in one.events]
    device, after = service.device, service.status.get("drift")
    before = earlier.status.get("drift") if earlier is not None else None
    if not wanted or isinstance(after, bool) or not isinstance(after, int) or after <= 0 or after == before:
        return
    for one in wanted:
        _gather(connection, one, "drift", "", [{"name": device, "findings": min(after, 1_000_000)}], now)


def _gather(
    connection: sa.Connection,
    one: Subscription,
    event: EventName,
    rollout_id: str,
    devices: Sequence[Mapping[str, object]],
    now: float,
) -> None:
    """Add devices to the notice that nobody began to deliver yet, else store a new one that waits for `GATHER_S`."""
    c = notices.c
    same = (c.fleet == one.fleet, c.receiver == one.receiver, c.event == event, c.rollout == rollout_id)
    free = (c.state == _WAITING, c.attempts == 0, c.claimed_until < now)
    found = connection.execute(sa.select(notices).where(*same, *free).order_by(c.seq.desc()).limit(1)).first()
    if found is None:
        content: dict[str, Any] = {"devices": list(devices)[:_MOST_DEVICES], "device_count": len(devices)}
        connection.execute(sa.insert(notices).values(_new(one, event, rollout_id, content, now, now + GATHER_S)))
        return
    content = dict(found.content)
    there = {device["name"] for device in content["devices"]}
    new = [device for device in devices if device["name"] not in there]
    content["devices"] = [*content["devices"], *new][:_MOST_DEVICES]
    content["device_count"] += len(new)
    connection.execute(sa.update(notices).where(c.seq == found.seq).values(content=content))


def _new(
    one: Subscription, event: str, rollout_id: str, content: Mapping[str, object], now: float, next_at: float
) -> dict[str, object]:
    return {
        "id": f"n-{uuid.uuid4().hex}",
        "at": now,
        "fleet": one.fleet,
        "receiver": one.receiver,
        "event": event,
        "rollout": rollout_id,
        "content": dict(content),
        "state": _WAITING,
        "attempts": 0,
        "next_at": next_at,
        "claimed_until": 0.0,
        "error": "",
    }


# --- delivery


class Outbox:
    """The notices of one fleet, for those that deliver them.  Every method is one transaction; StateError as for `State`."""

    def __init__(self, database: Database, clock: Callable[[], float], fleet: str) -> None:
        self._database, self._clock, self._fleet = database, clock, fleet

    def claim(self, receiver: str, gathered: bool = False) -> Notice | None:
        """Claim the receiver's oldest notice that is due and return it; `gathered`: also one that still gathers devices."""
        now, c = self._clock(), notices.c
        gathering = (c.event.in_(("drift", "device-lost"))) & (c.attempts == 0)
        due = (c.next_at <= now) | gathering if gathered else c.next_at <= now
        mine = (c.fleet == self._fleet, c.receiver == receiver, c.state == _WAITING, c.claimed_until < now, due)
        chosen = sa.select(notices).where(*mine).order_by(c.seq).limit(1)
        with self._database.read() as connection:  # most calls find nothing: those disturb nobody who writes
            if connection.execute(chosen).first() is None:
                return None
        with self._database.write() as connection:
            found = connection.execute(chosen).first()
            if found is None:
                return None
            until = now + CLAIM_S
            connection.execute(sa.update(notices).where(c.seq == found.seq).values(claimed_until=until))
            return Notice(**{**found._mapping, "claimed_until": until})

    def delivered(self, notice: Notice) -> None:
        """Store that the receiver took it."""
        self._settle(notice, state=_DELIVERED, error="")

    def failed(self, notice: Notice, error: str, again_in_s: float | None) -> None:
        """Store why an attempt failed, and when the next one is due; None: there is none, it is dead."""
        if again_in_s is None:
            self._settle(notice, state=_DEAD, error=error)
        else:
            self._settle(notice, next_at=self._clock() + again_in_s, error=error)

    def drop(self, notice: Notice) -> None:
        """Delete a notice that does not concern its receiver."""
        with self._database.write() as connection:
            connection.execute(sa.delete(notices).where(notices.c.seq == notice.seq))

    def _settle(self, notice: Notice, **values: object) -> None:
        """Write the end of an attempt, unless another process has claimed the notice since."""
        c = notices.c
        mine = (c.seq == notice.seq) & (c.claimed_until == notice.claimed_until)
        with self._database.write() as connection:
            done = sa.update(notices).where(mine).values(**values, attempts=notice.attempts + 1, claimed_until=0.0)
            connection.execute(done)

    def notices(self, state: str = "", limit: int = 100) -> tuple[Notice, ...]:
        """Return the fleet's latest notices, the oldest first; `state`: only these."""
        c = notices.c
        chosen = sa.select(notices).where(c.fleet == self._fleet)
        if state:
            chosen = chosen.where(c.state == state)
        with self._database.read() as connection:
            found = connection.execute(chosen.order_by(c.seq.desc()).limit(limit)).all()
        return tuple(Notice(**row._mapping) for row in reversed(found))

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return how many notices there are, by (receiver, state)."""
        c = notices.c
        counted = sa.select(c.receiver, c.state, sa.func.count()).where(c.fleet == self._fleet)
        with self._database.read() as connection:
            return {(r, s): n for r, s, n in connection.execute(counted.group_by(c.receiver, c.state))}

    def retry(self, ids: Collection[str] = ()) -> int:
        """Make dead notices due again, with all their attempts, and return how many; no ids: all of them."""
        c = notices.c
        chosen = (c.fleet == self._fleet) & (c.state == _DEAD)
        if ids:
            chosen &= c.id.in_(list(ids))
        with self._database.write() as connection:
            again = sa.update(notices).where(chosen).values(state=_WAITING, attempts=0, next_at=self._clock())
            return int(connection.execute(again).rowcount)

    def trim(self, receiver: str) -> None:
        """Bound what is stored of a receiver: of those beyond 10000 that wait the oldest are dead, older ones are deleted."""
        c = notices.c
        with self._database.write() as connection:
            for state, most in _MOST_KEPT.items():
                mine = (c.fleet == self._fleet) & (c.receiver == receiver) & (c.state == state)
                newest = sa.select(c.seq).where(mine).order_by(c.seq.desc())
                last = connection.execute(newest.offset(most).limit(1)).scalar()
                if last is None:
                    continue
                beyond = mine & (c.seq <= last)
                if state == _WAITING:
                    sentence = f"more than {most} notices waited for this receiver"
                    connection.execute(sa.update(notices).where(beyond).values(state=_DEAD, error=sentence))
                else:
                    connection.execute(sa.delete(notices).where(beyond))
