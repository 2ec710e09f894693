"""What `litefleet status` shows of a rollout, counted by the database: no row of a device that is simply well is read."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..common.checked import mapping
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, DeviceState
from ..rollout.conditions import GRAVEST, RANKS, Condition, RowSummary
from .records import row_from
from .tables import findings, outcomes, rollout_rows

_WELL = [state.value for state in DeviceState if state.well]
_IN_ORDER = (rollout_rows.c.wave, rollout_rows.c.position, rollout_rows.c.device, rollout_rows.c.model)
_ROW = ("rollout", "device", "model")
_POSITIONS = 1 << 32  # more than any position of a row in its fleet


class StatusInBrief(NamedTuple):
    """What a status shows of a rollout's rows and outcomes."""

    summary: RowSummary  # of all rows
    rows: tuple[DeviceRow, ...]  # that are not well or have findings, and one that is confirmed, if any is
    outcomes: tuple[DeviceOutcome, ...]  # with findings or settings of the engine; both in the rows' order
    sent_bytes: int  # of the other outcomes


def in_brief(connection: sa.Connection, rollout_id: str) -> StatusInBrief:
    """Return a rollout's status; how many rows and outcomes are read grows with what is to be told, not with the fleet."""
    rows = _rows(connection, rollout_id)
    summary = RowSummary(counts_by_wave(connection, rollout_id), _released(connection, rollout_id))
    return StatusInBrief(summary, rows, *_outcomes(connection, rollout_id))


def counts_by_wave(connection: sa.Connection, rollout_id: str) -> dict[int, Counter[Condition]]:
    """Return the number of devices in each condition, by wave (from 0), as `conditions.wave_counts` does."""
    row = rollout_rows.c
    ranks = {state.value: rank for state, rank in RANKS.items()}
    rank = sa.func.min(sa.case(ranks, value=row.state, else_=len(GRAVEST) - 1)).label("rank")
    devices = sa.select(row.wave, rank).where(row.rollout == rollout_id).group_by(row.wave, row.device).subquery()
    counted = sa.select(devices.c.wave, devices.c.rank, sa.func.count()).group_by(devices.c.wave, devices.c.rank)
    found: dict[int, Counter[Condition]] = {}
    for wave, place, count in connection.execute(counted.order_by(devices.c.wave)):
        found.setdefault(wave, Counter())[GRAVEST[place]] = count
    return found


def _released(connection: sa.Connection, rollout_id: str) -> tuple[tuple[str, str], ...]:
    row = rollout_rows.c
    first = sa.func.min(row.wave * _POSITIONS + row.position)
    chosen = sa.select(row.model, row.release).where(row.rollout == rollout_id).group_by(row.model, row.release)
    return tuple((model, release) for model, release in connection.execute(chosen.order_by(first, row.model)))


def _rows(connection: sa.Connection, rollout_id: str) -> tuple[DeviceRow, ...]:
    chosen = sa.select(rollout_rows).where(rollout_rows.c.rollout == rollout_id)
    told = rollout_rows.c.state.not_in(_WELL) | _has_findings(rollout_rows)
    found = tuple(map(row_from, connection.execute(chosen.where(told).order_by(*_IN_ORDER))))
    if any(row.state is DeviceState.CONFIRMED for row in found):
        return found
    confirmed = chosen.where(rollout_rows.c.state == DeviceState.CONFIRMED.value).limit(1)
    return found + tuple(map(row_from, connection.execute(confirmed)))


def _outcomes(connection: sa.Connection, rollout_id: str) -> tuple[tuple[DeviceOutcome, ...], int]:
    """Return the outcomes that say something, and the bytes that the others sent."""
    sent, settings = _parts(connection.dialect.name)
    mine = outcomes.c.rollout == rollout_id
    unclear = settings | sent.is_(None)
    sums = sa.select(sa.func.sum(sent), sa.func.sum(sa.case((unclear, 1), else_=0))).where(mine)
    total, more = connection.execute(sums).one()
    told = _has_findings(outcomes) | unclear if more else _has_findings(outcomes)
    same = [outcomes.c[name] == rollout_rows.c[name] for name in _ROW]
    chosen = sa.select(outcomes.c.outcome, sent).join(rollout_rows, sa.and_(*same)).where(mine, told)
    stored = connection.execute(chosen.order_by(*_IN_ORDER)).all()
    found = tuple(DeviceOutcome.from_dict(mapping(value, "a stored outcome")) for value, _ in stored)
    return found, int(total or 0) - sum(counted or 0 for _, counted in stored)


def _has_findings(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.exists().where(*(findings.c[name] == table.c[name] for name in _ROW)).correlate(table)


def _parts(dialect: str) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[bool]]:
    """Return an outcome's `sent_bytes`, NULL where the database cannot tell, and whether it has settings of the engine.

    What is stored may hold NaN, which is no JSON: SQLite then reads nothing of it, and PostgreSQL reads all as text.  There the
    last `sent_bytes` is the outcome's own: `canonical` sorts the keys, and no text has a bare quotation mark in it.
    """
    text = sa.type_coerce(outcomes.c.outcome, sa.Text)
    if dialect == "sqlite":
        valid = sa.func.json_valid(text) == 1
        sent = sa.case((valid, sa.func.json_extract(text, "$.sent_bytes")), else_=None)
        settings = sa.case((valid, sa.func.json_type(text, "$.measurements.settings").is_not(None)), else_=sa.true())
        return sent, settings
    digits = sa.func.substring(text, r'.*,"sent_bytes":([0-9]{1,18})[,}]')
    return sa.cast(digits, sa.BigInteger), text.contains('"settings":', autoescape=True)
