"""Durable state: what the controller stores between runs, and keeps when it is killed."""

from __future__ import annotations

from .device_history import HistoryEntry, ServiceStatus
from .fleet_lock import this_process
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
    "Subscription",
    "Transition",
    "this_process",
]
