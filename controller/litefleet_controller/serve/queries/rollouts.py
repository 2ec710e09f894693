"""Rollouts: the list, and one rollout with waves, failures by cause, devices and who acted; counted by the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ...common.checked import mapping
from ...devices.outcome import DeviceOutcome
from ...reports.rollout_summary import Cluster, clusters, idle, next_commands
from ...rollout import DeviceRow, DeviceState, Rollout
from ...rollout.conditions import CONDITIONS, STATES_OF, Condition
from ...state import AuditEntry, State
from ...state.brief import counts_by_wave
from ...state.database import ConnectionQuery
from ...state.records import rollout_from, row_from
from ...state.tables import audit, outcomes, rollout_rows, rollouts, transitions

PAGE = 50
_FAILED = 2000  # rows of which the causes are shown
_AUDIT = 5000  # entries that are searched for a rollout


@dataclass(frozen=True)
class RolloutList:
    """One page of a fleet's rollouts, the newest first."""

    rollouts: tuple[Rollout, ...]
    total: int
    page: int
    pages: int


@dataclass(frozen=True)
class WaveLine:
    """One wave: its devices by condition."""

    number: int  # from 1
    spec: str
    size: int
    counts: Mapping[Condition, int]
    is_now: bool


@dataclass(frozen=True)
class RolloutPage:
    """One rollout, as it is stored now."""

    rollout: Rollout
    holder: str  # the controller at work on it, "" = none
    idle: str
    waves: tuple[WaveLine, ...]
    devices: int
    counts: Mapping[Condition, int]
    failed: tuple[Cluster, ...]
    blocked: tuple[Cluster, ...]
    next: tuple[tuple[str, str], ...]  # (command, what it does)
    acted: tuple[AuditEntry, ...]  # the newest first
    parts: Mapping[str, str]  # versions by release


@dataclass(frozen=True)
class RolloutRows:
    """One page of a rollout's rows."""

    rows: tuple[DeviceRow, ...]
    total: int
    page: int
    pages: int


