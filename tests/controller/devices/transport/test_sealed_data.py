"""Data sealed by litefleet arrives as asyncssh's own, over real connections to an asyncssh server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import asyncssh
import pytest
from litefleet_controller.devices.transport import sealed_data
from litefleet_controller.devices.transport.sealed_data import with_sealed_data

SIZES = (1, 11, 12, 32768, 32769, 100_000, 131072, 1_000_003)


class Server(asyncssh.SSHServer):
    """Accepts anybody."""

    def begin_auth(self, username: str) -> bool:
        return False


async def sent(*, cipher: str = "aes128-gcm@openssh.com", **options: Any) -> tuple[bytes, bytes, int]:
    """Send pieces of several sizes, of which one is of another kind of packet; return (sent, received, keys that were made)."""
    received, keys = bytearray(), 0

    async def take(process: Any) -> None:
        while data := await process.stdin.read(1 << 20):
            received.extend(data)
        process.exit(0)

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], process_factory=take, encoding=None
    )
    async with server:
        connection, _ = await asyncssh.create_connection(
            asyncssh.SSHClient,
            "127.0.0.1",
            server.get_port(),
            known_hosts=None,
            config=None,
            agent_path=None,
            client_keys=None,
            encryption_algs=[cipher],
            **options,
        )
        make_keys = connection.send_newkeys  # type: ignore[attr-defined]

        def send_newkeys(*given: Any) -> Any:
            nonlocal keys
            keys += 1
            return make_keys(*given)

        connection.send_newkeys = send_newkeys  # type: ignore[attr-defined]
        async with connection:
            process = await connection.create_process(encoding=None)
            with_sealed_data(connection, process.channel)
            everything = b""
            for size in SIZES:
                piece = os.urandom(size)
                everything += piece
                process.stdin.write(piece)
                await process.stdin.drain()
            process.stdin.write_eof()
            await process.wait()
    return everything, bytes(received), keys


def test_what_is_sealed_arrives_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[int] = []
    seal = sealed_data._Sender._sealed

    def counted(self: Any, data: memoryview, count: int) -> bytearray:
        whole.append(count)
        return seal(self, data, count)

    monkeypatch.setattr(sealed_data._Sender, "_sealed", counted)
    everything, received, _ = asyncio.run(sent())
    assert sum(whole) == sum(SIZES), "asyncssh sent the data itself"
    assert hashlib.sha256(received).digest() == hashlib.sha256(everything).digest()


def test_new_keys_in_the_middle_are_used() -> None:
    everything, received, keys = asyncio.run(sent(rekey_bytes=200_000))
    assert keys >= 3
    assert received == everything


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-ctr"])
def test_another_cipher_is_left_to_asyncssh(cipher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_data._Sender, "_sealed", lambda *given: pytest.fail("sealed as if it were AES-GCM"))
    everything, received, _ = asyncio.run(sent(cipher=cipher))
    assert received == everything


def test_an_asyncssh_that_sends_in_another_way_is_left_alone() -> None:
    class Other:
        """Has none of the attributes."""

    channel = Other()
    with_sealed_data(Other(), channel)
    assert not vars(channel)
