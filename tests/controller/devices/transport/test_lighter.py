"""What asyncssh sends and logs for each packet, over real connections to a server of its own."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import asyncssh
import pytest
from litefleet_controller.devices.transport.lighter import (
    with_log_level_first,
    with_login_before_accept,
    with_one_keepalive_timer,
    with_signature_at_once,
    without_ignored_packets,
    without_packet_log,
)

SENT = bytes(range(256)) * 4096
MSG_IGNORE = 2
MSG_SERVICE_REQUEST = 5
MSG_SERVICE_ACCEPT = 6
MSG_USERAUTH_REQUEST = 50
KINDS: Counter[int] = Counter()


class Server(asyncssh.SSHServer):
    """Accepts anybody, and counts the packets that come."""

    def connection_made(self, conn: Any) -> None:
        conn.log_received_packet = lambda kind, *rest, **more: KINDS.update([kind])

    def begin_auth(self, username: str) -> bool:
        return False


async def received(light: bool) -> tuple[bytes, Counter[int]]:
    """Send 1 MiB to a command that returns it, and return (what came back, packets by kind)."""

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            if light:
                without_ignored_packets(conn)

    async def echo(process: Any) -> None:
        process.stdout.write(await process.stdin.read())
        process.exit(0)

    KINDS.clear()
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], process_factory=echo, encoding=None
    )
    async with server:
        connection, _ = await asyncssh.create_connection(
            Client, "127.0.0.1", server.get_port(), known_hosts=None, config=None, agent_path=None, client_keys=None
        )
        async with connection:
            done = await connection.run("echo", input=SENT, encoding=None)
    assert isinstance(done.stdout, bytes)
    return done.stdout, Counter(KINDS)


def test_no_empty_packet_goes_ahead_of_each_packet() -> None:
    heavy, before = asyncio.run(received(light=False))
    light, after = asyncio.run(received(light=True))
    assert heavy == light == SENT
    assert before[MSG_IGNORE] > 30, "asyncssh sends none any more: `without_ignored_packets` can go"
    assert after[MSG_IGNORE] == 0


def test_packets_are_logged_only_where_somebody_reads_them(caplog: pytest.LogCaptureFixture) -> None:
    class Sender:
        def log_sent_packet(self, *packet: object) -> str:
            return "logged"

        log_received_packet = log_sent_packet

    watched: Any = Sender()
    with caplog.at_level(logging.DEBUG, "asyncssh"):
        without_packet_log(watched)
    assert watched.log_sent_packet() == "logged"
    quiet: Any = Sender()
    with caplog.at_level(logging.ERROR, "asyncssh"):
        without_packet_log(quiet)
    assert quiet.log_sent_packet() is quiet.log_received_packet() is None


async def login_requests(light: bool, known: bool) -> int:
    """Return how many login requests a login took whose second of two keys the server knows, or whose first."""
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
    right = keys[0 if known else 1]

    class Strict(Server):
        def begin_auth(self, username: str) -> bool:
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return key.public_data == right.public_data

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            if light:
                with_signature_at_once(conn)

    KINDS.clear()
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Strict, server_host_keys=[keys[0]])
    async with server:
        connection, _ = await asyncssh.create_connection(
            Client, "127.0.0.1", server.get_port(), known_hosts=None, config=None, agent_path=None, client_keys=keys
        )
        connection.abort()
    return KINDS[MSG_USERAUTH_REQUEST]


def test_a_login_with_a_key_of_this_process_takes_one_request() -> None:
    assert asyncio.run(login_requests(light=False, known=True)) == 3, (
        "asyncssh asks less: `with_signature_at_once` can go"
    )
    assert asyncio.run(login_requests(light=True, known=True)) == 1
    assert asyncio.run(login_requests(light=True, known=False)) == 2  # the first key is rejected, the second one is not


async def login_order(light: bool, count: int) -> list[str]:
    """Return how a login went in which the server knows the last of `count` keys: what the client sent and received."""
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(count)]
    seen: list[str] = []
    names = {MSG_SERVICE_REQUEST: "service", MSG_SERVICE_ACCEPT: "accepted", MSG_USERAUTH_REQUEST: "login"}

    class Strict(asyncssh.SSHServer):
        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return key.public_data == keys[-1].public_data

        def public_key_auth_supported(self) -> bool:
            return True

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: Any) -> None:
            def note(kind: int, *rest: object, **more: object) -> None:
                seen.extend([names[kind]] if kind in names else [])

            conn.log_sent_packet = conn.log_received_packet = note
            with_signature_at_once(conn)
            if light:
                with_login_before_accept(conn)

    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Strict, server_host_keys=[keys[0]])
    async with server:
        connection, _ = await asyncssh.create_connection(
            Client, "127.0.0.1", server.get_port(), known_hosts=None, config=None, agent_path=None, client_keys=keys
        )
        connection.abort()
    return seen


def test_a_login_does_not_wait_for_the_service() -> None:
    assert asyncio.run(login_order(light=False, count=1)) == ["service", "accepted", "login"]
    assert asyncio.run(login_order(light=True, count=1)) == ["service", "login", "accepted"]
    assert asyncio.run(login_order(light=True, count=3)) == ["service", "login", "accepted", "login", "login"]


async def keepalive_timers(light: bool) -> tuple[int, str]:
    """Return how many keepalive timers a connection had while 20 answers came, and what it said once no more came."""
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            if light:
                with_one_keepalive_timer(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    class Silent(Server):
        def connection_made(self, conn: Any) -> None:
            super().connection_made(conn)
            servers.append(conn)

    servers: list[Any] = []
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Silent, server_host_keys=[key])
    async with server:
        opened, _ = await asyncssh.create_connection(
            Client,
            "127.0.0.1",
            server.get_port(),
            known_hosts=None,
            config=None,
            agent_path=None,
            client_keys=None,
            keepalive_interval=0.3,
            keepalive_count_max=1,
        )
        connection: Any = opened
        timers = {id(connection._keepalive_timer): connection._keepalive_timer}
        for _ in range(20):
            await connection._make_global_request(b"nothing@example.org")
            timers[id(connection._keepalive_timer)] = connection._keepalive_timer
        servers[0]._transport.pause_reading()
        reason = await asyncio.wait_for(lost, 30)
        servers[0].abort()
    return len(timers), str(reason)


def test_a_keepalive_sets_no_timer_for_each_packet_and_still_ends_a_silent_connection() -> None:
    many, reason = asyncio.run(keepalive_timers(light=False))
    assert many > 15, "asyncssh sets one timer: `with_one_keepalive_timer` can go"
    few, same = asyncio.run(keepalive_timers(light=True))
    assert few < 10
    assert same == reason == "Server not responding to keepalive"


def test_a_line_of_the_log_is_made_only_where_it_is_read(caplog: pytest.LogCaptureFixture) -> None:
    class Connection:
        """As much of one as the logger needs."""

        def __init__(self) -> None:
            self._logger = asyncssh.logging.SSHLogger()

    class Value:
        """Counts how often it is written as text."""

        texts = 0

        def __str__(self) -> str:
            Value.texts += 1
            return "value"

    connection = Connection()
    with_log_level_first(connection)
    channel = connection._logger.get_child(context="chan=0")
    for number, logger in enumerate((connection._logger, channel)):
        with caplog.at_level(logging.WARNING, "asyncssh"):
            logger.info("an %s", [Value()])
            assert Value.texts == number
            logger.warning("a %s", [Value()])
    assert Value.texts == 2
    assert [record.getMessage() for record in caplog.records] == ["a value", "[chan=0] a value"]
