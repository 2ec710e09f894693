"""Peers that misbehave after a proper login: each is a real SSH server whose answer to a command is a lie or a trap.

Usage: `async with hostile("endless-frames") as peer: ...`; `peer.inventory_entry()` reaches it.  Behaviours:

- "garbage": random bytes without end, and no line break among the first 100 KB.
- "chatter": text lines without end, as a login script gone wild prints them, never the bootstrap's line.
- "endless-frames": the bootstrap's line, then well-formed progress events without end; no request is ever answered.
- "wrong-answers": the bootstrap's line, then well-formed answers to requests that nobody made.
- "hang": the login works, the command starts, and nothing is ever said.
- "hang-after-boot": the bootstrap's line, then nothing.
- "drop": half a frame, then the connection is cut.
- "huge-header": a frame that announces a header of almost 4 GiB.
- "huge-body": a frame that announces a body of 2^63 bytes.
- "not-json": a frame whose header is no JSON.
- "deep-json": a frame whose header nests 100,000 lists.
- "exit": ends at once with exit code 1 and a word on standard error.
- "deaf": never reads what is sent to it, and asks for the agent again and again.
- "big-events": the bootstrap's line, then events of just under 1 MiB without end.
- "many-events": events of the largest size that an agent may send, without end.
- any name in `lying_agent.LIES`: answers every request, and says of itself what no agent would.

`peer.sent` counts the bytes that it got rid of, `peer.read` those it took: what a bounded controller let through.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from tests.fakes import lying_agent

__all__ = ["BEHAVIOURS", "HostilePeer", "hostile"]

Session = asyncssh.SSHServerProcess[bytes]


def frame(header: object, body: bytes = b"") -> bytes:
    """Return one well-formed frame."""
    data = json.dumps(header).encode()
    return prefix(len(data), len(body)) + data + body


def prefix(header_size: int, body_size: int) -> bytes:
    """Return a frame's first 16 bytes."""
    return struct.pack(">4sIQ", b"LFF1", header_size, body_size)


@dataclass
class HostilePeer:
    """A running hostile server."""

    behaviour: str
    port: int
    user: str
    key_path: Path
    host_public_key: str
    host: str = "127.0.0.1"
    sent: int = 0
    read: int = 0
    commands: list[str] = field(default_factory=list)

    def inventory_entry(self) -> dict[str, object]:
        """Return its keys in an inventory file."""
        keys = {"user": self.user, "key": str(self.key_path), "host_key": self.host_public_key}
        return {"host": self.host, "port": self.port, **keys}

    async def say(self, session: Session, data: bytes) -> None:
        """Send bytes as far as the client's window lets them through."""
        session.stdout.write(data)
        await session.stdout.drain()
        self.sent += len(data)


def _boot_line(session: Session, state: str) -> bytes:
    """Return the bootstrap's answer; its nonce is the command's last word."""
    words = shlex.split(session.command or "x")
    return f"LFBOOT {words[-1]} {state}\n".encode()


async def _garbage(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, os.urandom(100_000).replace(b"\n", b"\0"))
    while True:
        await peer.say(session, os.urandom(32_768))


async def _chatter(peer: HostilePeer, session: Session) -> None:
    while True:
        await peer.say(session, b"Welcome to the camera. Have a nice day.\n" * 500)


