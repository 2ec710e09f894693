"""Starts agents by way of a cluster's workers: the coordinator decides and stores, a worker holds the connection."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ..devices.agent_archive import AgentArchive
from ..devices.agent_client import Answer, Request
from ..devices.bring import Brought
from ..devices.python_bundle import PythonBundle
from ..devices.starter import Agent, Launch
from ..devices.transport.base import TransportError
from ..devices.transport.hostkeys import HostKeys
from . import worker as on_worker
from .address import ClusterError, TlsFiles, security_for
from .blobs import CHUNK, BlobError
from .messages import Blob, Cost, Failed, Opening, SentRequest, SentTrust, Way, raised
from .pool import LOST, Pool, PoolWorker, WorkerLost

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 15.0  # for the scheduler's first answer
_END_S = 15.0  # for a session's end
_TRIES = 3  # workers that may end while one device is being connected to
_INLINE = 64 * 1024  # bytes of a body that travels with its request; larger ones are sent once per worker
_Source = Path | bytes


class Shipping:
    """Sends files to workers, each once; `sent` is what was sent, by (worker's address, hash)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks: dict[tuple[PoolWorker, str], asyncio.Task[None]] = {}
        self.sent: dict[tuple[str, str], int] = {}

    async def ensure(self, worker: PoolWorker, source: _Source) -> Blob:
        """Return a file's hash and size once the worker holds it.  Raises: WorkerLost, BlobError."""
        blob = await asyncio.to_thread(_blob_of, source)
        place = (worker, blob.sha256)
        task = self._tasks.get(place)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._tasks[place] = asyncio.create_task(self._send(worker, blob, source))
        await asyncio.shield(task)  # others may wait for it too
        return blob

    async def _send(self, worker: PoolWorker, blob: Blob, source: _Source) -> None:
        if await self._pool.call(worker, on_worker.holds, blob):
            return
        whole, offset = False, 0
        while not whole:
            data = await asyncio.to_thread(_piece, source, offset)
            whole = await self._pool.call(worker, on_worker.receive, blob, self._pool.run, offset, data)
            offset += len(data)
            if not data and not whole:
                raise BlobError(f"{blob.sha256[:12]} became shorter while it was sent")
        self.sent[(worker.address, blob.sha256)] = blob.size


def _piece(source: _Source, offset: int) -> bytes:
    if isinstance(source, bytes):
        return source[offset : offset + CHUNK]
    with source.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK)


def _blob_of(source: _Source) -> Blob:
    if isinstance(source, bytes):
        return Blob(hashlib.sha256(source).hexdigest(), len(source))
    stat = source.stat()
    return Blob(_hash_of(source, stat.st_mtime_ns, stat.st_size), stat.st_size)


