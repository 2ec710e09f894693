"""The engine: one rollout under way in this process, every outcome committed before the next step depends on it."""

from __future__ import annotations

from ..patience import Patience
from .book import Ledger
from .engine import Engine
from .parts import Clock, InlineWriter, SystemClock, ThreadWriter, Writer
from .talks import Converse, LookAgain

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
