"""Durable state: what the controller remembers between runs, and across its own death."""

from __future__ import annotations

from .heard import Happened, ServiceSeen
from .lock import this_process
from .port import (
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