async def _endless_frames(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have"))
    while True:
        await peer.say(session, frame({"event": "progress", "text": "nearly there"}) * 200)


async def _wrong_answers(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have"))
    for number in range(1_000_000, 1_000_100):
        await peer.say(session, frame({"re": number, "result": {"verified": True}}))
    await asyncio.Event().wait()


async def _hang(peer: HostilePeer, session: Session) -> None:
    await asyncio.Event().wait()


async def _hang_after_boot(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have"))
    await asyncio.Event().wait()


async def _drop(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have") + prefix(400, 0) + b'{"re": 1, "res')
    session.channel.get_connection().abort()


async def _huge_header(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have") + prefix(0xFFFF_FFF0, 0))
    while True:
        await peer.say(session, b" " * 32_768)


async def _huge_body(peer: HostilePeer, session: Session) -> None:
    header = b'{"re": 1, "result": {}}'
    await peer.say(session, _boot_line(session, "have") + prefix(len(header), 1 << 63) + header)
    while True:
        await peer.say(session, b" " * 32_768)


async def _not_json(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have") + prefix(12, 0) + b"\xff\xfe{{{{{{{{{{")
    await asyncio.Event().wait()


async def _deep_json(peer: HostilePeer, session: Session) -> None:
    deep = b'{"re": 1, "result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    await peer.say(session, _boot_line(session, "have") + prefix(len(deep), 0) + deep)
    await asyncio.Event().wait()


async def _exit(peer: HostilePeer, session: Session) -> None:
    session.stderr.write(b"this account is not available\n")
    session.exit(1)


async def _deaf(peer: HostilePeer, session: Session) -> None:
    session.channel.pause_reading()
    await peer.say(session, _boot_line(session, "need"))
    while True:
        await asyncio.sleep(0.2)
        await peer.say(session, _boot_line(session, "need"))


async def _big_events(peer: HostilePeer, session: Session) -> None:
    await peer.say(session, _boot_line(session, "have"))
    event = frame({"event": "progress", "text": "x" * ((1 << 20) - 100)})
    while True:
        await peer.say(session, event)


async def _many_events(peer: HostilePeer, session: Session) -> None:
    """Frames of 4 KiB, the most that an event may have: each is read, and more come while the controller is at it."""
    await peer.say(session, _boot_line(session, "have"))
    event = frame({"event": "progress", "text": "x" * 4000}) * 256
    while True:
        await peer.say(session, event)


async def _lie(peer: HostilePeer, session: Session) -> None:
    """Answer each request; what comes before the first frame is the loader."""
    await peer.say(session, _boot_line(session, "have"))
    came, frames = b"", lying_agent.decoder()
    while b"LFF1" not in came:
        came += await session.stdin.read(65_536)
    data = came[came.index(b"LFF1") :]
    while data:
        frames.feed(data)
        while (header := frames.next_header()) is not None:
            if "op" in header:
                await peer.say(session, lying_agent.answer_to(peer.behaviour, header))
        data = await session.stdin.read(65_536)


BEHAVIOURS: dict[str, Callable[[HostilePeer, Session], Awaitable[None]]] = {
    "garbage": _garbage,
    "chatter": _chatter,
    "endless-frames": _endless_frames,
    "wrong-answers": _wrong_answers,
    "hang": _hang,
    "hang-after-boot": _hang_after_boot,
    "drop": _drop,
    "huge-header": _huge_header,
    "huge-body": _huge_body,
    "not-json": _not_json,
    "deep-json": _deep_json,
    "exit": _exit,
    "deaf": _deaf,
    "big-events": _big_events,
    "many-events": _many_events,
}


async def _drain(peer: HostilePeer, session: Session) -> None:
    """Take what the client sends, so that it is never the client's push that stands still."""
    while data := await session.stdin.read(65_536):
        peer.read += len(data)


async def _serve(peer: HostilePeer, session: Session) -> None:
    peer.commands.append(session.command or "")
    lies = peer.behaviour in lying_agent.LIES
    reading = None if lies or peer.behaviour == "deaf" else asyncio.create_task(_drain(peer, session))
    acting = asyncio.ensure_future(BEHAVIOURS.get(peer.behaviour, _lie)(peer, session))
    gone = asyncio.create_task(session.channel.wait_closed())
    with suppress(asyncio.CancelledError):
        await asyncio.wait([acting, gone], return_when=asyncio.FIRST_COMPLETED)
    tasks = [task for task in (reading, acting, gone) if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def hostile(behaviour: str, folder: Path) -> AsyncIterator[HostilePeer]:
    """Run one hostile server on a free loopback port; its client key is written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key_path = folder / "hostile_ed25519"
    client_key = asyncssh.generate_private_key("ssh-ed25519")
    key_path.write_bytes(client_key.export_private_key())
    key_path.chmod(0o600)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    public = b" ".join(host_key.export_public_key().split()[:2]).decode()
    peer = HostilePeer(behaviour, 0, "mallory", key_path, public)
    connections: list[asyncssh.SSHServerConnection] = []

    class Remember(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

    async def serve(session: Session) -> None:
        await _serve(peer, session)

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Remember,
        server_host_keys=[host_key],
        authorized_client_keys=asyncssh.import_authorized_keys(client_key.export_public_key().decode()),
        process_factory=serve,
        encoding=None,
        line_editor=False,
    )
    peer.port = server.get_port()
    try:
        yield peer
    finally:
        server.close()
        for connection in connections:
            connection.abort()
