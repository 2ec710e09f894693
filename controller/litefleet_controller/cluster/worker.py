"""A worker of the cluster: it holds the connections to devices, and carries the coordinator's requests to their agents.

The functions at the end are what the coordinator's tasks call.  They are coroutines, so Dask runs them on the worker's event
loop, and what they share is this process's `WorkerSide`.  A worker decides nothing and stores no state: where its coordinator is
silent, it closes the connections, and each device goes on as after any broken one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import asyncssh
from litefleet_inventory.model import Device

from ..devices.agent_archive import AgentArchive
from ..devices.agent_client import Request
from ..devices.bring import Brought
from ..devices.python_bundle import PythonBundle
from ..devices.starter import Agent, LocalStarter
from ..devices.transport.hostkeys import TrustDecision
from ..devices.transport.known_hosts import SkippedLine
from ..devices.transport.ssh import SshLimits, SshTransport
from .address import ClusterError
from .blobs import BlobFolder
from .messages import (
    FAILURES,
    Asked,
    Blob,
    Cost,
    Description,
    Failed,
    Opened,
    Opening,
    SentRequest,
    SentTrust,
    Way,
    failed,
)

if TYPE_CHECKING:
    from distributed import Security

SILENCE_S = 40.0  # without a word from a coordinator, its sessions are closed
_JOIN_S = 60.0  # within which the scheduler must answer


class SessionGone(Exception):
    """The session is not held by this worker: it has ended, or the worker was started again."""


class _Trust:
    """The host keys that the coordinator sent; a key accepted on first contact goes back to it, and it pins that."""

    skipped: tuple[SkippedLine, ...] = ()

    def __init__(self) -> None:
        self._sent: dict[str, SentTrust] = {}  # by device or hop
        self._accepted: dict[str, str] = {}

    def learn(self, way: Way) -> None:
        """Take over what a session's way is to be trusted with."""
        self._sent.update({sent.name: sent for sent in way.trust})

    def accepted(self, way: Way) -> tuple[tuple[str, str], ...]:
        """Return the keys that were accepted on this way, by name."""
        return tuple((sent.name, self._accepted[sent.name]) for sent in way.trust if sent.name in self._accepted)

    def decision(self, device: Device) -> TrustDecision:
        """Return the trust decision for one connection to `device`."""
        sent = self._sent[device.name]
        known, revoked, authorities = (
            [asyncssh.import_public_key(line) for line in lines]
            for lines in (sent.known, sent.revoked, sent.authorities)
        )
        return TrustDecision(device, known, revoked, sent.accepts_new, authorities)

    def keep_accepted(self, device: Device, decision: TrustDecision) -> None:
        """Remember the key that `decision` accepted."""
        if decision.accepted is not None:
            self._accepted[device.name] = decision.accepted.export_public_key("openssh").decode()


class _Run:
    """One coordinator's rollout: one transport for all its devices, so that limits per jump host hold."""

    def __init__(self, connect_s: float) -> None:
        self.trust = _Trust()
        self.seen = time.monotonic()
        self._hops: dict[str, tuple[Device, ...]] = {}
        self.transport = SshTransport(
            self.trust, lambda device: self._hops[device.name], SshLimits(connect_s, connect_s)
        )

    def learn(self, way: Way) -> None:
        """Take over how a device is reached."""
        self.trust.learn(way)
        self._hops[way.device.name] = way.hops


@dataclass
class _Held:
    """One session with one device."""

    run: str
    opened: asyncio.Future[Opened | Failed]
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    agent: Agent | None = None
    task: asyncio.Task[None] | None = None


