"""Devices that this process serves itself: an SSH server by asyncssh, for machines without sshd, and a silent listener."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Protocol

import asyncssh

from .base import HOST, Place
from .process_tree import descendants

_CHUNK = 64 * 1024  # bytes in flight per direction, beyond the SSH window


class _Reader(Protocol):
    async def read(self, n: int) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes) -> object: ...

    async def drain(self) -> None: ...


class InProcess:
    """A running in-process SSH server."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._children: set[asyncio.Future[asyncio.subprocess.Process]] = set()

    @property
    def pid(self) -> int | None:
        """None: this process serves the device."""
        return None

    async def listen(self, port: int) -> None:
        """Start to accept connections on `port`; OSError when it is in use."""
        self._acceptor = await asyncssh.listen(
            HOST,
            port,
            server_factory=lambda: _Connections(self._connections),
            server_host_keys=[str(self._place.host_key)],
            authorized_client_keys=str(self._place.authorized_keys),
            process_factory=self._serve,
            encoding=None,
            line_editor=False,
            allow_scp=False,
            password_auth=False,
            kbdint_auth=False,
        )

    async def stop(self) -> None:
        """Close the listener, cut every connection, and kill their processes."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in list(self._connections):
            connection.abort()
        for child in list(self._children):
            await _end(await child)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run one session's command with sh, and connect its three streams to the channel."""
        argv = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
        # Registered while it still starts, so that stop() finds it at any moment.
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(self._place.env),
                cwd=self._place.home,
                start_new_session=True,
            )
        )
        self._children.add(starting)
        child = await asyncio.shield(starting)
        try:
            await _connect_streams(process, child)
        finally:
            await _end(child)
            self._children.discard(starting)


class _Connections(asyncssh.SSHServer):
    """Keeps the set of open connections of one device."""

    def __init__(self, known: set[asyncssh.SSHServerConnection]) -> None:
        self._known = known
        self._own: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._own = conn
        self._known.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._own is not None:
            self._known.discard(self._own)


async def _connect_streams(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    into = asyncio.create_task(_feed(process.stdin, child.stdin))
    outs = [
        asyncio.create_task(_pump(child.stdout, process.stdout)),
        asyncio.create_task(_pump(child.stderr, process.stderr)),
    ]
    closed = asyncio.create_task(process.channel.wait_closed())
    try:
        done = asyncio.create_task(asyncio.wait(outs))
        await asyncio.wait([done, closed], return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        if not closed.done():
            code = await child.wait()
            _report_exit(process, code)
    finally:
        for task in (into, closed, *outs):
            task.cancel()
        await asyncio.gather(into, closed, *outs, return_exceptions=True)


def _report_exit(process: asyncssh.SSHServerProcess[bytes], code: int) -> None:
    if code >= 0:
        process.exit(code)
    else:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))


async def _feed(reader: _Reader, writer: asyncio.StreamWriter) -> None:
    await _pump(reader, writer)
    with contextlib.suppress(OSError):
        writer.close()


async def _pump(reader: _Reader, writer: _Writer) -> None:
    """Copy until the end of the input or until either side closes."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


async def _end(child: asyncio.subprocess.Process) -> None:
    """Kill a command and its descendants."""
    if child.returncode is not None:
        return
    pids = [*descendants(child.pid), child.pid]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    await child.wait()


async def start_asyncssh(place: Place, port: int) -> InProcess:
    """Start an in-process SSH server on `port`; OSError when the port is in use."""
    running = InProcess(place)
    await running.listen(port)
    return running


class Silent:
    """A device that accepts connections and sends nothing: a hung sshd, or a wrong port."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def pid(self) -> int | None:
        """None: this process serves the device."""
        return None

    async def listen(self, port: int) -> None:
        """Start to accept connections on `port`."""
        self._server = await asyncio.start_server(self._serve, HOST, port)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                while await reader.read(4096):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def start_silent(port: int) -> Silent:
    """Start a silent listener on `port`; OSError when the port is in use."""
    silent = Silent()
    await silent.listen(port)
    return silent
