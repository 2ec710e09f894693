"""Queries over what is stored of one device, or of each: its last row, all its transitions; and forgetting it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..rollout import DeviceRow
from .records import row_from
from .tables import (
    confirmed,
    device_history,
    device_services,
    devices,
    latest_rows,
    rollout_rows,
    rollouts,
    transitions,
)


@dataclass(frozen=True)
class LastRow:
    """A device's row in the latest rollout that had one for the model."""

    rollout: str
    kind: str
    created_at: float
    row: DeviceRow


class Running(NamedTuple):
    """What a device was last confirmed to run, and when."""

    release: str
    at: float
    fingerprint: str


@dataclass(frozen=True)
class RolloutMove:
    """One move of a device's row in one rollout."""

    rollout: str
    at: float
    model: str
    event: str
    after: str
    release: str
    sentence: str


def last_rows(connection: sa.Connection, fleet: str) -> dict[tuple[str, str], LastRow]:
    """Return each device's row in its latest rollout, by (device, model)."""
    key = (rollout_rows.c.device, rollout_rows.c.model)
    joined = rollout_rows.join(rollouts, rollouts.c.id == rollout_rows.c.rollout)
    newest = (
        sa.select(*key, sa.func.max(rollouts.c.ordinal).label("ordinal"))
        .select_from(joined)
        .where(rollouts.c.fleet == fleet)
        .group_by(*key)
        .subquery()
    )
    same = (newest.c.device == rollout_rows.c.device) & (newest.c.model == rollout_rows.c.model)
    chosen = (
        sa.select(rollout_rows, rollouts.c.kind, rollouts.c.created_at)
        .select_from(joined.join(newest, same & (newest.c.ordinal == rollouts.c.ordinal)))
        .where(rollouts.c.fleet == fleet)
    )
    return {(r.device, r.model): _last(r) for r in connection.execute(chosen)}


def last_rows_of(connection: sa.Connection, fleet: str, names: Collection[str]) -> dict[tuple[str, str], LastRow]:
    """Return the rows of some devices in their latest rollouts, by (device, model)."""
    last, row = latest_rows.c, rollout_rows.c
    same = (row.rollout == last.rollout) & (row.device == last.device) & (row.model == last.model)
    chosen = (
        sa.select(rollout_rows, rollouts.c.kind, rollouts.c.created_at)
        .select_from(latest_rows.join(rollout_rows, same).join(rollouts, rollouts.c.id == row.rollout))
        .where(last.fleet == fleet, last.device.in_(names))
    )
    return {(r.device, r.model): _last(r) for r in connection.execute(chosen)}


def _last(stored: Any) -> LastRow:
    return LastRow(stored.rollout, stored.kind, stored.created_at, row_from(stored))


def all_running(connection: sa.Connection, names: Collection[str] | None = None) -> dict[tuple[str, str], Running]:
    """Return what every device, or some, was last confirmed to run, by (device, model); measurements are not read."""
    c = confirmed.c
    chosen = sa.select(c.device, c.model, c.release, c.at, c.fingerprint)
    chosen = chosen if names is None else chosen.where(c.device.in_(names))
    return {(device, model): Running(*running) for device, model, *running in connection.execute(chosen)}


def moves_of(connection: sa.Connection, fleet: str, device: str, limit: int) -> tuple[RolloutMove, ...]:
    """Return a device's last moves in all rollouts of a fleet, the oldest first."""
    chosen = (
        sa.select(transitions)
        .join(rollouts, rollouts.c.id == transitions.c.rollout)
        .where(rollouts.c.fleet == fleet, transitions.c.device == device)
        .order_by(transitions.c.seq.desc())
        .limit(limit)
    )
    found = connection.execute(chosen).all()
    return tuple(
        RolloutMove(r.rollout, r.at, r.model, r.event, r.state_after, r.release, r.sentence) for r in reversed(found)
    )


_OF_DEVICE: Sequence[sa.Table] = (devices, confirmed, device_history, device_services)


def stored_of(connection: sa.Connection, device: str) -> dict[str, int]:
    """Return the number of entries stored of a device: facts, confirmed releases, history, service status."""
    names = ("facts", "confirmed releases", "history entries", "service status")
    counts = {}
    for name, table in zip(names, _OF_DEVICE, strict=True):
        counted = sa.select(sa.func.count()).select_from(table).where(table.c.device == device)
        counts[name] = int(connection.execute(counted).scalar() or 0)
    return counts


def forget(connection: sa.Connection, device: str) -> None:
    """Delete a device's facts, confirmed releases, history and service status; its rows in rollouts stay, as records."""
    for table in _OF_DEVICE:
        connection.execute(sa.delete(table).where(table.c.device == device))
