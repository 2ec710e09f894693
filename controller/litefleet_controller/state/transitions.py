"""Writes transitions of rows: each is checked against the state table and the stored row, then stored with its outcome."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceEvent, DeviceRow, IllegalMove
from ..rollout.states import move_device
from .bulk import BulkStatement
from .devices import confirm
from .model import Conflict, RowChange
from .records import row_values
from .rollouts import link_releases
from .tables import findings, latest_rows, measurements, outcomes, rollout_rows, rollouts, transitions

_KEY = ("rollout", "device", "model")
_MOST = 200  # findings or measured values of one row: the rest of what a device sends is ignored


_INSERT_TRANSITION = BulkStatement(sa.insert(transitions))
_DELETE_OUTCOME = BulkStatement(
    sa.delete(outcomes).where(*(outcomes.c[name] == sa.bindparam(f"at_{name}") for name in _KEY))
)
_UPDATE_OUTCOME = BulkStatement(
    sa.update(outcomes)
    .where(*(outcomes.c[name] == sa.bindparam(f"at_{name}") for name in _KEY))
    .values(at=sa.bindparam("new_at"), outcome=sa.bindparam("new_outcome"))
)
_INSERT_OUTCOME = tuple(BulkStatement(sa.insert(table)) for table in (outcomes, findings, measurements))


def insert_rows(connection: sa.Connection, rollout_id: str, rows: Sequence[DeviceRow]) -> None:
    """Store new rows.

    Raises: Conflict when a row exists already or is given twice.
    """
    keys = {(row.device, row.model) for row in rows}
    there = connection.execute(
        sa.select(rollout_rows.c.device, rollout_rows.c.model).where(rollout_rows.c.rollout == rollout_id)
    )
    taken = sorted(keys & {(row.device, row.model) for row in there})
    if taken or len(keys) != len(rows):
        which = f"{taken[0][0]}, model {taken[0][1]}" if taken else "a device"
        raise Conflict(f"{which}, would be in the rollout twice; nothing was written")
    if rows:
        connection.execute(sa.insert(rollout_rows), [row_values(rollout_id, row) for row in rows])
        link_releases(connection, rollout_id, [row.release for row in rows])
        _note_latest(connection, rollout_id, keys)


def _note_latest(connection: sa.Connection, rollout_id: str, keys: set[tuple[str, str]]) -> None:
    """Point to these rows as the latest of their devices and models, except where a newer rollout has one."""
    there = sa.select(rollouts.c.fleet, rollouts.c.ordinal).where(rollouts.c.id == rollout_id)
    fleet, ordinal = connection.execute(there).one()
    newer = (
        sa.select(latest_rows.c.device, latest_rows.c.model)
        .join(rollouts, rollouts.c.id == latest_rows.c.rollout)
        .where(latest_rows.c.fleet == fleet, rollouts.c.ordinal > ordinal)
    )
    ours = sorted(keys - {(device, model) for device, model in connection.execute(newer)})
    if ours:
        connection.execute(_FORGET_LATEST, [{"f": fleet, "d": device, "m": model} for device, model in ours])
        noted = [{"fleet": fleet, "device": device, "model": model, "rollout": rollout_id} for device, model in ours]
        connection.execute(sa.insert(latest_rows), noted)


_FORGET_LATEST = sa.delete(latest_rows).where(
    latest_rows.c.fleet == sa.bindparam("f"),
    latest_rows.c.device == sa.bindparam("d"),
    latest_rows.c.model == sa.bindparam("m"),
)


def move(connection: sa.Connection, rollout_id: str, changes: Sequence[RowChange], now: float) -> None:
    """Store transitions in their order; Conflict or IllegalMove, and then the caller's transaction is rolled back."""
    if not changes:
        return
    for change in changes:
        _check(change)
    _update(connection, rollout_id, [(change.before, change.after) for change in changes])
    _INSERT_TRANSITION.run(connection, [_transition(rollout_id, change, now) for change in changes])
    _store_outcomes(connection, rollout_id, changes, now)
    confirm(connection, [change.confirmed for change in changes if change.confirmed is not None])
    link_releases(connection, rollout_id, [c.after.release for c in changes if c.after.release != c.before.release])


