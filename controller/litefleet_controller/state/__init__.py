"""Durable state: what the controller remembers between runs, and across its own death."""

from __future__ import annotations

from .device_history import Happened, ServiceSeen
from .fleet_lock import this_process
from .model import (
    AuditEntry,
    Change,
    Confirmed,
    Conflict,
    Held,
    Hold,
    KeptRelease,
    KnownDevice,
    LostHold,
    Owner,
    StateError,
    StatePort,
)
from .state import State, Transition

__all__ = [
    "AuditEntry",
    "Change",
    "Confirmed",
    "Conflict",
    "Happened",
    "Held",
    "Hold",
    "KeptRelease",
    "KnownDevice",
    "LostHold",
    "Owner",
    "ServiceSeen",
    "State",
    "StateError",
    "StatePort",
    "Transition",
    "this_process",
]
