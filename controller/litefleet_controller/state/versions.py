"""The version of each release: as litefleet.yaml names it, else the day on which it was first stored and a short hash.

The releases of one version, for several kinds of device, have the same recipe (all that decides a release but the device) and
therefore the same version.  One version that is given to two recipes names neither: the second one gets its hash appended.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from ..devices.release import Release
from .tables import releases

_HASH = 6  # characters of the recipe's SHA-256


def default_version(recipe: str, at: float) -> str:
    """Return the version of a release that litefleet.yaml does not name: "2026-11-28-3fa9c1"; `at` in epoch seconds, UTC."""
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d}-{recipe[:_HASH]}"


def labelled(connection: sa.Connection, named: Iterable[Release], now: float) -> list[Release]:
    """Return releases with their versions, as they are stored or would be; `now` in epoch seconds."""
    table = releases.c
    found = []
    for release in named:
        recipe = release.recipe or release.id
        same = table.model == release.model
        if release.version:
            taken = sa.select(table.id).where(same, table.version == release.version, table.recipe != release.recipe)
            other = connection.execute(taken.limit(1)).first() is not None
            version = f"{release.version}+{recipe[:_HASH]}" if other else release.version
        else:
            known = sa.select(table.version).where(same, table.recipe == release.recipe, table.version != "")
            known = known if release.recipe else known.where(table.id == release.id)
            version = connection.execute(known.limit(1)).scalar() or default_version(recipe, now)
        found.append(replace(release, version=version))
    return found


def rename_versions(connection: sa.Connection, named: Sequence[Release]) -> None:
    """Give stored releases the version that litefleet.yaml names for their recipe now."""
    for release in named:
        if release.version and release.recipe:
            same = (releases.c.model == release.model) & (releases.c.recipe == release.recipe)
            connection.execute(sa.update(releases).where(same).values(version=release.version))
