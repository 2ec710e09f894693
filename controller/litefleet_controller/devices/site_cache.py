"""One transfer for the devices of a site: the first one that needs a file gets it from here, the others get it from that one.

A device that has the file serves it to its neighbours while a session of ours with it lasts (agent session/neighbours.py); each
transfer has a secret of its own, which both get over their own SSH sessions.  Whatever fails there, a port that is closed to
neighbours or another hash, the file is sent from here as without a site cache.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from litefleet_inventory.model import Device

from ..common.checked import mapping_or_empty
from .agent_client import Request, RequestRejected
from .deliver import with_blobs
from .resume import continued
from .transport.base import TransportError
from .visit import DeviceSession, SessionFactory

LEAST_SIZE = 64 << 10  # bytes to send below which two more round trips cost as much
_IDLE_S = 30.0  # after which a device that serves nobody any more closes its port
_OFFER_S = 20.0
_FETCH_S = 60.0  # beside the time that the size takes
_SLOWEST = 50_000  # bytes a second, as the agent has it
_MOST_FAILED = 3  # transfers in a row between devices of one site, after which it is left alone


@dataclass
class _File:
    """A file within one site."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while it is sent from here
    holder: Device | None = None  # has it, and can serve it


class _Server:
    """A session with a device that serves files, until it has served none for a while."""

    def __init__(self, device: Device, factory: SessionFactory) -> None:
        self.ready: asyncio.Future[DeviceSession | None] = asyncio.get_running_loop().create_future()
        self.busy = 0
        self.lock = asyncio.Lock()
        quiet = replace(factory, kept=None, site_cache=None, report=lambda device, step: None)
        self.task = asyncio.create_task(self._run(DeviceSession(device, quiet)))

    async def _run(self, session: DeviceSession) -> None:
        async def serve(session: DeviceSession) -> None:
            self.ready.set_result(session if session.hello.get("neighbours") is True else None)
            while self.ready.result() is not None:
                await asyncio.sleep(_IDLE_S)
                if not self.busy:
                    return

        try:
            await session.run([], serve, [])
        finally:
            if not self.ready.done():
                self.ready.set_result(None)

    async def end(self) -> None:
        """Close the session, and with it the device's port."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def listener_of(offered: Mapping[str, object]) -> tuple[str, int]:
    """Return where a device says that it serves.  Raises ValueError for what is no address of one machine.

    Another device will connect there: a name would be looked up by it, and 0.0.0.0 is that device itself.
    """
    address, port = ipaddress.ip_address(str(offered.get("address"))), offered.get("port")
    if address.is_unspecified or address.is_multicast or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ValueError(f"{address} port {port}")
    return str(address), port


class SiteCache:
    """The files of a run by site; `site_of` gives a device's site, "" for a device that shares nothing."""

    def __init__(self, site_of: Callable[[Device], str]) -> None:
        self._site_of = site_of
        self._files: dict[tuple[str, str], _File] = {}
        self._servers: dict[str, _Server] = {}
        self._failed: dict[str, int] = {}  # transfers in a row, by site

    def serves(self, session: DeviceSession) -> bool:
        """Say whether a device may get files from neighbours and serve them."""
        site = self._site_of(session.device)
        usable = bool(site) and session.hello.get("neighbours") is True
        return usable and self._failed.get(site, 0) < _MOST_FAILED

    async def bring(self, session: DeviceSession, requests: Sequence[Request], sizes: Mapping[str, int]) -> None:
        """Bring files to a device: from a neighbour where one has them, else by `requests`, one for each file.

        `sizes` gives the bytes of the whole files by SHA-256.  Raises as `session.ask`.
        """
        site = self._site_of(session.device)
        for sha, size in mapping_or_empty(session.hello.get("blobs")).items():
            if isinstance(size, int) and size >= LEAST_SIZE:
                self._has(site, sha, session.device)
        for request in requests:
            sha = str(request.fields["sha256"])
            await self._bring_one(session, self._file(site, sha), request, sha, sizes[sha])
            session.hello = with_blobs(session.hello, {sha: sizes[sha]})

    def _file(self, site: str, sha: str) -> _File:
        return self._files.setdefault((site, sha), _File())

    def _has(self, site: str, sha: str, device: Device) -> None:
        file = self._file(site, sha)
        file.holder = file.holder or device

    async def _bring_one(self, session: DeviceSession, file: _File, request: Request, sha: str, size: int) -> None:
        site, holder = self._site_of(session.device), file.holder
        if holder is None and self._failed.get(site, 0) < _MOST_FAILED:
            async with file.lock:  # the first one is sent the file; those that wait here then find who has it
                if file.holder is None:
                    await _send(session, request)
                    file.holder = session.device
                    return
            holder = file.holder
        if holder is not None and holder != session.device and await self._fetch(session, holder, sha, size):
            self._failed[site] = 0
            return
        if holder is not None:
            self._failed[site] = self._failed.get(site, 0) + 1
        await _send(session, request)
        file.holder = session.device  # a holder that does not answer is not asked again

    async def _fetch(self, session: DeviceSession, holder: Device, sha: str, size: int) -> bool:
        """Let a device fetch a file from another one; return whether it has it then."""
        server = self._server(holder, session.session_factory)
        server.busy += 1
        try:
            serving = await server.ready
            secret = secrets.token_hex(32)
            async with server.lock:
                offer = Request("offer", {"sha256": sha, "secret": secret, "peer": session.device.host})
                (offered,) = await serving.ask(offer, limit_s=_OFFER_S) if serving is not None else ({},)
            address, port = listener_of(offered)
            fetch = Request("fetch", {"sha256": sha, "size": size, "secret": secret, "address": address, "port": port})
        except (TransportError, RequestRejected, ValueError):
            server.busy -= 1
            return False
        try:
            await session.ask(fetch, limit_s=_FETCH_S + size / _SLOWEST)
        except RequestRejected:
            return False
        finally:
            server.busy -= 1
        return True

    def _server(self, holder: Device, factory: SessionFactory) -> _Server:
        server = self._servers.get(holder.name)
        if server is None or server.task.done():
            server = self._servers[holder.name] = _Server(holder, factory)
        return server

    async def close(self) -> None:
        """Close all sessions that serve."""
        servers, self._servers = tuple(self._servers.values()), {}
        await asyncio.gather(*(server.end() for server in servers))


async def _send(session: DeviceSession, request: Request) -> None:
    """Send a file from here, or what makes it from files that the device holds."""
    requests = await continued(session, [request])
    await session.ask(*requests, limit_s=_FETCH_S)
