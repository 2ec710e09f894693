"""Files that several processes share: held by one at a time, written whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

from litefleet_agent.releases.atomic import write_atomic

__all__ = ["locked", "write_atomically"]


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock file `path` against other tasks and other processes, without blocking the event loop."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield  # closing the file gives the lock back


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is seen whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(str(path), [data], mode=0o644)
