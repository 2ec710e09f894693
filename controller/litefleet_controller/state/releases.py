"""Releases as they were made ready, and which rollouts use them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ..devices.deliver import Release
from .records import release_from, release_values
from .tables import confirmed, releases, rollout_releases, rollout_rows

__all__ = ["drop_unused", "keep", "link", "one", "used_by"]


def keep(connection: sa.Connection, kept: Sequence[Release], now: float) -> None:
    """Store releases; what is there already is replaced."""
    latest = {release.id: release for release in kept}
    if latest:
        old = sa.delete(releases).where(releases.c.id == sa.bindparam("at_id"))
        connection.execute(old, [{"at_id": name} for name in latest])
        connection.execute(sa.insert(releases), [release_values(release, now) for release in latest.values()])


def link(connection: sa.Connection, rollout_id: str, names: Iterable[str]) -> None:
    """Remember that a rollout uses releases; "" is none."""
    wanted = {name for name in names if name}
    if not wanted:
        return
    there = sa.select(rollout_releases.c.release).where(rollout_releases.c.rollout == rollout_id)
    new = sorted(wanted - set(connection.execute(there).scalars()))
    if new:
        connection.execute(sa.insert(rollout_releases), [{"rollout": rollout_id, "release": name} for name in new])


def one(connection: sa.Connection, name: str) -> Release | None:
    """Return a release by its id."""
    stored = connection.execute(sa.select(releases).where(releases.c.id == name)).first()
    return release_from(stored) if stored is not None else None


def used_by(connection: sa.Connection, rollout_id: str) -> tuple[Release, ...]:
    """Return the releases that a rollout was made with and those that its rows named since."""
    joined = sa.select(releases).join(rollout_releases, rollout_releases.c.release == releases.c.id)
    found = connection.execute(joined.where(rollout_releases.c.rollout == rollout_id).order_by(releases.c.id))
    return tuple(release_from(stored) for stored in found)


def drop_unused(connection: sa.Connection, before: float) -> None:
    """Drop releases that no device runs and no rollout knows, save those kept after `before`."""
    used = sa.union(
        sa.select(rollout_releases.c.release), sa.select(rollout_rows.c.before), sa.select(confirmed.c.release)
    )
    connection.execute(sa.delete(releases).where(releases.c.kept_at < before, releases.c.id.not_in(used)))
