"""Runs one rollout in this process; every outcome is committed before the next step depends on it."""

from __future__ import annotations

from .engine import RolloutEngine
from .prepare import Prepare
from .sessions import DeviceTask, EngineDeps, Recheck
from .store import Clock, DeviceRecorder, SystemClock, ThreadWriter, Writer

__all__ = [
    "Clock",
    "DeviceRecorder",
    "DeviceTask",
    "EngineDeps",
    "Prepare",
    "Recheck",
    "RolloutEngine",
    "SystemClock",
    "ThreadWriter",
    "Writer",
]