def relocate(connection: sa.Connection, rollout_id: str, rows: Sequence[DeviceRow]) -> None:
    """Store rows that stay in their state; Conflict when one is in another by now."""
    if rows:
        _update(connection, rollout_id, [(row, row) for row in rows])
        link_releases(connection, rollout_id, [row.release for row in rows])


def switched_on(connection: sa.Connection, rollout_id: str) -> frozenset[tuple[str, str]]:
    """Return the (device, model) whose last transition of these is one towards the release, not one back."""
    wanted = (DeviceEvent.SWITCH, DeviceEvent.LEASE, DeviceEvent.CONFIRM, DeviceEvent.ROLL_BACK)
    columns = transitions.c
    chosen = sa.select(columns.device, columns.model, columns.event).where(
        columns.rollout == rollout_id, columns.event.in_([event.value for event in wanted])
    )
    last = {(row.device, row.model): row.event for row in connection.execute(chosen.order_by(columns.seq))}
    return frozenset(key for key, event in last.items() if event != DeviceEvent.ROLL_BACK)


def begun_since(connection: sa.Connection, rollout_id: str, since: float) -> tuple[tuple[float, str], ...]:
    """Return (time, device) of each session begun from `since` on; the rows of one device begin at one time."""
    columns = transitions.c
    chosen = sa.select(columns.at, columns.device).where(
        columns.rollout == rollout_id, columns.event == DeviceEvent.BEGIN.value, columns.at >= since
    )
    return tuple(sorted({(row.at, row.device) for row in connection.execute(chosen)}))


def _check(change: RowChange) -> None:
    before, after = change.before, change.after
    if (before.device, before.model) != (after.device, after.model):
        raise IllegalMove(f"{before.device} cannot become {after.device}")
    if move_device(before.state, change.event) is not after.state:
        raise IllegalMove(f"a device that is {before.state} is not {after.state} after {change.event}")


_UPDATE = BulkStatement(
    sa.update(rollout_rows).where(
        *(rollout_rows.c[name] == sa.bindparam(f"at_{name}") for name in _KEY),
        rollout_rows.c.state == sa.bindparam("at_state"),
    )
)


def _update(connection: sa.Connection, rollout_id: str, pairs: Sequence[tuple[DeviceRow, DeviceRow]]) -> None:
    """Write rows where the stored ones are in the states that are believed; Conflict names the first that is not."""
    values = [_update_values(rollout_id, before, after) for before, after in pairs]
    if _UPDATE.run(connection, values) != len(pairs):
        raise Conflict(_conflict(connection, rollout_id, pairs))


def _update_values(rollout_id: str, before: DeviceRow, after: DeviceRow) -> dict[str, object]:
    values = {name: value for name, value in row_values(rollout_id, after).items() if name not in _KEY}
    return {
        **values,
        "at_rollout": rollout_id,
        "at_device": before.device,
        "at_model": before.model,
        "at_state": before.state.value,
    }


def _conflict(connection: sa.Connection, rollout_id: str, pairs: Sequence[tuple[DeviceRow, DeviceRow]]) -> str:
    """Return what is stored otherwise.  The updates went through in part: rows that were written are in `after`'s state."""
    stored = {
        (row.device, row.model): row.state
        for row in connection.execute(
            sa.select(rollout_rows.c.device, rollout_rows.c.model, rollout_rows.c.state).where(
                rollout_rows.c.rollout == rollout_id
            )
        )
    }
    for before, after in pairs:
        state = stored.get((before.device, before.model), "missing")
        if state != after.state:
            return (
                f"{before.device}, model {before.model}, was taken for {before.state} but is {state} in {rollout_id}; "
                "nothing was written"
            )
    return f"rows of {rollout_id} are no longer as they were read; nothing was written"


