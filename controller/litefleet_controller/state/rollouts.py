"""Rollouts and the releases that they use: create, advance, request, and drop old ones.  `rollout_queries` reads them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ..devices.release import Release
from ..rollout import IllegalMove, Rollout, RolloutEvent, RolloutState
from ..rollout.states import move_rollout
from .model import Conflict
from .records import release_from, release_values, rollout_values
from .tables import confirmed, releases, rollout_releases, rollout_rows, rollouts, transitions
from .versions import labelled

_REQUESTS = ("", "pause", "abort")


def insert(connection: sa.Connection, rollout: Rollout, now: float) -> Rollout:
    """Store a new rollout and return it with its id."""
    if rollout.id:
        raise Conflict(f"{rollout.id} is stored already: a new rollout has no id yet")
    ordinal = int(connection.execute(sa.select(sa.func.max(rollouts.c.ordinal))).scalar() or 0) + 1
    made = dataclasses.replace(rollout, id=_new_id(connection, now), updated_at=now)
    values = {**rollout_values(made), "ordinal": ordinal, "request": made.request, "updated_at": now}
    connection.execute(sa.insert(rollouts).values(values))
    return made


def _new_id(connection: sa.Connection, now: float) -> str:
    """Return "r-YYYYMMDD-NNNN", the next of this day (UTC)."""
    day = f"r-{datetime.datetime.fromtimestamp(now, datetime.UTC):%Y%m%d}-"
    taken = connection.execute(sa.select(rollouts.c.id).where(rollouts.c.id.startswith(day))).scalars()
    return f"{day}{max((int(name[len(day) :]) for name in taken), default=0) + 1:04d}"


_FLEET = sa.select(rollouts.c.fleet).where(rollouts.c.id == sa.bindparam("rollout"))
_LINKED = sa.select(rollout_releases.c.release).where(rollout_releases.c.rollout == sa.bindparam("of_rollout"))


def check_fleet(connection: sa.Connection, rollout_id: str, fleet: str) -> None:
    """Raise Conflict unless the rollout exists and belongs to this fleet."""
    found = connection.execute(_FLEET, {"rollout": rollout_id}).scalar()
    if found is None:
        raise Conflict(f"there is no rollout {rollout_id}; nothing was written")
    if found != fleet:
        raise Conflict(f"{rollout_id} is a rollout of fleet '{found}', not of '{fleet}'; nothing was written")


def advance(connection: sa.Connection, before: Rollout, event: RolloutEvent | None, after: Rollout, now: float) -> None:
    """Store a rollout's transition; Conflict or IllegalMove, and then the caller's transaction is rolled back."""
    _check(before, event, after)
    values = {name: value for name, value in rollout_values(after).items() if name != "id"}
    there = (rollouts.c.id == before.id) & (rollouts.c.state == before.state.value) & (rollouts.c.wave == before.wave)
    if connection.execute(sa.update(rollouts).where(there).values(**values, updated_at=now)).rowcount != 1:
        raise Conflict(f"{before.id} is no longer {before.state} in wave {before.wave + 1}; nothing was written")
    if before.request != after.request:  # one that was asked in between stays
        asked = (rollouts.c.id == before.id) & (rollouts.c.request == before.request)
        connection.execute(sa.update(rollouts).where(asked).values(request=after.request))


def _check(before: Rollout, event: RolloutEvent | None, after: Rollout) -> None:
    if (before.id, before.fleet) != (after.id, after.fleet):
        raise IllegalMove(f"{before.id} of fleet '{before.fleet}' cannot become {after.id} of '{after.fleet}'")
    reached = before.state if event is None else move_rollout(before.state, event)
    if reached is not after.state:
        raise IllegalMove(f"a rollout that is {before.state} is not {after.state} after {event or 'no event'}")


def progress_stamp(connection: sa.Connection, rollout_id: str) -> tuple[object, ...]:
    """Return values of which one changes with each change of a rollout or a row; it reads no row of a device."""
    columns = rollouts.c
    own = sa.select(columns.updated_at, columns.state, columns.request, columns.wave, columns.looked, columns.approved)
    found = connection.execute(own.where(columns.id == rollout_id)).first()
    last = connection.execute(sa.select(sa.func.max(transitions.c.seq))).scalar() or 0
    return () if found is None else (*found, last)


def ask(connection: sa.Connection, rollout_id: str, request: str) -> None:
    """Store a request to the controller at work; Conflict when the rollout is missing or over."""
    if request not in _REQUESTS:
        raise ValueError(f"{request!r} cannot be asked")
    state = connection.execute(sa.select(rollouts.c.state).where(rollouts.c.id == rollout_id)).scalar()
    if state is None:
        raise Conflict(f"there is no rollout {rollout_id}")
    if request and RolloutState(state).over:
        raise Conflict(f"{rollout_id} is {state}: there is nothing left to {request}")
    connection.execute(sa.update(rollouts).where(rollouts.c.id == rollout_id).values(request=request))


def old(connection: sa.Connection, before: float, keep_rollouts: int) -> list[str]:
    """Return the rollouts that may be deleted: over, last changed before `before`, and not among their fleet's newest."""
    counted: dict[str, int] = {}
    found: list[str] = []
    columns = (rollouts.c.id, rollouts.c.fleet, rollouts.c.state, rollouts.c.updated_at)
    for row in connection.execute(sa.select(*columns).order_by(rollouts.c.ordinal.desc())):
        counted[row.fleet] = counted.get(row.fleet, 0) + 1
        newest = counted[row.fleet] <= max(1, keep_rollouts)
        if not newest and RolloutState(row.state).over and row.updated_at < before:
            found.append(row.id)
    return found


