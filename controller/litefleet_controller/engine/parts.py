"""What an engine runs on: a clock, and a way to call the state without holding up the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

__all__ = ["Clock", "InlineWriter", "SystemClock", "ThreadWriter", "Writer"]

_T = TypeVar("_T")


class Clock(Protocol):
    """Wall time; the simulated fleet has its own."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


class Writer(Protocol):
    """Runs the state's blocking calls, one after another."""

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns."""
        ...


class ThreadWriter:
    """Keeps the event loop free while the database syncs: all calls go through one thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "state")

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns; a cancelled caller does not tear a commit."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args)))

    def close(self) -> None:
        """Finish what was begun."""
        self._thread.shutdown()


class InlineWriter:
    """Calls straight away: for time that is not real."""

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns."""
        return call(*args)