def rollout_list(state: State, fleet: str, page: int = 1) -> RolloutList:
    """Return one page of the rollouts.  Raises: StateError."""
    mine = rollouts.c.fleet == fleet
    with state.reading() as connection:
        total = int(connection.execute(sa.select(sa.func.count()).select_from(rollouts).where(mine)).scalar() or 0)
        pages = max(1, -(-total // PAGE))
        page = min(max(page, 1), pages)
        chosen = sa.select(rollouts).where(mine).order_by(rollouts.c.ordinal.desc())
        found = tuple(map(rollout_from, connection.execute(chosen.offset((page - 1) * PAGE).limit(PAGE))))
    return RolloutList(found, total, page, pages)


def rollouts_after(state: State, fleet: str, after: str, limit: int) -> tuple[tuple[Rollout, ...], bool] | None:
    """Return at most `limit` rollouts older than `after` ("": the newest ones), and whether older ones follow.

    None where the fleet has no rollout `after`.  Raises: StateError.
    """
    mine = rollouts.c.fleet == fleet
    chosen = sa.select(rollouts).where(mine).order_by(rollouts.c.ordinal.desc())
    with state.reading() as connection:
        if after:
            ordinal = connection.execute(sa.select(rollouts.c.ordinal).where(mine, rollouts.c.id == after)).scalar()
            if ordinal is None:
                return None
            chosen = chosen.where(rollouts.c.ordinal < ordinal)
        stored = connection.execute(chosen.limit(limit + 1)).all()
    return tuple(map(rollout_from, stored[:limit])), len(stored) > limit


def rollout_page(state: State, fleet: str, rollout_id: str) -> RolloutPage | None:
    """Return a rollout of a fleet; None where there is none.  Raises: StateError."""
    rollout = state.rollout(rollout_id)
    if rollout is None or rollout.fleet != fleet:
        return None
    holder = state.holder(fleet) if not rollout.state.over else None
    with state.reading() as connection:
        by_wave = counts_by_wave(ConnectionQuery(connection), rollout_id)
        told = _rows_in(connection, rollout_id, [DeviceState.FAILED, DeviceState.BLOCKED])
        others = _rows_in(connection, rollout_id, [DeviceState.OFFLINE, DeviceState.CONFIRMED], 200)
        acted = _acted(connection, rollout_id)
    counts: Counter[Condition] = Counter()
    for found in by_wave.values():
        counts.update(found)
    at_work = str(holder) if holder else ""
    open_wave = -1 if rollout.state.over else rollout.wave
    waves = tuple(
        WaveLine(number + 1, wave.spec, wave.size, _in_order(by_wave.get(number, {})), number == open_wave)
        for number, wave in enumerate(rollout.waves)
    )
    return RolloutPage(
        rollout,
        at_work,
        idle(rollout, others, at_work),
        waves,
        counts.total(),
        _in_order(counts),
        clusters(told, (), DeviceState.FAILED),
        clusters(told, (), DeviceState.BLOCKED),
        next_commands(rollout, [*told, *others], at_work),
        acted,
        state.versions(),
    )


def rollout_rows_page(state: State, rollout_id: str, condition: str = "", q: str = "", page: int = 1) -> RolloutRows:
    """Return one page of a rollout's rows, in the order of wave and position.  Raises: StateError."""
    row = rollout_rows.c
    where = [row.rollout == rollout_id]
    if condition in CONDITIONS:
        where.append(row.state.in_([s.value for s in STATES_OF[condition]]))
    if q:
        where.append(row.device.icontains(q[:200], autoescape=True))
    with state.reading() as connection:
        counted = sa.select(sa.func.count()).select_from(rollout_rows).where(*where)
        total = int(connection.execute(counted).scalar() or 0)
        pages = max(1, -(-total // PAGE))
        page = min(max(page, 1), pages)
        ordered = sa.select(rollout_rows).where(*where).order_by(row.wave, row.position, row.device, row.model)
        found = tuple(map(row_from, connection.execute(ordered.offset((page - 1) * PAGE).limit(PAGE))))
    return RolloutRows(found, total, page, pages)


Place = tuple[int, int, str, str]  # wave (from 0), position, device, model: the order of a rollout's rows


@dataclass(frozen=True)
class RowsWanted:
    """Which rows of a rollout; empty texts choose all.  `wave` is counted from 1, 0 = each; `state` may be a verdict."""

    state: str = ""
    wave: int = 0
    q: str = ""  # a part of the device's name


def rows_after(
    state: State, rollout_id: str, wanted: RowsWanted, after: Place | None, limit: int
) -> tuple[tuple[DeviceRow, ...], tuple[DeviceOutcome, ...], bool]:
    """Return at most `limit` rows that follow a place, their last outcomes, and whether more follow.  Raises: StateError."""
    row, out = rollout_rows.c, outcomes.c
    where = [row.rollout == rollout_id]
    if wanted.state:
        where.append((row.state == wanted.state) | (row.verdict == wanted.state))
    if wanted.wave:
        where.append(row.wave == wanted.wave - 1)
    if wanted.q:
        where.append(row.device.icontains(wanted.q, autoescape=True))
    place = (row.wave, row.position, row.device, row.model)
    if after is not None:
        where.append(sa.tuple_(*place) > sa.tuple_(*(sa.literal(part) for part in after)))
    same = (out.rollout == row.rollout) & (out.device == row.device) & (out.model == row.model)
    told = sa.type_coerce(out.outcome, sa.Text).label("told")
    with state.reading() as connection:
        chosen = sa.select(rollout_rows, told).select_from(rollout_rows.outerjoin(outcomes, same)).where(*where)
        stored = connection.execute(chosen.order_by(*place).limit(limit + 1)).all()
        rows = tuple(map(row_from, stored[:limit]))
        texts = [one.told for one in stored[:limit] if one.told is not None]
        found = tuple(DeviceOutcome.from_dict(mapping(json.loads(text), "a stored outcome")) for text in texts)
    return rows, found, len(stored) > limit


def stamp_of(state: State, rollout_id: str) -> str:
    """Return what differs whenever something of a rollout that the page shows has changed."""
    last = sa.select(sa.func.max(transitions.c.seq)).where(transitions.c.rollout == rollout_id)
    row = rollouts.c
    with state.reading() as connection:
        moved = connection.execute(last).scalar()
        found = connection.execute(
            sa.select(row.state, row.wave, row.request, row.updated_at).where(row.id == rollout_id)
        )
        return f"{moved}|{found.first()}"


def _in_order(counts: Mapping[Condition, int]) -> dict[Condition, int]:
    return {name: counts[name] for name in CONDITIONS if name in counts}


def _rows_in(
    connection: sa.Connection, rollout_id: str, states: Sequence[DeviceState], most: int = _FAILED
) -> tuple[DeviceRow, ...]:
    row = rollout_rows.c
    chosen = sa.select(rollout_rows).where(row.rollout == rollout_id, row.state.in_([s.value for s in states]))
    return tuple(map(row_from, connection.execute(chosen.order_by(row.wave, row.position).limit(most))))


def _acted(connection: sa.Connection, rollout_id: str) -> tuple[AuditEntry, ...]:
    """Return the entries of the audit log that name a rollout, the newest first."""
    newest = sa.select(audit.c.seq).order_by(audit.c.seq.desc()).offset(_AUDIT).limit(1)
    least = connection.execute(newest).scalar() or 0
    as_text = sa.type_coerce(audit.c.what, sa.Text)
    chosen = sa.select(audit).where(audit.c.seq > least, as_text.contains(f'"rollout":"{rollout_id}"', autoescape=True))
    found = connection.execute(chosen.order_by(audit.c.seq.desc()).limit(100))
    return tuple(AuditEntry(**dict(row._mapping)) for row in found)