@lru_cache(maxsize=4096)
def _hash_of(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _RemoteAgent:
    """One session, held by a worker."""

    def __init__(self, cluster: ClusterStarter, worker: PoolWorker, device: Device, session: str) -> None:
        self._cluster, self._worker, self._device, self._session = cluster, worker, device, session
        self.host_key = ""
        self._cost = Cost()
        self._hello: dict[str, object] | Failed = {}

    @property
    def sent_bytes(self) -> int:
        return self._cost.sent_bytes

    @property
    def round_trips(self) -> int:
        return self._cost.round_trips

    async def connect(self, way: Way, launch: Launch, archive: bytes) -> None:
        """Let the worker connect and start the agent.  Raises: WorkerLost; TransportError."""
        pool = self._cluster.pool
        try:
            blob = await self._cluster.shipping.ensure(self._worker, archive)
        except BlobError as error:
            raise TransportError(_lacking(self._worker, error)) from error
        answer = await pool.call(self._worker, on_worker.open_session, Opening(self._session, way, launch, blob))
        if isinstance(answer, Failed):
            raise raised(answer)
        try:
            self._cluster.pin(way, answer.accepted)
        except TransportError:
            await self.end()
            raise
        self.host_key, self._hello, self._cost = answer.host_key, answer.hello, answer.cost

    async def start(self) -> dict[str, object]:
        if isinstance(self._hello, Failed):
            raise raised(self._hello)
        return self._hello

    async def ask(self, requests: Sequence[Request], limit_s: float) -> list[Answer]:
        try:
            sent = tuple([await self._sent(request) for request in requests])
            answer = await self._cluster.pool.call(self._worker, on_worker.ask, self._session, sent, limit_s)
        except WorkerLost as error:
            raise TransportError(_lost(self._worker, self._device)) from error
        except BlobError as error:
            raise TransportError(_lacking(self._worker, error)) from error
        self._cost = answer.cost
        if isinstance(answer, Failed):
            raise raised(answer, requests)
        return [Answer(result, body) for result, body in answer.answers]

    async def _sent(self, request: Request) -> SentRequest:
        body: bytes | Blob | None
        if request.body is None or (isinstance(request.body, bytes) and len(request.body) <= _INLINE):
            body = request.body
        else:
            body = await self._cluster.shipping.ensure(self._worker, request.body)
        return SentRequest(request.op, dict(request.fields), body, request.answer_limit)

    async def end(self) -> None:
        """End the session; a worker that has ended has closed its connections too."""
        with suppress(WorkerLost, TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._cluster.pool.call(self._worker, on_worker.end, self._session)


def _lacking(worker: PoolWorker, error: BlobError) -> Finding:
    return finding(LOST, f"the worker {worker.about.name} lacks a file: {error}")


def _lost(worker: PoolWorker, device: Device) -> Finding:
    return finding(LOST, f"the worker {worker.about.name} ended while it held the connection to {device.name}")


class ClusterStarter:
    """An AgentStarter whose connections are held by the workers of a cluster."""

    def __init__(
        self,
        pool: Pool,
        archive: AgentArchive,
        host_keys: HostKeys,
        hops: Callable[[Device], Sequence[Device]],
        connect_s: float,
    ) -> None:
        self.pool, self.shipping = pool, Shipping(pool)
        self._archive, self._host_keys, self._hops, self._connect_s = archive, host_keys, hops, connect_s
        self._numbers = count(1)

    def unreachable(self, devices: Sequence[Device]) -> list[Device]:
        """Return the devices that no worker can reach now."""
        return [device for device in devices if not self.pool.able(device, self._hops(device))]

    @asynccontextmanager
    async def open(self, device: Device, launch: Launch) -> AsyncIterator[Agent]:
        """Let a worker connect, and yield the agent; a worker that ends before the agent has started is replaced.

        Raises: TransportError, with LF515 when no worker can reach the device or several have ended.
        """
        agent, worker = await self._connected(device, launch)
        try:
            yield agent
        finally:
            await agent.end()
            await self.pool.give_back(worker)

    async def _connected(self, device: Device, launch: Launch) -> tuple[_RemoteAgent, PoolWorker]:
        way = self._way(device)
        for left in reversed(range(_TRIES)):
            worker = await self.pool.take(device, way.hops)
            agent = _RemoteAgent(self, worker, device, f"{self.pool.run}-{next(self._numbers)}")
            try:
                await agent.connect(way, launch, self._archive.data)
                return agent, worker
            except WorkerLost as error:
                await self.pool.give_back(worker)
                if not left:
                    raise TransportError(_lost(worker, device)) from error
            except BaseException as error:
                if not isinstance(error, TransportError):  # that one holds no connection
                    await agent.end()
                await self.pool.give_back(worker)
                raise
        raise AssertionError  # the last try returns or raises

    async def bring(self, device: Device, bundle: PythonBundle, keep: bool, limit_s: float) -> Brought:
        """Let a worker place a Python on a device."""
        way = self._way(device)
        worker = await self.pool.take(device, way.hops)
        try:
            packed = await self.shipping.ensure(worker, bundle.packed.path)
            answer = await self.pool.call(worker, on_worker.bring, way, bundle, packed, keep, limit_s)
        except BlobError as error:
            raise TransportError(_lacking(worker, error)) from error
        except WorkerLost as error:
            raise TransportError(_lost(worker, device)) from error
        finally:
            await self.pool.give_back(worker)
        if isinstance(answer, Failed):
            raise raised(answer)
        return answer

    def _way(self, device: Device) -> Way:
        hops = tuple(self._hops(device))
        return Way(self.pool.run, device, hops, tuple(map(self._trust, (device, *hops))), self._connect_s)

    def _trust(self, device: Device) -> SentTrust:
        decision = self._host_keys.decision(device)
        known, revoked, authorities = (
            tuple(key.export_public_key("openssh").decode() for key in keys)
            for keys in (decision.known, decision.revoked, decision.authorities)
        )
        return SentTrust(device.name, known, revoked, authorities, decision.accepts_new)

    def pin(self, way: Way, accepted: Sequence[tuple[str, str]]) -> None:
        """Pin keys that a worker accepted on first contact.  Raises: TransportError where another one is pinned."""
        by_name = {device.name: device for device in (way.device, *way.hops)}
        for name, line in accepted:
            device = by_name[name]
            decision = self._host_keys.decision(device)
            if not decision.trusts(asyncssh.import_public_key(line)):
                assert decision.refused is not None
                raise TransportError(decision.refused)
            self._host_keys.keep_accepted(device, decision)


@asynccontextmanager
async def connected(address: str, tls: TlsFiles, say: Callable[[str], None]) -> AsyncIterator[Pool]:
    """Connect to the scheduler at `address`, as `checked_address` returned it, and yield its workers.

    Raises: ClusterError when it does not answer, or has no worker that can be used.
    """
    security = security_for(address, tls)
    from distributed import Client

    try:
        client: Client = await Client(
            address,
            asynchronous=True,
            security=security,
            set_as_default=False,
            timeout=_CONNECT_S,
            name="litefleet",
            direct_to_workers=False,
        )
    except (OSError, TimeoutError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"the scheduler {address} does not answer ({why}): start it with `dask scheduler`"
        ) from error
    pool = Pool(client, address, say)
    try:
        await pool.begin()
        if not pool.workers:
            raise ClusterError(
                f"the scheduler {address} has no worker: start one where the devices are: `litefleet cluster worker {address}`"
            )
        yield pool
    finally:
        await pool.close()
        await client.close()
