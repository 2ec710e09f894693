"""The whole service among hostile callers: it lives, its worker too, and honest callers are answered all the while."""

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
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from litefleet_agent.client import ServiceError
from litefleet_agent.protocol import encode
from litefleet_agent.service.connections import MOST_HEADER

from tests.agent.support.echo_process import answer, closed
from tests.agent.support.service_process import AGENT, PROGRAM, Device, Load, Service
from tests.conftest import lacking

pytestmark = pytest.mark.toolchain
MIB = 1 << 20
HOSTILE = 20  # connections of each kind


@pytest.fixture
def service(device: Device, nb_files: Callable, goldens: dict) -> Iterator[Service]:
    device.activate(device.release(nb_files("cls", "x86"), goldens["cls"]))
    device.settings(io_limit_s=0.5, queue_bytes=4 * MIB, connections=48)
    with device.serve() as service:
        service.told("cls switched")
        yield service


@pytest.fixture
def honest(service: Service, goldens: dict) -> Iterator[Load]:
    """Honest callers at work; none of them may have been refused, and the one worker there is must be the first."""
    pid = service.ready()["models"]["cls"]["workers"][0]["pid"]
    with Load(service, goldens["cls"], 2) as load:
        load.more(5)
        yield load
        load.more(10)
        load.end()
    assert (load.wrong, load.lost, load.refused) == ([], 0, {})
    model = service.model()
    assert ([worker["pid"] for worker in model["workers"]], model["worker_deaths"]) == ([pid], 0)
    assert service.process.poll() is None


def connect(service: Service) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(service.device.socket)
    connection.settimeout(30)
    return connection


def ask(dims: list, body: bytes, dtype: str = "float32", **more: object) -> bytes:
    header = dict({"id": 1, "op": "infer", "inputs": [{"name": "x", "dtype": dtype, "dims": dims}]}, **more)
    return encode(header, len(body)) + body


NONSENSE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": b"\0" * MIB,
    "header": struct.pack(">4sIQ", b"LFF1", MOST_HEADER + 1, 0),
    "header of 4 GiB": struct.pack(">4sIQ", b"LFF1", 0xFFFFFFFF, 0),
    "body of 8 EiB": struct.pack(">4sIQ", b"LFF1", 2, 1 << 63) + b"{}",
    "nested": struct.pack(">4sIQ", b"LFF1", 60000, 0) + b'{"a":' * 12000,
    "no object": struct.pack(">4sIQ", b"LFF1", 4, 0) + b"null",
    "not text": struct.pack(">4sIQ", b"LFF1", 4, 0) + b"\xff\xfe\xfd\xfc",
}


def test_what_is_no_frame_is_told_once_and_closed(service, honest):
    for data in NONSENSE.values():
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(connect(service)) for _ in range(HOSTILE)]
            for connection in crowd:
                with contextlib.suppress(BrokenPipeError):  # it need not wait for all of it
                    connection.sendall(data)
            for connection in crowd:
                header, _ = answer(connection)
                assert (header["re"], header["error"]["code"]) == (None, "bad-request")
                assert closed(connection)


HEADERS = {
    "a number as model": {"model": 7},
    "a list as model": {"model": ["cls"]},
    "no such model": {"model": "../../etc/passwd"},
    "surrogates": {"model": "\ud800"},
    "no inputs": {"inputs": None},
    "too many": {"inputs": [{"name": "x", "dtype": "float32", "dims": [1]}] * 1000},
    "twice": {"inputs": [{"name": "x", "dtype": "float32", "dims": [1]}] * 2},
    "objects": {"inputs": {"x": 1}},
    "a huge number": {"inputs": [{"name": "x", "dtype": "float32", "dims": [10**300]}]},
    "too large together": {"inputs": [{"name": "x", "dtype": "float32", "dims": [1, 3, 2**30, 2**30]}]},
    "negative": {"inputs": [{"name": "x", "dtype": "float32", "dims": [-1, 3, 48, 192]}]},
    "no type": {"inputs": [{"name": "x", "dtype": "object", "dims": [1, 3, 48, 192]}]},
    "not a deadline": {"deadline_ms": "soon"},
    "no deadline": {"deadline_ms": -1},
    "an operation": {"op": "shutdown"},
    "no operation": {"op": None},
}


def test_headers_that_make_no_sense_are_refused_and_the_connection_goes_on(service, honest):
    body = bytes(4 * 3 * 48 * 192)
    with connect(service) as connection:
        for what, header in HEADERS.items():
            connection.sendall(ask([1, 3, 48, 192], body, **header))
            told, _ = answer(connection)
            assert told["error"]["code"] in ("bad-request", "bad-input", "unknown-model"), what
            assert len(told["error"]["message"]) < 1000, what
        for number in (None, -1, 1.5, True, "1", 2**60, [1]):
            connection.sendall(ask([1, 3, 48, 192], body, id=number))
            assert answer(connection)[0]["error"]["code"] == "bad-request"
        connection.sendall(encode({"id": 9, "op": "health"}))
        assert answer(connection)[0]["result"]["health"] == "ok"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_never_reach_the_model(service, honest, bad):
    x = np.zeros((1, 3, 48, 192), "f4")
    x[0, 2, 47, 191] = bad
    with service.client() as client, pytest.raises(ServiceError, match="x holds NaN or Inf") as refused:
        client.infer("cls", {"x": x})
    assert refused.value.code == "bad-input"


