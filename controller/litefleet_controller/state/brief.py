"""What `litefleet status` shows of a rollout, counted by the database: no row of a device that is simply well is read."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..common.checked import mapping
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, DeviceState
from ..rollout.conditions import GRAVEST, RANKS, Condition, RowSummary
from .query import Query, Select
from .records import row_from
from .rollout_queries import IN_ORDER, ROW_FLAGS, ROW_JSON, ROW_OF_OUTCOME, ROWS_OF

_WELL = ", ".join(f"'{state.value}'" for state in DeviceState if state.well)
_POSITIONS = 1 << 32  # more than any position of a row in its fleet
_RANKED = " ".join(f"WHEN '{state.value}' THEN {rank}" for state, rank in RANKS.items())
_COUNTS = Select(
    "SELECT wave, place, count(*) AS devices FROM (SELECT wave, min(CASE state "
    f"{_RANKED} ELSE {len(GRAVEST) - 1} END) AS place FROM rollout_rows WHERE rollout = :rollout GROUP BY wave, device) AS d "
    "GROUP BY wave, place ORDER BY wave"
)
_RELEASED = Select(
    "SELECT model, release FROM rollout_rows WHERE rollout = :rollout GROUP BY model, release "
    f"ORDER BY min(wave * {_POSITIONS} + position), model"
)


def _has_findings(table: str) -> str:
    """Return the condition that a row of a table, `r` or `o`, has findings."""
    same = " AND ".join(f"f.{name} = {table}.{name}" for name in ("rollout", "device", "model"))
    return f"EXISTS (SELECT 1 FROM findings AS f WHERE {same})"


_TROUBLED = Select(
    f"{ROWS_OF} AND (r.state NOT IN ({_WELL}) OR {_has_findings('r')}) ORDER BY {IN_ORDER}", ROW_JSON, ROW_FLAGS
)
_A_CONFIRMED_ONE = Select(f"{ROWS_OF} AND r.state = :confirmed LIMIT 1", ROW_JSON, ROW_FLAGS)
# An outcome's `sent_bytes`, NULL where the database cannot tell, and whether it has settings of the engine.  What is stored
# may hold NaN, which is no JSON: SQLite then reads nothing of it, and PostgreSQL reads all as text.  There the last
# `sent_bytes` is the outcome's own: `canonical` sorts the keys, and no text has a bare quotation mark in it.
_SENT = {
    "sqlite": "CASE WHEN json_valid(o.outcome) = 1 THEN json_extract(o.outcome, '$.sent_bytes') END",
    "postgresql": """CAST(substring(o.outcome, '.*,"sent_bytes":([0-9]{1,18})[,}]') AS BIGINT)""",
}
_SETTINGS = {
    "sqlite": "CASE WHEN json_valid(o.outcome) = 1 THEN json_type(o.outcome, '$.measurements.settings') IS NOT NULL ELSE 1 END",
    "postgresql": """o.outcome LIKE '%"settings":%'""",
}


class StatusInBrief(NamedTuple):
    """What a status shows of a rollout's rows and outcomes."""

    summary: RowSummary  # of all rows
    rows: tuple[DeviceRow, ...]  # that are not well or have findings, and one that is confirmed, if any is
    outcomes: tuple[DeviceOutcome, ...]  # with findings or settings of the engine; both in the rows' order
    sent_bytes: int  # of the other outcomes


def in_brief(query: Query, rollout_id: str) -> StatusInBrief:
    """Return a rollout's status; how many rows and outcomes are read grows with what is to be told, not with the fleet."""
    rows = _rows(query, rollout_id)
    summary = RowSummary(counts_by_wave(query, rollout_id), _released(query, rollout_id))
    return StatusInBrief(summary, rows, *_outcomes(query, rollout_id))


def counts_by_wave(query: Query, rollout_id: str) -> dict[int, Counter[Condition]]:
    """Return the number of devices in each condition, by wave (from 0), as `conditions.wave_counts` does."""
    found: dict[int, Counter[Condition]] = {}
    for wave, place, count in query.all(_COUNTS, rollout=rollout_id):
        found.setdefault(wave, Counter())[GRAVEST[place]] = count
    return found


def _released(query: Query, rollout_id: str) -> tuple[tuple[str, str], ...]:
    return tuple((model, release) for model, release in query.all(_RELEASED, rollout=rollout_id))


def _rows(query: Query, rollout_id: str) -> tuple[DeviceRow, ...]:
    found = tuple(map(row_from, query.all(_TROUBLED, rollout=rollout_id)))
    if any(row.state is DeviceState.CONFIRMED for row in found):
        return found
    confirmed = query.all(_A_CONFIRMED_ONE, rollout=rollout_id, confirmed=DeviceState.CONFIRMED.value)
    return found + tuple(map(row_from, confirmed))


def _outcomes(query: Query, rollout_id: str) -> tuple[tuple[DeviceOutcome, ...], int]:
    """Return the outcomes that say something, and the bytes that the others sent."""
    sums, with_findings, with_more = _of_outcomes(query.dialect)
    total, more = query.first(sums, rollout=rollout_id)
    stored = query.all(with_more if more else with_findings, rollout=rollout_id)
    found = tuple(DeviceOutcome.from_dict(mapping(value, "a stored outcome")) for value, _ in stored)
    return found, int(total or 0) - sum(counted or 0 for _, counted in stored)


def _of_outcomes(dialect: str) -> tuple[Select, Select, Select]:
    """Return the queries for all bytes sent and how many outcomes need a look, for those with findings, and for both."""
    sent = _SENT[dialect]
    unclear = f"({_SETTINGS[dialect]} OR {sent} IS NULL)"
    sums = (
        f"SELECT sum({sent}) AS total, sum(CASE WHEN {unclear} THEN 1 ELSE 0 END) AS more FROM outcomes AS o "
        "WHERE o.rollout = :rollout"
    )
    told = (
        f"SELECT o.outcome, {sent} AS sent FROM outcomes AS o JOIN rollout_rows AS r ON {ROW_OF_OUTCOME} "
        f"WHERE o.rollout = :rollout AND ({_has_findings('o')}"
    )
    order = f") ORDER BY {IN_ORDER}"
    return (
        Select(sums),
        Select(f"{told}{order}", json=("outcome",)),
        Select(f"{told} OR {unclear}{order}", json=("outcome",)),
    )
