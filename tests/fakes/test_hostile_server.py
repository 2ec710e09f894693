"""The hostile peers do what they say, so that a test that survives them has survived something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from tests.fakes.hostile_server import BEHAVIOURS, HostilePeer, hostile

FIRST = {
    "chatter": b"Welcome to the camera.",
    "endless-frames": b"LFBOOT n0nce have\nLFF1",
    "wrong-answers": b"LFBOOT n0nce have\nLFF1",
    "hang": b"",
    "hang-after-boot": b"LFBOOT n0nce have\n",
    "drop": b"LFBOOT n0nce have\nLFF1\x00\x00\x01\x90",
    "huge-header": b"LFBOOT n0nce have\nLFF1\xff\xff\xff\xf0",
    "huge-body": b"LFBOOT n0nce have\nLFF1\x00\x00\x00\x17\x80\x00\x00",
    "not-json": b"LFBOOT n0nce have\nLFF1\x00\x00\x00\x0c",
    "deep-json": b"LFBOOT n0nce have\nLFF1\x00\x03",
    "exit": b"",
    "deaf": b"LFBOOT n0nce need\n",
    "garbage": b"",
    "big-events": b"LFBOOT n0nce have\nLFF1\x00\x0f",
    "many-events": b"LFBOOT n0nce have\nLFF1\x00\x00\x0f",
}


async def first_bytes(peer: HostilePeer, count: int) -> bytes:
    key = asyncssh.import_public_key(peer.host_public_key)
    async with asyncssh.connect(
        peer.host,
        peer.port,
        username=peer.user,
        client_keys=[str(peer.key_path)],
        known_hosts=([key], [], []),
        config=None,
    ) as connection:
        session = await connection.create_process("exec /bin/sh -c x litefleet '' n0nce", encoding=None)
        try:
            return await asyncio.wait_for(session.stdout.readexactly(count), 1)
        except asyncio.IncompleteReadError as short:
            return short.partial
        except TimeoutError:
            return b""


@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
async def test_a_hostile_peer_begins_as_described(behaviour: str, tmp_path: Path) -> None:
    async with hostile(behaviour, tmp_path) as peer:
        wanted = FIRST[behaviour]
        assert await first_bytes(peer, max(1, len(wanted))) == wanted or behaviour == "garbage"
        assert peer.commands == ["exec /bin/sh -c x litefleet '' n0nce"]


async def test_what_an_endless_peer_sends_is_bounded_by_the_reader(tmp_path: Path) -> None:
    async with hostile("garbage", tmp_path) as peer:
        assert len(await first_bytes(peer, 200_000)) == 200_000
        assert peer.sent < 8 << 20
