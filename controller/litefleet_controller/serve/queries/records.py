"""One page of `litefleet devices`: chosen by the database, so that what is stored of other devices is not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...operations.device_records import DeviceRecord, records_of
from ...project.project import Project
from ...rollout import DeviceState
from ...state import State
from ...state.tables import confirmed, releases, rollout_rows
from .fleet import View
from .roster import Roster

Pair = tuple[str, str]  # device, model
_SHORTEST_ID = 4  # characters of a release's ID that choose it


@dataclass(frozen=True)
class Wanted:
    """Which records, as the options of `litefleet devices`; empty texts choose all.  `seen_before` is an epoch time."""

    version: str = ""
    state: str = ""
    drift: bool = False
    seen_before: float | None = None


def records_page(
    state: State, project: Project, roster: Roster, wanted: Wanted, after: Pair | None, limit: int
) -> tuple[tuple[DeviceRecord, ...], bool] | None:
    """Return at most `limit` records in the inventory's order, and whether more follow; None for an unknown pair `after`.

    The roster is of the same project.  Raises: StateError.
    """
    pairs = roster.matching("", "", "")
    if after is not None:
        if after not in pairs:
            return None
        pairs = pairs[pairs.index(after) + 1 :]
    if wanted != Wanted():
        with state.reading() as connection:
            pairs = _chosen(View(connection, roster, pairs), wanted, limit + 1)
    return records_of(state, project, pairs[:limit], roster.drift), len(pairs) > limit


def _chosen(view: View, wanted: Wanted, most: int) -> list[Pair]:
    where: list[sa.ColumnElement[bool]] = []
    if wanted.version:
        named: sa.ColumnElement[bool] = releases.c.version == wanted.version
        if len(wanted.version) >= _SHORTEST_ID:
            named = named | (sa.func.substr(confirmed.c.release, 1, len(wanted.version)) == wanted.version)
        where.append(named)
    if wanted.state:
        verdict = (rollout_rows.c.verdict == wanted.state) & (rollout_rows.c.state != DeviceState.ROLLED_BACK.value)
        where.append((rollout_rows.c.state == wanted.state) | verdict)
    if wanted.drift:
        where.append(view.drift)
    if wanted.seen_before is not None:
        seen: sa.ColumnElement[Any] = view.seen
        where.append(seen < wanted.seen_before)
    return view.pairs(where, most)