class WorkerSide:
    """What this process does for coordinators."""

    def __init__(self, description: Description, blobs: BlobFolder, key: str = "") -> None:
        self.description, self.blobs, self._key = description, blobs, key
        self._free = asyncio.Semaphore(description.sessions)
        self._runs: dict[str, _Run] = {}
        self._held: dict[str, _Held] = {}

    def seen(self, run: str) -> None:
        """Note a sign of life of a coordinator."""
        if run in self._runs:
            self._runs[run].seen = time.monotonic()

    async def watch(self) -> None:
        """Close the sessions of coordinators that are silent."""
        while True:
            await asyncio.sleep(SILENCE_S / 8)
            old = time.monotonic() - SILENCE_S
            for name in [name for name, run in self._runs.items() if run.seen < old]:
                del self._runs[name]
                for held in self._held.values():
                    if held.run == name:
                        held.ending.set()

    def _way(self, way: Way) -> tuple[_Run, Device]:
        """Return the run of a way, and its device as this worker reaches it: with a key of its own where it has one."""
        if self._key:
            device, *hops = (replace(device, key=self._key) for device in (way.device, *way.hops))
            way = way._replace(device=device, hops=tuple(hops))
        run = self._runs.setdefault(way.run, _Run(way.connect_s))
        run.seen = time.monotonic()
        run.learn(way)
        return run, way.device

    async def open(self, opening: Opening) -> Opened | Failed:
        """Connect to a device and start its agent; the session is held until `end`."""
        held = _Held(opening.way.run, asyncio.get_running_loop().create_future())
        self._held[opening.session] = held
        held.task = asyncio.create_task(self._hold(opening, held), name=opening.session)
        return await asyncio.shield(held.opened)

    async def _hold(self, opening: Opening, held: _Held) -> None:
        run, device = self._way(opening.way)
        try:
            async with self._free:
                data = await asyncio.to_thread(self.blobs.path(opening.archive).read_bytes)
                starter = LocalStarter(run.transport, AgentArchive(data, opening.archive.sha256))
                async with starter.open(device, opening.launch) as agent:
                    held.agent = agent
                    hello: dict[str, object] | Failed
                    try:
                        hello = await agent.start()
                    except FAILURES as error:
                        hello = failed(error)
                    accepted = run.trust.accepted(opening.way)
                    held.opened.set_result(Opened(agent.host_key, accepted, hello, _cost(agent)))
                    await held.ending.wait()
        except FAILURES as error:
            if not held.opened.done():
                held.opened.set_result(failed(error))
        except Exception as error:  # the coordinator reports it
            if not held.opened.done():
                held.opened.set_exception(error)
        finally:
            self._held.pop(opening.session, None)

    async def ask(self, session: str, sent: tuple[SentRequest, ...], limit_s: float) -> Asked | Failed:
        """Send requests to the agent of a session."""
        held = self._held.get(session)
        if held is None or held.agent is None:
            raise SessionGone(f"this worker holds no session {session}")
        self.seen(held.run)
        requests = [
            Request(s.op, s.fields, self.blobs.path(s.body) if isinstance(s.body, Blob) else s.body, s.answer_limit)
            for s in sent
        ]
        try:
            answers = await held.agent.ask(requests, limit_s)
        except FAILURES as error:
            return failed(error, requests, _cost(held.agent))
        return Asked(tuple((answer.result, answer.body) for answer in answers), _cost(held.agent))

    async def end(self, session: str) -> None:
        """End a session and wait until its connection is closed."""
        held = self._held.get(session)
        if held is None or held.task is None:
            return
        if not held.opened.done() or held.ending.is_set():
            held.task.cancel()  # it still connects, or does not come to its end
        held.ending.set()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([held.task])

    async def bring(self, way: Way, bundle: PythonBundle, packed: Blob, keep: bool, limit_s: float) -> Brought | Failed:
        """Place a Python on a device."""
        run, device = self._way(way)
        path = self.blobs.path(packed)
        async with self._free:
            try:
                here = replace(bundle, packed=replace(bundle.packed, path=path))
                starter = LocalStarter(run.transport, AgentArchive(b"", ""))
                return await starter.bring(device, here, keep, limit_s)
            except FAILURES as error:
                return failed(error)


def _cost(agent: Agent) -> Cost:
    return Cost(agent.sent_bytes, agent.round_trips)


_here: WorkerSide | None = None


def _side() -> WorkerSide:
    if _here is None:
        raise SessionGone("this Dask worker was not started by `litefleet cluster worker`")
    return _here


async def serve(
    address: str,
    description: Description,
    security: Security,
    blobs: BlobFolder,
    key: str = "",
    host: str = "",
    ready: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Be a worker of the scheduler at `address` until the scheduler ends or the process is stopped.

    Raises: ClusterError when the scheduler cannot be reached, or ends.
    """
    from distributed import Worker

    global _here
    _here = WorkerSide(description, blobs, key)
    watch = asyncio.create_task(_here.watch())
    at_once = description.sessions
    try:
        async with Worker(
            address,
            nthreads=2 * at_once + 8,  # coroutines count as threads; no thread is started for them
            resources={"litefleet": at_once},
            name=description.name,
            security=security,
            memory_limit=0,
            host=host or None,
            death_timeout=_JOIN_S,
            local_directory=str(blobs.folder),
            dashboard=False,
        ) as worker:
            ready(f"{description.name} is a worker of {address}, for {at_once} devices at once")
            await worker.finished()
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"the scheduler {address} cannot be reached: {error}") from error
    finally:
        watch.cancel()
        _here = None
    raise ClusterError(f"the scheduler {address} has ended, or has dropped this worker")


async def describe() -> Description:
    """Return what this worker says of itself."""
    return _side().description


async def alive(run: str) -> None:
    """Note a sign of life of the coordinator."""
    _side().seen(run)


async def holds(blob: Blob) -> bool:
    """Return whether a file is here."""
    return await asyncio.to_thread(_side().blobs.holds, blob)


async def receive(blob: Blob, sender: str, offset: int, data: bytes) -> bool:
    """Store a piece of a file."""
    return await asyncio.to_thread(_side().blobs.receive, blob, sender, offset, data)


async def open_session(opening: Opening) -> Opened | Failed:
    """Connect to a device and start its agent."""
    return await _side().open(opening)


async def ask(session: str, requests: tuple[SentRequest, ...], limit_s: float) -> Asked | Failed:
    """Send requests to the agent of a session."""
    return await _side().ask(session, requests, limit_s)


async def end(session: str) -> None:
    """End a session."""
    await _side().end(session)


async def bring(way: Way, bundle: PythonBundle, packed: Blob, keep: bool, limit_s: float) -> Brought | Failed:
    """Place a Python on a device."""
    return await _side().bring(way, bundle, packed, keep, limit_s)
