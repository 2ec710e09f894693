"""Durable state: what the controller stores between runs, and keeps when it is killed.

A name is imported when it is first used: commands that only read the state start without SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.lazy import imported_at_use

if TYPE_CHECKING:
    from .device_history import HistoryEntry, ServiceStatus
    from .model import (
        AuditEntry,
        Confirmed,
        Conflict,
        FleetLock,
        FleetLocked,
        FleetLockLost,
        KnownDevice,
        Owner,
        RowChange,
        StateDamaged,
        StateError,
        StateOlder,
        Transition,
    )
    from .outbox import EVENTS, Notice, Outbox, Subscription
    from .owners import this_process
    from .reader import StateReader
    from .sqlite_reader import open_reader
    from .state import State

__all__ = [
    "EVENTS",
    "AuditEntry",
    "Confirmed",
    "Conflict",
    "FleetLock",
    "FleetLockLost",
    "FleetLocked",
    "HistoryEntry",
    "KnownDevice",
    "Notice",
    "Outbox",
    "Owner",
    "RowChange",
    "ServiceStatus",
    "State",
    "StateDamaged",
    "StateError",
    "StateOlder",
    "StateReader",
    "Subscription",
    "Transition",
    "open_reader",
    "this_process",
]

__getattr__ = imported_at_use(
    __name__,
    {
        ".device_history": ("HistoryEntry", "ServiceStatus"),
        ".model": (
            "AuditEntry",
            "Confirmed",
            "Conflict",
            "FleetLock",
            "FleetLockLost",
            "FleetLocked",
            "KnownDevice",
            "Owner",
            "RowChange",
            "StateDamaged",
            "StateError",
            "StateOlder",
            "Transition",
        ),
        ".outbox": ("EVENTS", "Notice", "Outbox", "Subscription"),
        ".owners": ("this_process",),
        ".reader": ("StateReader",),
        ".sqlite_reader": ("open_reader",),
        ".state": ("State",),
    },
)
