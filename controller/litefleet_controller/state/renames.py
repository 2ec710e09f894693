"""Moves all that is stored of a device to its new name: it was renamed in the inventory, and shows the same host key."""

from __future__ import annotations

import sqlalchemy as sa

from .tables import (
    confirmed,
    device_history,
    device_services,
    devices,
    findings,
    measurements,
    outcomes,
    rollout_rows,
    rollouts,
    transitions,
)


def rename(connection: sa.Connection, fleet: str, old: str, new: str) -> None:
    """Move a device's facts, history, confirmed releases and rows of this fleet's rollouts; the new name has none yet."""
    ours = sa.select(rollouts.c.id).where(rollouts.c.fleet == fleet)
    for table in (rollout_rows, outcomes):  # what refers to a row moves after its copy exists
        copied = [sa.literal(new) if column.name == "device" else column for column in table.c]
        chosen = sa.select(*copied).where(table.c.device == old, table.c.rollout.in_(ours))
        connection.execute(sa.insert(table).from_select([column.name for column in table.c], chosen))
    for table in (findings, measurements, transitions):
        moved = sa.update(table).where(table.c.device == old, table.c.rollout.in_(ours))
        connection.execute(moved.values(device=new))
    for table in (outcomes, rollout_rows):
        connection.execute(sa.delete(table).where(table.c.device == old, table.c.rollout.in_(ours)))
    for table in (devices, confirmed, device_history, device_services):
        connection.execute(sa.update(table).where(table.c.device == old).values(device=new))
