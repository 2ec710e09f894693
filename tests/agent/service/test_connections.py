"""The service's callers over a real socket: what a hostile one does, an honest one does not notice."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from litefleet_agent.client import Client, ServiceError
from litefleet_agent.protocol import encode
from litefleet_agent.service.connections import IN_FLIGHT, MOST_HEADER

from tests.agent.support.echo_process import AGENT, EchoService, answer, ask, closed, read
from tests.conftest import lacking

MIB = 1 << 20


@pytest.fixture
def service(tmp_path):
    with EchoService(tmp_path, io_limit_s=0.4, connections=16, queue_bytes=8 * MIB) as running:
        yield running


class Honest(threading.Thread):
    """Asks one request after the other, until told to stop, and keeps what was wrong and how long the slowest took."""

    def __init__(self, service):
        super().__init__()
        self.connection = service.connect()
        self.done, self.asked, self.wrong, self.slowest = threading.Event(), 0, [], 0.0

    def run(self):
        while not self.done.is_set():
            self.asked += 1
            body = bytes([self.asked % 256]) * (self.asked % 7 * 1000)
            begun = time.monotonic()
            try:
                self.connection.sendall(ask(self.asked, body=body))
                header, came = answer(self.connection)
            except (OSError, EOFError) as error:
                self.wrong.append(repr(error))
                return
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if header["re"] != self.asked or came != body:
                self.wrong.append(header)
            time.sleep(0.001)


@pytest.fixture
def honest(service):
    """Three honest callers; all that they asked must have been answered, and soon."""
    callers = [Honest(service) for _ in range(3)]
    for caller in callers:
        caller.start()
    until(lambda: all(caller.asked > 1 or caller.wrong for caller in callers))  # who never asked may be let go
    yield callers
    until(lambda: all(caller.asked > 10 or caller.wrong for caller in callers))
    for caller in callers:
        caller.done.set()
        caller.join(15)
        caller.connection.close()
    assert [caller.wrong for caller in callers] == [[], [], []]
    assert max(caller.slowest for caller in callers) < 3.0


def until(condition, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_answer_comes_back_with_its_number_and_body(service):
    with service.connect() as connection:
        connection.sendall(ask(7, body=b"hello"))
        header, body = answer(connection)
    assert (header["re"], body, header["result"]["outputs"][0]["dims"]) == (7, b"hello", [5])


def test_the_service_knows_who_calls(service):
    assert service.status()["you"] == [os.getpid(), os.getuid(), os.getgid()]


def test_requests_sent_ahead_are_answered_in_any_order(service):
    with service.connect() as connection:
        connection.sendall(ask(1, "slow", b"a", delay_ms=100) + ask(2, body=b"b") + ask(3, "slow", b"c", delay_ms=20))
        got = [answer(connection) for _ in range(3)]
    assert [(header["re"], body) for header, body in got] == [(2, b"b"), (3, b"c"), (1, b"a")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 100000,
        struct.pack(">4sIQ", b"LFF1", MOST_HEADER + 1, 0),
        struct.pack(">4sIQ", b"LFF1", 0xFFFFFFFF, 0),
        struct.pack(">4sIQ", b"LFF1", 2, 1 << 63) + b"{}",
        struct.pack(">4sIQ", b"LFF1", 2, 0) + b"[]",
        struct.pack(">4sIQ", b"LFF1", 5000, 0) + b"[" * 5000,
    ],
    ids=["http", "zeros", "header", "longest-header", "longest-body", "list", "nested"],
)
def test_what_is_no_frame_gets_one_error_and_is_closed(service, honest, data):
    with service.connect() as connection:
        connection.sendall(data)
        header, _ = answer(connection)
        assert header["re"] is None
        assert header["error"]["code"] == "bad-request"
        assert closed(connection)


@pytest.mark.parametrize("number", [None, "1", -1, 1.5, True, 1 << 60, float("nan")])
def test_a_request_without_a_sound_number_is_told_and_the_next_is_served(service, number):
    with service.connect() as connection:
        connection.sendall(encode({"id": number, "op": "infer"}, 5) + b"abcde" + ask(2, body=b"x"))
        got = {header["re"]: header for header, _ in (answer(connection), answer(connection))}
    assert got[None]["error"]["code"] == "bad-request"
    assert "result" in got[2]


def test_what_is_refused_by_its_header_is_answered_before_its_body_came(service, honest):
    with service.connect() as connection:
        whole = ask(1, "unwanted", b"x" * 7 * MIB)
        connection.sendall(whole[:300])
        header, _ = answer(connection)
        assert header == {"re": 1, "error": {"code": "bad-input", "message": f"nobody wants {7 * MIB} bytes"}}
        connection.sendall(whole[300:] + ask(2, body=b"y"))
        assert answer(connection)[1] == b"y"


def test_a_body_over_the_limit_is_refused_and_not_kept(service, honest):
    before = service.status()["peak_kb"]
    with service.connect() as connection:
        connection.sendall(encode({"id": 1, "op": "infer"}, 60 * MIB))
        assert answer(connection)[0]["error"]["code"] == "too-large"
        for _ in range(60):
            connection.sendall(b"x" * MIB)
        connection.sendall(ask(2, body=b"y"))
        assert answer(connection)[1] == b"y"
    assert service.status()["peak_kb"] - before < 16 << 10


def test_liars_about_their_size_cost_nothing(service, honest):
    before = service.status()["peak_kb"]
    with contextlib.ExitStack() as stack:
        liars = [stack.enter_context(service.connect()) for _ in range(8)]
        for liar in liars:
            liar.sendall(encode({"id": 1, "op": "infer"}, 8 * MIB) + b"x" * 100)
        for liar in liars:
            header, _ = answer(liar)
            assert (header["re"], header["error"]["code"]) == (None, "timed-out")
            assert closed(liar)
    assert service.status()["peak_kb"] - before < 8 << 10


def test_unfinished_bodies_hold_no_more_together_than_one_may(tmp_path):
    with EchoService(tmp_path, connections=16, queue_bytes=8 * MIB) as service, contextlib.ExitStack() as stack:
        before = service.status()["peak_kb"]
        greedy = [stack.enter_context(service.connect()) for _ in range(10)]
        for caller in greedy:
            caller.sendall(encode({"id": 1, "op": "infer"}, 8 * MIB) + b"x" * 6 * MIB)
        with service.connect() as small:
            small.sendall(ask(1, body=b"s" * 1000))
            assert answer(small)[1] == b"s" * 1000
        answered = [answer(caller)[0]["error"]["code"] for caller in greedy[:9]]
        assert answered == ["busy"] * 9
        for caller in greedy:  # those that were refused are read past, and go on
            caller.sendall(b"x" * 2 * MIB + ask(2, body=b"y"))
        for caller in greedy[:9]:
            assert answer(caller)[1] == b"y"
        assert len(answer(greedy[9])[1]) == 8 * MIB
        assert service.status()["peak_kb"] - before < 48 << 10


def test_slow_writers_are_let_go_in_time(service, honest):
    def trickle(connection, data):
        with contextlib.suppress(OSError):
            for byte in data:
                connection.send(bytes([byte]))
                if service_done.wait(0.03):
                    return

    service_done = threading.Event()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(service.connect()) for _ in range(5)]
        threads = [threading.Thread(target=trickle, args=(c, ask(1, body=b"x" * 9000))) for c in slow]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            for connection in slow:
                assert answer(connection)[0]["error"]["code"] == "timed-out"
        finally:
            service_done.set()
        assert time.monotonic() - begun < 3.0
        for thread in threads:
            thread.join(5)
    until(lambda: service.status()["callers"] == 4)


def test_who_does_not_read_is_let_go_and_holds_little(service, honest):
    before = service.status()["peak_kb"]
    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(service.connect()) for _ in range(4)]
        for connection in deaf:
            connection.sendall(b"".join(encode({"id": i, "op": "big", "bytes": MIB}) for i in range(100)))
        until(lambda: service.status()["gone"] >= 4 and service.status()["callers"] == 4)
    assert service.status()["peak_kb"] - before < (4 * (IN_FLIGHT + 1) + 8) << 10


def test_a_flood_of_requests_is_taken_at_the_readers_pace(service, honest):
    many = 20000
    with service.connect() as connection:
        flood = b"".join(encode({"id": i, "op": "health"}) for i in range(many))
        sender = threading.Thread(target=connection.sendall, args=(flood,))
        sender.start()
        assert [answer(connection)[0]["re"] for _ in range(many)] == list(range(many))
        sender.join(5)


def test_no_more_than_so_many_are_in_flight(service):
    with service.connect() as connection, service.connect() as other:
        served = service.status()["served"]
        connection.sendall(b"".join(ask(i, "never") for i in range(IN_FLIGHT + 5)))
        other.sendall(ask(1))
        answer(other)
        until(lambda: service.status()["served"] >= served + IN_FLIGHT + 2)
        now = service.status()["served"]
        assert [service.status()["served"] for _ in range(3)] == [now + 1, now + 2, now + 3]


def test_a_half_closed_caller_gets_its_answers(service):
    with service.connect() as connection:
        connection.sendall(b"".join(ask(i, "slow", b"z", delay_ms=30) for i in range(20)))
        connection.shutdown(socket.SHUT_WR)
        assert sorted(answer(connection)[0]["re"] for _ in range(20)) == list(range(20))
        assert closed(connection)


@pytest.mark.parametrize("requests", [1, IN_FLIGHT, IN_FLIGHT + 5])
def test_a_caller_that_goes_while_it_waits_is_noticed(service, requests):
    with service.connect() as connection:
        connection.sendall(b"".join(ask(i, "never") for i in range(requests)))
        until(lambda: service.status()["callers"] == 2)
    until(lambda: service.status()["gone"] >= 1 and service.status()["callers"] == 1)


def test_a_half_frame_and_then_nothing_more(service, honest):
    with service.connect() as connection:
        connection.sendall(ask(1, body=b"abc")[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert closed(connection)


def test_a_thousand_connections_keep_nobody_out(service, honest):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        lacking("1200 open files at once (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(service.connect()) for _ in range(1000)]
            with service.connect() as late:  # there is room: those that never asked are let go
                late.sendall(ask(1, body=b"late"))
                assert answer(late)[1] == b"late"
            assert service.status()["callers"] <= 16 + 4
            assert sum(ended(connection) for connection in crowd) >= 980
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: freed(service))


def ended(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


def test_those_who_wait_for_an_answer_are_not_let_go(service):
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(service.connect()) for _ in range(20)]
        for connection in crowd:
            connection.sendall(ask(1, "never"))
        until(lambda: full(service))
        with service.connect() as late:
            assert answer(late)[0]["error"]["code"] == "busy"
            assert closed(late)
        assert not any(ended(connection) for connection in crowd)
        crowd[0].close()
        until(lambda: not full(service))


def full(service):
    try:
        service.status()
    except (KeyError, ConnectionError):  # the error frame of a full house, which may close before the question is sent
        return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to call as another user")
def test_the_user_with_most_connections_makes_room(tmp_path):
    code = (
        "import os, socket, sys; c = socket.socket(socket.AF_UNIX); os.chdir(sys.argv[1]); os.setgid(12345)\n"
        "os.setuid(12345); c.connect('s.sock'); print('in', flush=True); sys.stdin.readline()\n"
        "c.sendall(bytes.fromhex(sys.argv[2])); print(c.recv(4)); c.close()"
    )
    with EchoService(tmp_path, connections=16, users=[12345]) as service, contextlib.ExitStack() as stack:
        os.chmod(tmp_path, 0o755)
        argv = [sys.executable, "-c", code, str(tmp_path), ask(1, body=b"other").hex()]
        other = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)
        stack.callback(other.kill)
        assert other.stdout.readline() == "in\n"
        crowd = [stack.enter_context(service.connect()) for _ in range(60)]
        until(lambda: sum(ended(connection) for connection in crowd) >= 40)
        assert other.communicate("\n", 10)[0] == "b'LFF1'\n"


def freed(service):
    try:
        return service.status()["callers"] == 4
    except KeyError:  # the error frame of a full house
        return False


def test_no_descriptors_left_is_waited_out_without_spinning(tmp_path):
    with EchoService(tmp_path, descriptors=12) as service:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(service.connect())
            for _ in range(30):
                stack.enter_context(service.connect())
            first.sendall(encode({"id": 1, "op": "status"}))
            before = answer(first)[0]["result"]["cpu_s"]
            time.sleep(0.7)  # longer than one pause
            first.sendall(encode({"id": 2, "op": "status"}))
            assert answer(first)[0]["result"]["cpu_s"] - before < 0.3
        assert service.status()["callers"] == 1


def test_silent_callers_are_let_go(tmp_path):
    with EchoService(tmp_path, idle_limit_s=1) as service, service.connect() as silent, service.connect() as waiting:
        waiting.sendall(ask(1, "slow", b"", delay_ms=1800))
        assert closed(silent)
        assert answer(waiting)[0]["re"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to call as another user")
@pytest.mark.parametrize(
    ("settings", "groups", "allowed"),
    [
        ({}, [], False),
        ({"users": [12345]}, [], True),
        ({"users": [12346]}, [], False),
        ({"groups": [23456]}, [23456], True),
        ({"groups": [23456]}, [*range(30000, 30300), 23456], True),
        ({"groups": [23456]}, [23457], False),
    ],
)
def test_only_those_named_may_call(tmp_path, settings, groups, allowed):
    with EchoService(tmp_path, **settings) as service:
        os.chmod(tmp_path, 0o755)
        os.chmod(service.path, 0o666)  # the credentials alone decide
        request = encode({"id": 1, "op": "status"})
        code = (
            f"import os, socket, sys; c = socket.socket(socket.AF_UNIX); os.chdir({str(tmp_path)!r})\n"
            f"os.setgroups({groups!r}); os.setgid(12345); os.setuid(12345)\n"
            "c.settimeout(10); c.connect('s.sock')\n"
            f"try:\n    c.sendall({request!r})\nexcept OSError:\n    pass\n"
            "sys.stdout.buffer.write(c.recv(4096))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=20, check=True)
        if allowed:
            assert b"12345,12345" in done.stdout
        else:
            assert b"not-allowed" in done.stdout
            assert b"user 12345 may not call this service: add it to `users` in service.json" in done.stdout
        assert service.status()["callers"] == 1


# --- the socket itself


def test_the_socket_is_for_user_and_group(tmp_path):
    with EchoService(tmp_path) as service:
        assert os.stat(service.path).st_mode & 0o777 == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to a group")
def test_the_socket_belongs_to_the_first_group(tmp_path):
    with EchoService(tmp_path, groups=[23456, 23457]) as service:
        assert os.stat(service.path).st_gid == 23456


def test_where_users_are_named_the_socket_is_open_and_the_credentials_decide(tmp_path):
    with EchoService(tmp_path, users=[os.getuid()]) as service:
        assert os.stat(service.path).st_mode & 0o777 == 0o666


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    with EchoService(tmp_path) as service:
        second = EchoService(tmp_path)
        second.end()
        assert second.said.startswith("busy: another service already answers on")
        assert service.status()["callers"] == 1
    assert os.path.exists(service.path)  # it was killed
    with EchoService(tmp_path) as again:
        assert again.status()["callers"] == 1


def test_a_socket_that_was_left_half_made_is_in_nobodys_way(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s.sock~"))
    with EchoService(tmp_path) as service:
        assert service.status()["callers"] == 1
        assert sorted(path.name for path in tmp_path.glob("s.*")) == ["s.sock", "s.sock.lock"]


def test_what_is_no_socket_is_not_removed(tmp_path):
    (tmp_path / "s.sock").write_text("mine")
    service = EchoService(tmp_path)
    service.end()
    assert "exists and is not a socket" in service.said
    assert (tmp_path / "s.sock").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"socket": "/tmp/" + "x" * 120}, "the socket's path has 125 bytes, and the limit is 106"),
        ({"socket": "/nonexistent/folder/s.sock"}, "s.sock: No such file or directory"),
        ({"groups": ["no-such-group"]}, "which is not a group of this device"),
        ({"users": ["no-such-user"]}, "which is not a user of this device"),
    ],
)
def test_what_can_not_be_is_a_sentence(tmp_path, settings, sentence):
    service = EchoService(tmp_path, **settings)
    service.end()
    assert sentence in service.said


def test_without_a_path_the_socket_is_below_the_root(tmp_path):
    with EchoService(tmp_path, socket="") as service:
        service.path = str(tmp_path / "run" / "agent.sock")
        assert service.status()["callers"] == 1


def test_a_socket_from_systemd_is_taken(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "given.sock"))
        listening.listen(5)
        code = (
            f"import os, sys; os.dup2({listening.fileno()}, 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            f"sys.path.insert(0, {str(AGENT)!r})\n"
            "from litefleet_agent.service.listener import listen\n"
            "from litefleet_agent.service.settings import Settings\n"
            "s = listen(Settings(), '/nowhere', os.environ); s.setblocking(True); s.accept()[0].sendall(b'here')\n"
        )
        child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[listening.fileno()])
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
                caller.settimeout(10)
                caller.connect(str(tmp_path / "given.sock"))
                assert read(caller, 4) == b"here"
        finally:
            child.wait(10)
    assert child.returncode == 0


# --- who may have made a socket


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_socket_that_anyone_could_block_is_refused(mode, tmp_path):
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(mode)
    service = EchoService(tmp_path, socket=str(open_folder / "s"))
    service.end()
    assert f"every user can write in {open_folder}" in service.said
    assert not list(open_folder.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to listen as another user")
@pytest.mark.parametrize(("mode", "trusted"), [(0o1777, False), (0o777, False), (0o755, True)])
def test_a_client_believes_only_a_service_that_could_not_be_replaced(mode, trusted, tmp_path):
    folder, path = tmp_path / "run", str(tmp_path / "run" / "s")
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    for above in (tmp_path, *list(tmp_path.parents)[:3]):
        above.chmod(above.stat().st_mode | 0o11)
    listening = (
        "import os, socket, sys; os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8); print('ready', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", listening, path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as impostor:
        assert impostor.stdout.readline() == b"ready\n"
        folder.chmod(mode)
        with Client(path, 0.3) as client, pytest.raises(ServiceError) as refused:
            client.health()
        assert refused.value.code == ("timed-out" if trusted else "not-trusted")
        assert trusted or f"user 12345 answers on {path}, and every user can write in {folder}" in str(refused.value)
        impostor.stdin.close()