def _transition(rollout_id: str, change: RowChange, now: float) -> dict[str, object]:
    return {
        "at": now,
        "rollout": rollout_id,
        "device": change.after.device,
        "model": change.after.model,
        "event": change.event.value,
        "state_before": change.before.state.value,
        "state_after": change.after.state.value,
        "release": change.after.release,
        "sentence": change.after.sentence,
    }


def _store_outcomes(connection: sa.Connection, rollout_id: str, changes: Sequence[RowChange], now: float) -> None:
    """Store each row's latest outcome; its findings and measurements only where they are not stored yet."""
    whole: dict[tuple[str, str], DeviceOutcome] = {}
    again: dict[tuple[str, str], DeviceOutcome] = {}
    for change in changes:
        if change.outcome is not None:
            key = change.before.device, change.before.model
            (again if change.measured and key not in whole else whole)[key] = change.outcome
    _update_outcomes(connection, rollout_id, {key: one for key, one in again.items() if key not in whole}, now)
    _insert_outcomes(connection, rollout_id, whole, now)


def _update_outcomes(
    connection: sa.Connection, rollout_id: str, latest: dict[tuple[str, str], DeviceOutcome], now: float
) -> None:
    values = [
        {"at_rollout": rollout_id, "at_device": device, "at_model": model, "new_at": now, "new_outcome": one.to_dict()}
        for (device, model), one in latest.items()
    ]
    if values and _UPDATE_OUTCOME.run(connection, values) != len(values):
        raise Conflict(f"an outcome of {rollout_id} is no longer stored; nothing was written")


def _insert_outcomes(
    connection: sa.Connection, rollout_id: str, latest: dict[tuple[str, str], DeviceOutcome], now: float
) -> None:
    if not latest:
        return
    keys = [{"at_rollout": rollout_id, "at_device": device, "at_model": model} for device, model in latest]
    _DELETE_OUTCOME.run(connection, keys)  # findings and measurements go with it
    rows: tuple[list[dict[str, object]], ...] = ([], [], [])
    for (device, model), outcome in latest.items():
        key = {"rollout": rollout_id, "device": device, "model": model}
        rows[0].append({**key, "at": now, "outcome": outcome.to_dict()})
        rows[1].extend({**key, **values} for values in _findings(outcome))
        rows[2].extend({**key, **values} for values in _measurements(outcome))
    for insert, values in zip(_INSERT_OUTCOME, rows, strict=True):
        if values:
            insert.run(connection, values)


def _findings(outcome: DeviceOutcome) -> Iterator[dict[str, object]]:
    for position, found in enumerate(outcome.findings[:_MOST]):
        yield {"position": position, "code": found.code, "severity": found.severity.value, "seen": found.observed}


def _measurements(outcome: DeviceOutcome) -> Iterator[dict[str, object]]:
    named: dict[str, float | None] = {}
    for name, value in _numbers("", outcome.measurements):
        if len(named) < _MOST:
            named.setdefault(name, value)
    for name, value in named.items():
        yield {"name": name, "value": value}


def _numbers(name: str, value: object) -> Iterator[tuple[str, float | None]]:
    """Yield the numbers within measurements, by their paths: "latency_ms.p50", "outputs.0.cosine"."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}"[:200] if name else str(key)[:200], inner)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _numbers(f"{name}.{position}", inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, _finite(value)


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def last_move(connection: sa.Connection, rollout_id: str) -> int:
    """Return the number of the last stored move of a rollout's rows; 0 before the first."""
    chosen = sa.select(sa.func.max(transitions.c.seq)).where(transitions.c.rollout == rollout_id)
    return int(connection.execute(chosen).scalar() or 0)


def moves_since(connection: sa.Connection, rollout_id: str, after: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Return the rows of the first moves of a rollout with a number greater than `after`, in their order."""
    chosen = sa.select(transitions).where(transitions.c.rollout == rollout_id, transitions.c.seq > after)
    return connection.execute(chosen.order_by(transitions.c.seq).limit(limit)).all()
