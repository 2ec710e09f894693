"""The engine: one rollout under way in this process, every outcome committed before the next step depends on it."""

from __future__ import annotations

from ..devices.steps import Patience
from .engine import Engine
from .sessions import Converse, LookAgain
from .store import Clock, InlineWriter, Ledger, SystemClock, ThreadWriter, Writer

__all__ = [
    "Clock",
    "Converse",
    "Engine",
    "InlineWriter",
    "Ledger",
    "LookAgain",
    "Patience",
    "SystemClock",
    "ThreadWriter",
    "Writer",
]
