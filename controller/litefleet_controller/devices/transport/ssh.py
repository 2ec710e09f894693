"""The fleet's transport: asyncssh, one prepared set of options for all, no SFTP, a bounded send window."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh
from litefleet_agent.findings import finding
from litefleet_inventory.model import Device

from .bandwidth import Bandwidth, Line
from .base import CIPHERS, KEX, LEGACY_CIPHERS, LEGACY_KEX, Channel, TransportError, hop_device
from .failures import connection_failure, look_again, why
from .hostkeys import HostTrust, TrustDecision
from .identities import Identities
from .lighter import (
    with_log_level_first,
    with_login_before_accept,
    with_one_keepalive_timer,
    with_signature_at_once,
    without_ignored_packets,
    without_packet_log,
)
from .sealed_data import with_sealed_data
from .ssh_config import Proxy, proxy_of
from .window import SendWindow, round_trip_s

_READ = 4 << 20  # bytes: all that has come is read at once
_UNREAD = (
    8 << 20
)  # bytes that one device may send ahead of their reader before it is cut off; an honest one is below 1 MiB
_EXIT_S = 2.0  # for the exit code of a command whose output has ended
_STDERR_KEPT = 4 * 1024
_STDERR_LIMIT = 32 << 20  # bytes of stderr after which a flooding device is cut off
# How a peer's close before the login shows: its KEXINIT, its DISCONNECT and a reset by its kernel are in a race.
_CLOSED = (asyncssh.DisconnectError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


@dataclass(frozen=True)
class SshLimits:
    """Time limits in seconds."""

    connect_s: float = 10.0
    login_s: float = 20.0
    keepalive_s: float = 15.0


class _Client(asyncssh.SSHClient):
    def __init__(self, decision: TrustDecision, identities: Identities, legacy: bool) -> None:
        self.decision = decision
        self._legacy = legacy
        self._offers, self._named = identities.offers(), identities.named
        self.problem: TransportError | None = None  # why no key could be offered
        self._accepted: asyncio.Event | None = None  # that of the login service, where the login does not wait for it

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        without_packet_log(conn)
        with_log_level_first(conn)
        with_one_keepalive_timer(conn)
        if not self._legacy:  # else it may use CBC
            without_ignored_packets(conn)
        if self._named:  # else the device may admit without a key
            with_signature_at_once(conn)
            self._accepted = with_login_before_accept(conn)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self.decision.trusts(key)

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self.decision.trusts_authority(key)

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        """Return the next key to try, None after the last one."""
        try:
            pair = await anext(self._offers, None)
        except TransportError as error:
            self.problem = error
            return None
        if self._accepted is not None and pair is not None and b"rsa" in pair.algorithm:
            await self._accepted.wait()
        return pair


class _Process(asyncssh.SSHClientProcess[bytes]):
    """A command on a device that is cut off when it sends much more than is read.

    asyncssh's own limit does not hold: whenever it passes on a piece of what it holds back from a slow reader, it lets the peer
    send a whole window more.  So its window is larger than `_UNREAD` here (it never holds anything back), and TCP alone slows an
    honest device down.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0  # bytes

    @property
    def flooded(self) -> bool:
        """Whether it was cut off."""
        return self.unread > _UNREAD

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Hold what came until it is read."""
        if self.flooded:
            return
        self.unread += len(data)
        super().data_received(data, datatype)
        if self.flooded:
            self.channel.abort()


class _SshChannel:
    """One exec channel."""

    def __init__(self, process: _Process, round_trip: float, host_key: str, line: Line) -> None:
        self.host_key = host_key
        self._process = process
        self._tail = b""
        self._seen = 0
        self._errors = asyncio.create_task(self._drain_stderr())
        self._window = SendWindow(process, round_trip)
        self._line = line

    @property
    def held_s(self) -> float:
        """Seconds for which limits of the bandwidth have held back what was to be sent."""
        return self._line.held_s

    async def write(self, data: bytes) -> None:
        try:
            for start in range(0, len(data), self._line.piece):
                piece = data[start : start + self._line.piece]
                await self._line.wait(len(piece))
                with self._window.sending(len(piece)):
                    self._process.stdin.write(piece)
                    await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise TransportError(finding("LF505", f"the connection broke while sending: {why(error)}")) from error

    async def end_input(self) -> None:
        try:
            self._process.stdin.write_eof()
        except (OSError, asyncssh.Error) as error:
            raise TransportError(finding("LF505", f"the connection broke while sending: {why(error)}")) from error

    async def read(self, limit: int) -> bytes:
        try:
            data = await self._process.stdout.read(limit)
        except (OSError, asyncssh.Error) as error:
            raise TransportError(finding("LF505", f"the connection broke while waiting: {why(error)}")) from error
        if self._process.flooded:
            raise TransportError(
                finding(
                    "LF507", f"the device sent more than {_UNREAD >> 20} MiB ahead of their reader, and was cut off"
                )
            )
        self._process.unread -= len(data)
        return data

    def stderr_tail(self) -> str:
        return self._tail.decode("utf-8", "replace")

    async def exit_code(self) -> int | None:
        """Wait for the exit code: it comes after the end of the output, and never where the connection broke."""
        await asyncio.wait([asyncio.ensure_future(self._process.wait_closed()), self._errors], timeout=_EXIT_S)
        code = self._process.exit_status
        return code if code is not None and code >= 0 else None  # asyncssh has -1 for a signal

    async def _drain_stderr(self) -> None:
        try:
            while chunk := await self._process.stderr.read(_READ):
                self._process.unread -= 0 if self._process.flooded else len(chunk)
                self._seen += len(chunk)
                self._tail = (self._tail + chunk)[-_STDERR_KEPT:]
                if self._seen > _STDERR_LIMIT:
                    self._process.close()
                    return
        except (OSError, asyncssh.Error):
            return  # the reader of stdout meets the same error and reports it

    async def close(self) -> None:
        self._errors.cancel()
        self._process.close()
        # Until the peer has confirmed, a cancelled device could leave its channel half open.
        await asyncio.wait([asyncio.ensure_future(self._process.wait_closed())], timeout=1)


class SshTransport:
    """Opens channels over asyncssh.  Host keys are always verified; `hops` gives the jump hosts of a device, first hop first."""

    def __init__(
        self,
        host_keys: HostTrust,
        hops: Callable[[Device], Sequence[Device | str]],
        limits: SshLimits | None = None,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self.host_keys = host_keys
        self._hops = hops
        self._limits = limits or SshLimits()
        self._bandwidth = bandwidth or Bandwidth()
        self._base = asyncssh.SSHClientConnectionOptions(
            config=None,
            known_hosts=([], [], []),  # nothing is trusted here: every key goes through TrustDecision
            encryption_algs=CIPHERS,
            kex_algs=KEX,
            compression_algs=["none"],
            connect_timeout=self._limits.connect_s,
            login_timeout=self._limits.login_s,
            keepalive_interval=self._limits.keepalive_s,
            preferred_auth=["publickey"],
            client_keys=None,  # `_Client` offers them
            gss_host=None,
            x509_trusted_certs=None,  # else each connection looks for them in the home folder
            x509_trusted_cert_paths=[],
        )
        self._jump_slots: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def open(self, device: Device, command: str) -> AsyncIterator[Channel]:
        """Connect to `device`, through its jump hosts, run `command` and yield its channel."""
        connections: list[asyncssh.SSHClientConnection] = []
        channel = None
        try:
            channel = await self._start(device, command, connections)
            yield channel
        finally:
            if channel is not None:
                await channel.close()
            for connection in reversed(connections):
                connection.abort()

    async def _start(
        self, device: Device, command: str, connections: list[asyncssh.SSHClientConnection]
    ) -> _SshChannel:
        hop = await self._hop(device, connections)
        connection = await self._connect(device, connections[-1] if connections else None, hop)
        connections.append(connection)
        began = time.monotonic()
        try:
            process = _Process()
            await connection.create_session(lambda: process, command, encoding=None, window=2 * _UNREAD)
            without_packet_log(process.channel)
            with_sealed_data(connection, process.channel)
        except (OSError, asyncssh.Error) as error:
            raise TransportError(finding("LF505", f"{device.name} would not start a command: {why(error)}")) from error
        shown = connection.get_server_host_key()
        round_trip = round_trip_s(connection, time.monotonic() - began)
        line = self._bandwidth.line(device, [hop_device(one, device) for one in self._hops(device)])
        return _SshChannel(process, round_trip, shown.get_fingerprint() if shown else "", line)

    async def shown_key(self, device: Device) -> asyncssh.SSHKey:
        """Return the host key that `device` shows, without a login on it; its jump hosts must be trusted.

        Raises: TransportError with LF501 when it cannot be reached.
        """
        connections: list[asyncssh.SSHClientConnection] = []
        where = f"{device.host}:{device.port}"
        try:
            await self._hop(device, connections)
            with proxy_of(device) as proxy:
                async with asyncio.timeout(self._limits.connect_s + self._limits.login_s):
                    key = await asyncssh.get_server_host_key(
                        device.host,
                        device.port,
                        tunnel=connections[-1] if connections else (),
                        proxy_command=proxy.command,
                        kex_algs=(*KEX, *LEGACY_KEX) if device.legacy else KEX,
                        config=None,
                    )
        except TimeoutError as error:
            raise TransportError(finding("LF501", f"{where} did not answer within the time limit")) from error
        except (OSError, asyncssh.Error) as error:
            raise TransportError(finding("LF501", f"{where}: {why(error)}")) from error
        finally:
            for connection in reversed(connections):
                connection.abort()
        if key is None:
            raise TransportError(finding("LF501", f"{where} showed no host key"))
        return key

    async def _hop(self, device: Device, connections: list[asyncssh.SSHClientConnection]) -> Device | None:
        """Connect to the jump hosts of `device`, one through the other, and return the last one."""
        before: Device | None = None
        for hop in (hop_device(h, device) for h in self._hops(device)):
            slots = self._jump_slots.setdefault(f"{hop.host}:{hop.port}", asyncio.Semaphore(8))
            async with slots:  # OpenSSH drops logins beyond about 10 that are not authenticated yet
                connections.append(await self._connect(hop, connections[-1] if connections else None, before))
            before = hop
        return before

    async def _connect(
        self, device: Device, tunnel: asyncssh.SSHClientConnection | None, hop: Device | None = None
    ) -> asyncssh.SSHClientConnection:
        """Return a connection that is logged in; `tunnel` goes through the jump host `hop`."""
        decision, identities = self.host_keys.decision(device), Identities(device)
        client, options = _Client(decision, identities, device.legacy), _options(device, decision)
        with proxy_of(device) as proxy:
            if proxy.command:
                options["proxy_command"] = proxy.command
            connection = await self._logged_in(device, tunnel, hop, client, options, identities, proxy)
        try:
            self.host_keys.keep_accepted(device, decision)
        except TransportError:
            connection.abort()
            raise
        return connection

    async def _logged_in(
        self,
        device: Device,
        tunnel: asyncssh.SSHClientConnection | None,
        hop: Device | None,
        client: _Client,
        options: dict[str, Any],
        identities: Identities,
        proxy: Proxy,
    ) -> asyncssh.SSHClientConnection:
        """Return a connection that is logged in, or raise the TransportError that says why there is none."""
        try:
            async with asyncio.timeout(self._limits.connect_s + self._limits.login_s):
                connection, _ = await asyncssh.create_connection(
                    lambda: client,
                    device.host,
                    device.port,
                    tunnel=tunnel or (),
                    config=None,  # `ssh_config` has read it; else asyncssh would, and it would win over the inventory
                    options=self._base,
                    **options,
                )
        except (OSError, asyncssh.Error) as error:  # TimeoutError is an OSError
            if client.problem is not None:
                raise client.problem from error
            found = proxy.failure(device, connection_failure(device, hop, client.decision, identities.offered, error))
            if found.code == "LF501" and isinstance(error, _CLOSED) and not device.ssh.proxy_command:
                ours = {"key exchange": options.get("kex_algs", KEX), "host key": options["server_host_key_algs"]}
                ours["encryption"] = options.get("encryption_algs", CIPHERS)
                found = await look_again(device, tunnel, ours, self._limits.connect_s) or found
            raise TransportError(found) from error
        finally:
            identities.close()
        return connection


def _options(device: Device, decision: TrustDecision) -> dict[str, Any]:
    """Return what one device's connection has of its own."""
    options: dict[str, Any] = {"server_host_key_algs": decision.algorithms}
    if device.user:
        options["username"] = device.user
    if decision.revoked:
        options["known_hosts"] = ([], [], list(decision.revoked))  # an authority's certificate may be for a revoked key
    if device.ssh.known_as:
        options["host_key_alias"] = device.ssh.known_as
    if device.legacy:
        options.update(encryption_algs=(*CIPHERS, *LEGACY_CIPHERS), kex_algs=(*KEX, *LEGACY_KEX))
    return options