# --- releases, and which rollouts use them


def store_releases(connection: sa.Connection, kept: Sequence[Release], now: float) -> None:
    """Store releases; one with the same id is replaced."""
    latest = {release.id: release for release in labelled(connection, kept, now)}
    if latest:
        old = sa.delete(releases).where(releases.c.id == sa.bindparam("at_id"))
        connection.execute(old, [{"at_id": name} for name in latest])
        connection.execute(sa.insert(releases), [release_values(release, now) for release in latest.values()])


def link_releases(connection: sa.Connection, rollout_id: str, names: Iterable[str]) -> None:
    """Record that a rollout uses releases; "" is ignored."""
    wanted = {name for name in names if name}
    if not wanted:
        return
    new = sorted(wanted - set(connection.execute(_LINKED, {"of_rollout": rollout_id}).scalars()))
    if new:
        connection.execute(sa.insert(rollout_releases), [{"rollout": rollout_id, "release": name} for name in new])


def stored_release(connection: sa.Connection, name: str) -> Release | None:
    """Return a release by its id."""
    stored = connection.execute(sa.select(releases).where(releases.c.id == name)).first()
    return release_from(stored) if stored is not None else None


def latest_release(connection: sa.Connection, model: str, recipe: str, kind: str) -> Release | None:
    """Return the release of a model made by this recipe for all devices of a kind, the one that was stored last."""
    c = releases.c
    made = sa.select(releases).where(c.model == model, c.recipe == recipe, c.kind == kind, c.special.is_(False))
    stored = connection.execute(made.order_by(c.kept_at.desc()).limit(1)).first()
    return release_from(stored) if stored is not None else None


def releases_of(connection: sa.Connection, rollout_id: str) -> tuple[Release, ...]:
    """Return the releases that a rollout was made with and those that its rows named since."""
    joined = sa.select(releases).join(rollout_releases, rollout_releases.c.release == releases.c.id)
    found = connection.execute(joined.where(rollout_releases.c.rollout == rollout_id).order_by(releases.c.id))
    return tuple(release_from(stored) for stored in found)


def drop_unused_releases(connection: sa.Connection, before: float) -> None:
    """Delete releases that no device runs and no rollout uses, except those stored after `before`."""
    used = sa.union(
        sa.select(rollout_releases.c.release), sa.select(rollout_rows.c.before), sa.select(confirmed.c.release)
    )
    connection.execute(sa.delete(releases).where(releases.c.kept_at < before, releases.c.id.not_in(used)))
