"""Queries over devices' reported facts, their confirmed releases, and release numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from .bulk import BulkStatement
from .model import Confirmed, KnownDevice
from .records import confirmed_from, confirmed_values, known_from
from .tables import (
    confirmed,
    device_history,
    device_services,
    devices,
    findings,
    latest_rows,
    measurements,
    numbers,
    outcomes,
    rollout_rows,
    rollouts,
    transitions,
)


def record_facts(connection: sa.Connection, reported: Sequence[KnownDevice]) -> None:
    """Store devices' facts, replacing the earlier ones."""
    latest = {device.device: device for device in reported}
    if not latest:
        return
    old = sa.delete(devices).where(devices.c.device == sa.bindparam("at_device"))
    connection.execute(old, [{"at_device": name} for name in latest])
    values = [
        {
            "device": d.device,
            "facts": dict(d.facts),
            "fingerprint": d.fingerprint,
            "seen_at": d.seen_at,
            "host_key": d.host_key,
        }
        for d in latest.values()
    ]
    connection.execute(sa.insert(devices), values)


def all_known(connection: sa.Connection, names: Collection[str] | None = None) -> dict[str, KnownDevice]:
    """Return all stored facts, or those of some devices, by the device's name."""
    others = [column for column in devices.c if column.name != "facts"]
    chosen = sa.select(*others, sa.type_coerce(devices.c.facts, sa.Text).label("facts"))
    chosen = chosen if names is None else chosen.where(devices.c.device.in_(names))
    return {stored.device: known_from(stored) for stored in connection.execute(chosen)}


_DELETE_CONFIRMED = BulkStatement(
    sa.delete(confirmed).where(
        confirmed.c.device == sa.bindparam("at_device"), confirmed.c.model == sa.bindparam("at_model")
    )
)
_INSERT_CONFIRMED = BulkStatement(sa.insert(confirmed))


def confirm(connection: sa.Connection, entries: Sequence[Confirmed]) -> None:
    """Store devices' confirmed releases, replacing the earlier ones."""
    latest = {(entry.device, entry.model): entry for entry in entries}
    if not latest:
        return
    keys = [{"at_device": device, "at_model": model} for device, model in latest]
    _DELETE_CONFIRMED.run(connection, keys)
    _INSERT_CONFIRMED.run(connection, [confirmed_values(entry) for entry in latest.values()])


def forget_confirmed(connection: sa.Connection, names: Sequence[str]) -> None:
    """Delete what was confirmed on these devices."""
    for name in names:
        connection.execute(sa.delete(confirmed).where(confirmed.c.device == name))


def all_confirmed(connection: sa.Connection) -> dict[tuple[str, str], Confirmed]:
    """Return all confirmed releases, by (device, model)."""
    found = connection.execute(sa.select(confirmed))
    return {(stored.device, stored.model): confirmed_from(stored) for stored in found}


def next_number(connection: sa.Connection, fleet: str, model: str, now: float) -> int:
    """Return a number greater than all earlier ones of this fleet and model."""
    key = (numbers.c.fleet == fleet) & (numbers.c.model == model)
    last = connection.execute(sa.select(numbers.c.number).where(key)).scalar()
    number = max(int(now), (last or 0) + 1)
    if last is None:
        connection.execute(sa.insert(numbers).values(fleet=fleet, model=model, number=number))
    else:
        connection.execute(sa.update(numbers).where(key).values(number=number))
    return number


def rename(connection: sa.Connection, fleet: str, old: str, new: str) -> None:
    """Move a device's facts, history, confirmed releases and rows of this fleet's rollouts; the new name has none yet.

    The device was renamed in the inventory, and shows the same host key.
    """
    ours = sa.select(rollouts.c.id).where(rollouts.c.fleet == fleet)
    for table in (rollout_rows, outcomes):  # what refers to a row moves after its copy exists
        copied = [sa.literal(new) if column.name == "device" else column for column in table.c]
        chosen = sa.select(*copied).where(table.c.device == old, table.c.rollout.in_(ours))
        connection.execute(sa.insert(table).from_select([column.name for column in table.c], chosen))
    pointing = sa.update(latest_rows).where(latest_rows.c.fleet == fleet, latest_rows.c.device == old)
    connection.execute(pointing.values(device=new))
    for table in (findings, measurements, transitions):
        moved = sa.update(table).where(table.c.device == old, table.c.rollout.in_(ours))
        connection.execute(moved.values(device=new))
    for table in (outcomes, rollout_rows):
        connection.execute(sa.delete(table).where(table.c.device == old, table.c.rollout.in_(ours)))
    for table in (devices, confirmed, device_history, device_services):
        connection.execute(sa.update(table).where(table.c.device == old).values(device=new))
