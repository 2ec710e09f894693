"""Sessions that stay open from the look at a device to its delivery, where that follows at once.

A login and an agent's start cost a device more than all requests of a delivery do, and about ten round trips.  A kept session
decides nothing: when it is used again, the device is asked anew what it runs and holds, and where it does not answer, a new
connection is made, with every check of a first one.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from litefleet_agent.errors import AgentError
from litefleet_inventory.model import Device

from .agent_client import RequestRejected
from .outcome import DeviceOutcome
from .transport.base import TransportError
from .visit import DeviceSession

_MOST_KEPT, _KEPT_PER_SLOT = 320, 10  # sessions of a run; and for each device that is at work at once
_IDLE_S = 240.0  # its heartbeats take less of the controller's CPU than a new connection does
_ANSWER_S = 10.0  # for a device that is asked again
_HARMLESS = frozenset(("history",))  # requests after which the agent does not hold the device's store


def most_kept(at_once: int) -> int:
    """Return how many sessions a run keeps that works on `at_once` devices at a time: each is an open file of this process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_KEPT if files == resource.RLIM_INFINITY else min(_MOST_KEPT, files // 3)
    return min(most, _KEPT_PER_SLOT * at_once)


class _Kept:
    """One session that waits."""

    def __init__(self, session: DeviceSession) -> None:
        self.session = session
        self.task: asyncio.Task[None] | None = None  # holds its connection
        self.stays: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken = asyncio.Event()
        self.over = asyncio.Event()

    async def end(self) -> None:
        """Close its connection."""
        self.taken.set()
        self.over.set()
        assert self.task is not None
        await asyncio.gather(self.task, return_exceptions=True)


class KeptSessions:
    """At most `most` sessions, and `per_jump` behind one jump host, each for at most `idle_s` seconds."""

    def __init__(self, most: int, per_jump: int, idle_s: float = _IDLE_S) -> None:
        self._most, self._per_jump, self._idle_s = most, per_jump, idle_s
        self._kept: dict[str, _Kept] = {}

    async def look(
        self,
        session: DeviceSession,
        models: Sequence[str],
        work: Callable[[DeviceSession], Awaitable[None]],
        done: list[DeviceOutcome],
    ) -> None:
        """Do as `session.run`, and return when `work` is done; the session stays open where it may."""
        kept = _Kept(session)

        async def work_and_stay(session: DeviceSession) -> None:
            await work(session)
            if self._may_stay(session):
                await self._stay(kept)

        kept.task = asyncio.create_task(session.run(models, work_and_stay, done))
        try:
            await asyncio.wait((kept.task, kept.stays), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._kept.pop(session.device.name, None)
            kept.task.cancel()
            await asyncio.gather(kept.task, return_exceptions=True)
            raise
        if not kept.stays.done():
            kept.task.result()

    def _may_stay(self, session: DeviceSession) -> bool:
        device = session.device
        if not session.asked <= _HARMLESS or device.name in self._kept:
            return False
        behind = Counter(kept.session.device.jump for kept in self._kept.values())
        return len(self._kept) < self._most and (not device.jump or behind[device.jump] < self._per_jump)

    async def _stay(self, kept: _Kept) -> None:
        """Hold the connection open until its session has been used, is let go, or was idle for too long."""
        name = kept.session.device.name
        self._kept[name] = kept
        kept.session.session_factory.report(name, "")  # not at work
        kept.stays.set_result(None)
        try:
            async with asyncio.timeout(self._idle_s):
                await kept.taken.wait()
        except TimeoutError:
            if not kept.taken.is_set():
                self._kept.pop(name, None)
                return
        await kept.over.wait()

    @asynccontextmanager
    async def taken(self, device: Device) -> AsyncIterator[DeviceSession | None]:
        """Yield the device's session after it has answered again, and close it afterwards; None where there is none."""
        kept = self._kept.pop(device.name, None)
        if kept is None:
            yield None
            return
        kept.taken.set()
        try:
            answered = await _answers(kept.session)
            if not answered:
                await kept.end()
            yield kept.session if answered else None
        finally:
            await kept.end()

    async def only(self, names: Collection[str]) -> None:
        """Close the sessions with all other devices."""
        ended = [self._kept.pop(name) for name in tuple(self._kept) if name not in names]
        await asyncio.gather(*(kept.end() for kept in ended))

    async def close(self) -> None:
        """Close all sessions: before a pause, an approval, or anything else that does not follow at once."""
        await self.only(())


async def _answers(session: DeviceSession) -> bool:
    """Ask the device again what it runs and holds; return whether it answered."""
    try:
        await session.look_again(_ANSWER_S)
    except (TransportError, RequestRejected, AgentError):
        return False
    return True
