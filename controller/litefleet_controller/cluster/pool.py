"""The workers of a cluster as a coordinator sees them: who is there, whom they reach, and calls of their functions as tasks.

Each call is a Dask task that is bound to its worker, so Dask never repeats it on another one: a session whose worker ends is
lost, and what follows is decided here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import Client, KilledWorker
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from litefleet_agent.findings import finding
from litefleet_inventory.model import Device

from .. import __version__
from ..common.text import sanitize
from ..devices.transport.base import TransportError
from .address import ClusterError
from .messages import Description
from .worker import SILENCE_S, SessionGone, alive, describe

_T = TypeVar("_T")
_POLL_S = 1.0  # within which a worker that has ended is noticed
_ANSWER_S = 30.0  # for the scheduler
_MEET_S = 20.0  # for a new worker
_LOST = (KilledWorker, FutureCancelledError, CommClosedError, OSError, SessionGone)
LOST = "LF515"


class WorkerLost(Exception):
    """The worker has ended, or no longer holds the session."""


@dataclass(eq=False)
class PoolWorker:
    """A worker, and how many sessions it holds for this coordinator."""

    address: str
    about: Description
    at_work: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def free(self) -> int:
        """How many more sessions it may hold."""
        return self.about.sessions - self.at_work


class Pool:
    """The workers, watched by a task of its own: `begin`, then `close`."""

    def __init__(self, client: Client, address: str, say: Callable[[str], None]) -> None:
        self.run = secrets.token_hex(6)
        self._client, self._address, self._say = client, address, say
        self._workers: dict[str, PoolWorker] = {}
        self._useless: set[str] = set()  # addresses of workers that are not used
        self._last: dict[str, str] = {}  # device -> worker that held it last
        self._changed = asyncio.Condition()
        self._calls = 0
        self._broken: ClusterError | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def workers(self) -> tuple[PoolWorker, ...]:
        """Those that are there now."""
        return tuple(self._workers.values())

    @property
    def sessions(self) -> int:
        """How many devices all of them can serve at once."""
        return sum(worker.about.sessions for worker in self.workers)

    async def begin(self) -> None:
        """Meet the workers that are there, and watch them from now on.  Raises: ClusterError."""
        await self._look()
        self._watch = asyncio.create_task(self._keep_watch())

    async def close(self) -> None:
        """Stop to watch."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def _keep_watch(self) -> None:
        told = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_POLL_S)
                await self._look()
                if time.monotonic() - told > SILENCE_S / 4:
                    told = time.monotonic()
                    await self._tell_alive()
        except ClusterError as error:
            self._broken = error
            for address in list(self._workers):
                self._gone(address)
            await self._notify()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                there = set(await self._client.nthreads())
        except Exception as error:  # Dask raises many kinds
            raise ClusterError(
                f"the scheduler {self._address} does not answer any more ({type(error).__name__}): `litefleet resume` continues"
            ) from error
        for address in set(self._workers) - there:
            self._gone(address)
        self._useless &= there
        new = sorted(there - set(self._workers) - self._useless)
        if new:
            await self._meet(new)
        await self._notify()

    async def _meet(self, addresses: Sequence[str]) -> None:
        """Ask new workers what they are; those that are not litefleet's, or of another version, are not used."""
        try:
            async with asyncio.timeout(_MEET_S):
                said = await self._client.run(describe, workers=list(addresses), on_error="return")
        except (OSError, ValueError):  # one has just ended: they are asked again
            return
        for address, about in said.items():
            if isinstance(about, Description) and about.version == __version__:
                self._workers[address] = PoolWorker(address, about)
                continue
            self._useless.add(address)
            why = "it was not started by `litefleet cluster worker`"
            if isinstance(about, Description):
                why = f"it runs litefleet {about.version}, and this is {__version__}"
            self._say(f"the worker {sanitize(address)} is not used: {why}")

    def _gone(self, address: str) -> None:
        worker = self._workers.pop(address)
        worker.lost.set()
        held = f", which held {worker.at_work} sessions" if worker.at_work else ""
        self._say(f"the worker {sanitize(worker.about.name)} has ended{held}")

    async def _tell_alive(self) -> None:
        at_work = [worker for worker in self.workers if worker.at_work]
        await asyncio.gather(*(self.call(worker, alive, self.run) for worker in at_work), return_exceptions=True)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def able(self, device: Device, hops: Sequence[Device]) -> list[PoolWorker]:
        """Return the workers that can reach a device."""
        return [worker for worker in self.workers if worker.about.reaches(device, hops)]

    async def take(self, device: Device, hops: Sequence[Device]) -> PoolWorker:
        """Wait for a worker that can reach a device and has a session free, and count that; `give_back` ends it.

        The one that held the device last is preferred, then the one with the most sessions free.
        Raises: TransportError LF515 when no worker can reach it; ClusterError when the scheduler has ended.
        """
        async with self._changed:
            while True:
                if self._broken is not None:
                    raise self._broken
                able = self.able(device, hops)
                if not able:
                    raise TransportError(finding(LOST, self.why_none(device, hops)))
                free = [worker for worker in able if worker.free > 0]
                if free:
                    last = self._last.get(device.name)
                    worker = max(free, key=lambda w: (w.address == last, w.free / w.about.sessions))
                    worker.at_work += 1
                    self._last[device.name] = worker.address
                    return worker
                await self._changed.wait()

    async def give_back(self, worker: PoolWorker) -> None:
        """End what `take` began."""
        worker.at_work -= 1
        await self._notify()

    def why_none(self, device: Device, hops: Sequence[Device]) -> str:
        """Return the sentence for a device that no worker can reach."""
        labels = sorted({label for worker in self.workers for label in labels_of(worker.about)})
        behind = f", behind {hops[0].name}" if hops else ""
        groups = f" (groups and tags: {', '.join((*device.groups, *device.tags)[:5]) or 'none'}{behind})"
        there = f"the workers take {', '.join(labels[:10])}" if labels else "no worker is there"
        return f"no worker of the cluster can reach {device.name}{groups}: {there}"

    async def call(self, worker: PoolWorker, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Run a function on a worker as a task that is bound to it, and return its result.

        Raises: WorkerLost when the worker ends meanwhile; what the function raises.
        """
        self._calls += 1
        future = self._client.submit(
            function,
            *args,
            key=f"{function.__name__}-{self.run}-{self._calls}",
            workers=[worker.address],
            allow_other_workers=False,
            retries=0,
        )
        result, lost = asyncio.ensure_future(future.result()), asyncio.ensure_future(worker.lost.wait())
        try:
            await asyncio.wait({result, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done() or result.cancelled():
                raise WorkerLost(worker.about.name)
            answer: _T = result.result()
            return answer
        except _LOST as error:
            raise WorkerLost(worker.about.name) from error
        finally:
            result.cancel()
            lost.cancel()
            future.release()


def labels_of(about: Description) -> list[str]:
    """Return a worker's labels for people: "site berlin", "jump host gw-1", "every device"."""
    found = [f"site {site}" for site in about.sites] + [f"jump host {jump}" for jump in about.jumps]
    return found or ["every device"]
