"""Files that several processes share: a lock file, and atomic writes."""

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
    """Lock the file `path` against other tasks and other processes, without blocking the event loop.

    Waits without a limit.  The lock file and its folder are created, and stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield  # closing the file releases the lock


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: after a power cut it has the old content or the new.  Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(str(path), [data], mode=0o644)