@pytest.mark.parametrize("value", [np.zeros((1, 1, 48, 192), "f4"), np.zeros((1, 3, 48, 192), "f8"), np.zeros(3, "f4")])
def test_inputs_of_another_form_never_reach_the_model(service, honest, value):
    with service.client() as client, pytest.raises(ServiceError) as refused:
        client.infer("cls", {"x": value})
    assert refused.value.code == "bad-input"


def test_slow_writers_and_liars_are_let_go_and_hold_nothing(service, honest):
    before = service.status()["rss_bytes"]
    done = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in ask([1, 3, 48, 192], bytes(4 * 3 * 48 * 192)):
                connection.send(bytes([byte]))
                if done.wait(0.02):
                    return

    with contextlib.ExitStack() as stack:
        stack.callback(done.set)
        slow = [stack.enter_context(connect(service)) for _ in range(HOSTILE)]
        liars = [stack.enter_context(connect(service)) for _ in range(HOSTILE)]
        threads = [threading.Thread(target=trickle, args=(connection,), daemon=True) for connection in slow]
        for thread in threads:
            thread.start()
        for connection in liars:  # promised, and never sent
            connection.sendall(ask([8, 3, 48, 192], bytes(8 * 4 * 3 * 48 * 192))[:-1])
        codes = {answer(connection)[0]["error"]["code"] for connection in slow + liars}
        assert codes <= {"timed-out", "busy"}
        done.set()
        for thread in threads:
            thread.join(30)
    assert service.status()["rss_bytes"] - before < 32 * MIB


def seconds_for(load: Load, answers: int) -> float:
    """Measure how long the honest callers wait for so many more answers."""
    started = time.monotonic()
    load.more(answers)
    return time.monotonic() - started


def test_who_asks_and_does_not_read_holds_up_nobody(service, honest, goldens):
    x = bytes(4 * 3 * 48 * 192)
    alone, before = seconds_for(honest, 10), service.status()
    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(connect(service)) for _ in range(4)]
        for connection in deaf:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    connection.send(ask([1, 3, 48, 192], x))
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    connection.send(encode({"id": 1, "op": "status"}))
        assert service.status()["callers"] >= before["callers"]
        assert seconds_for(honest, 10) < 10 * alone + 5  # the deaf ones' few requests may come before an honest one
        # The daemon itself closes them, though they stay open at their end: it stores nothing for them any longer.
        after = service.until(lambda status: status["callers"] <= before["callers"])
        assert after["rss_bytes"] - before["rss_bytes"] < 32 * MIB


def test_a_thousand_connections_keep_nobody_out(service, honest):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        lacking("1200 open files at once (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        with contextlib.ExitStack() as stack:
            for number in range(1000):
                connection = stack.enter_context(connect(service))
                if number % 3 == 0:
                    with contextlib.suppress(OSError):
                        connection.send(b"LFF1")
            honest.more(10)
            with service.client() as late:
                assert late.health()["health"] == "ok"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_flood_of_questions_leaves_room_for_the_others(service, honest):
    ended, alone, flooded = threading.Event(), seconds_for(honest, 20), [0] * 4

    def flood(number: int) -> None:
        with connect(service) as connection:
            while not ended.is_set():
                connection.sendall(b"".join(encode({"id": i, "op": "status"}) for i in range(8)))
                for _ in range(8):
                    assert answer(connection)[0]["result"]["health"] == "ok"
                    flooded[number] += 1

    threads = [threading.Thread(target=flood, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    during = seconds_for(honest, 20)
    ended.set()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert min(flooded) >= 8  # each of them was answered as well
    assert during < 10 * alone + 5


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to call as another user")
def test_strangers_are_told_that_they_may_not(service, honest):
    code = (
        "import os, socket, sys; os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "c = socket.socket(socket.AF_UNIX); c.connect('s'); print(c.recv(4096))"
    )
    os.chmod(service.device.root, 0o755)
    os.chmod(service.device.socket, 0o666)
    for _ in range(3):
        argv = [sys.executable, "-c", code, str(service.device.root)]
        told = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=30).stdout
        assert '"code":"not-allowed"' in told


def test_where_few_files_may_be_open_few_callers_are_taken_and_nothing_else_suffers(device, nb_files, goldens):
    release = device.release(nb_files("cls", "x86"), goldens["cls"])
    device.activate(release)
    device.settings(connections=1000)
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 320))\n"
    with Service(device, ["-c", few + PROGRAM % str(AGENT)]) as service, contextlib.ExitStack() as stack:
        service.told("cls switched")
        assert "the limit of open files allows 80" in service.status()["problems"][0]["text"]
        for _ in range(300):
            stack.enter_context(connect(service))
        with Load(service, goldens["cls"], 2) as load:
            load.more(50)
            load.end()
        status = service.status()
        assert (status["models"]["cls"]["release"], len(status["problems"])) == (release, 1)
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        assert status["models"]["cls"]["switches"] == 1
