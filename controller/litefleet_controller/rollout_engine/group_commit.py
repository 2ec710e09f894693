"""Commits of many devices in one transaction: what is asked for while a transaction is being synced goes into the next one.

Nobody waits longer than without it: the first change is written at once, and a change that comes meanwhile would have waited
for its own transaction behind that one.  Each caller continues only when its own changes are stored, so that a device's outcome
is durable before anything depends on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from ..rollout import IllegalMove
from ..state.model import Conflict, RowChange

WriteChanges = Callable[[Sequence[RowChange]], Awaitable[None]]  # stores all of them or none


class _Part(NamedTuple):
    """What one caller wants stored."""

    changes: Sequence[RowChange]
    stored: asyncio.Future[None]


class GroupCommit:
    """Stores changes by `write`, one transaction after another, in the order in which they were asked for."""

    def __init__(self, write: WriteChanges) -> None:
        self._write = write
        self._waiting: list[_Part] = []
        self._writer: asyncio.Task[None] | None = None

    async def store(self, changes: Sequence[RowChange]) -> None:
        """Return when these changes are stored; raise what `write` raises for them.

        Cancelling the caller does not cancel the write: see `flush`.
        """
        part = _Part(changes, asyncio.get_running_loop().create_future())
        part.stored.add_done_callback(_look_at)
        self._waiting.append(part)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await asyncio.shield(part.stored)

    async def flush(self) -> None:
        """Wait for all changes that were asked for."""
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write_waiting(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await self._write_group(group)

    async def _write_group(self, group: Sequence[_Part]) -> None:
        try:
            await self._write([change for part in group for change in part.changes])
        except (Conflict, IllegalMove) as error:
            if len(group) > 1:  # nothing of the group was written: only the caller whose change it is gets the error
                for part in group:
                    await self._write_group([part])
            else:
                group[0].stored.set_exception(error)
        except BaseException as error:
            for part in [*group, *self._waiting]:
                part.stored.set_exception(error)
            self._waiting = []
            if not isinstance(error, Exception):
                raise
        else:
            for part in group:
                part.stored.set_result(None)


def _look_at(stored: asyncio.Future[None]) -> None:
    """Retrieve the error of a future whose caller was cancelled: asyncio would report it as lost."""
    if not stored.cancelled():
        stored.exception()
