"""Queries over devices' histories and their services' status."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from .tables import device_history, device_services

KEPT = 2000  # entries of one device


@dataclass(frozen=True)
class ServiceStatus:
    """A device's service at the last contact, and the last history entry that was read."""

    device: str
    history: str  # the history's id: another one's numbers begin anew
    number: int  # of the last entry that was read
    status: Mapping[str, object] = field(default_factory=dict)  # {} where the device reported none
    seen_at: float = 0.0


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of a device's history."""

    device: str
    history: str
    number: int
    at: float  # by the device's clock
    kind: str
    model: str = ""
    release: str = ""
    entry: Mapping[str, object] = field(default_factory=dict)  # as the device sent it
    taken_at: float = 0.0  # by the controller's clock


def record_history(connection: sa.Connection, service: ServiceStatus, entries: Sequence[HistoryEntry]) -> None:
    """Store a device's service status, replacing the earlier one, and new entries; beyond `KEPT` the oldest are deleted."""
    table = device_services
    connection.execute(sa.delete(table).where(table.c.device == service.device))
    connection.execute(sa.insert(table).values({**vars(service), "status": dict(service.status)}))
    key = (device_history.c.device == service.device) & (device_history.c.history == service.history)
    there = set(connection.execute(sa.select(device_history.c.number).where(key)).scalars())
    new = {
        e.number: e
        for e in entries
        if e.number not in there and (e.device, e.history) == (service.device, service.history)
    }
    if new:
        connection.execute(sa.insert(device_history), [{**vars(e), "entry": dict(e.entry)} for e in new.values()])
        _drop_old(connection, service.device)


def _drop_old(connection: sa.Connection, device: str) -> None:
    columns = device_history.c
    mine = columns.device == device
    newest_first = sa.select(columns.taken_at, columns.number).where(mine)
    newest_first = newest_first.order_by(columns.taken_at.desc(), columns.number.desc())
    last = connection.execute(newest_first.offset(KEPT).limit(1)).first()
    if last is not None:
        older = (columns.taken_at < last[0]) | ((columns.taken_at == last[0]) & (columns.number <= last[1]))
        connection.execute(sa.delete(device_history).where(mine & older))


def all_services(connection: sa.Connection, names: Collection[str] | None = None) -> dict[str, ServiceStatus]:
    """Return all stored service status, or that of some devices, by the device's name."""
    chosen = sa.select(device_services)
    found = connection.execute(chosen if names is None else chosen.where(device_services.c.device.in_(names)))
    return {row.device: ServiceStatus(**dict(row._mapping)) for row in found}


def service_of(connection: sa.Connection, device: str) -> ServiceStatus | None:
    """Return one device's stored service status."""
    row = connection.execute(sa.select(device_services).where(device_services.c.device == device)).first()
    return ServiceStatus(**dict(row._mapping)) if row is not None else None


def history_entries(
    connection: sa.Connection, devices: Sequence[str], since: float, limit: int
) -> tuple[HistoryEntry, ...]:
    """Return the latest entries whose time is not before `since`, in the order in which they came; no devices: of all."""
    columns = device_history.c
    chosen = sa.select(device_history).where(columns.at >= since)
    if devices:
        chosen = chosen.where(columns.device.in_(devices))
    order = (columns.taken_at.desc(), columns.device.desc(), columns.number.desc())
    found = connection.execute(chosen.order_by(*order).limit(limit)).all()
    return tuple(HistoryEntry(**dict(row._mapping)) for row in reversed(found))
