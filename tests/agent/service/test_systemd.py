"""What the service tells systemd and its journal, received by real sockets."""

import os
import socket
import struct
import tempfile
from pathlib import Path

import pytest
from litefleet_agent.findings import finding
from litefleet_agent.service.systemd import Log, Notifier, watchdog_interval, without_manager


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="lf") as made:  # a socket's path is at most 107 bytes
        yield Path(made)


def receiver(address, size=0):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(5)
    return sock


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive_on_both_kinds_of_socket(folder, abstract):
    name = f"litefleet-test-{os.getpid()}"
    told = "@" + name if abstract else str(folder / "notify")
    with receiver("\0" + name if abstract else told) as sock:
        notifier = Notifier({"NOTIFY_SOCKET": told})
        assert notifier.send("READY=1")
        assert sock.recv(9999) == b"READY=1"
        assert notifier.status("two\nlines")
        assert sock.recv(9999) == b"STATUS=two lines"
        assert notifier.reloading()
        state, moment = sock.recv(9999).split(b"\n")
        assert (state, moment[:15]) == (b"RELOADING=1", b"MONOTONIC_USEC=")
        assert int(moment[15:]) > 0


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "vsock:2:9"}])
def test_without_a_manager_nothing_is_sent(environ):
    assert Notifier(environ).send("READY=1") is False


def test_a_manager_that_is_gone_or_full_does_not_stop_the_service(folder):
    path = str(folder / "notify")
    assert Notifier({"NOTIFY_SOCKET": path}).send("READY=1") is False
    with receiver(path):
        notifier = Notifier({"NOTIFY_SOCKET": path})
        assert not all(
            notifier.send("STATUS=%s" % ("x" * 5000)) for _ in range(5000)
        )  # full at last, and never blocked
    assert Notifier({"NOTIFY_SOCKET": "/" + "x" * 300}).send("READY=1") is False


def test_watchdog_interval():
    assert watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == 30
    assert watchdog_interval({"WATCHDOG_USEC": "1500000"}, 7) == 1.5
    for wrong in ({}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "-1"}):
        assert watchdog_interval(wrong, 7) is None
    assert watchdog_interval({"WATCHDOG_USEC": "9" * 5000}, 7) is None


def test_children_do_not_inherit_the_manager():
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "LISTEN_FDS": "1", "PATH": "/bin"}
    assert without_manager(environ) == {"PATH": "/bin"}


def journal_fields(data):
    """Read the native protocol as journald does."""
    fields = []
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            fields.append((name.decode(), value.decode()))
            data = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            fields.append((line.decode(), rest[8 : 8 + size].decode()))
            assert rest[8 + size : 9 + size] == b"\n"
            data = rest[9 + size :]
    return fields


@pytest.fixture
def stderr():
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    os.close(read)
    os.close(write)


def stream(fd):
    status = os.fstat(fd)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_events_are_fields_in_the_journal(folder, stderr):
    path = str(folder / "journal")
    with receiver(path) as sock:
        log = Log(stream(stderr[1]), stderr[1], path)
        log.event("went-back", "cls", "a" * 64, [finding("LF401", "line\nLITEFLEET_CODE=LF999")], "because")
        fields = journal_fields(sock.recv(1 << 16))
    assert [value for name, value in fields if name == "LITEFLEET_CODE"] == ["LF401"]
    told = dict(fields)
    assert told["MESSAGE"] == "cls went-back aaaaaaaaaaaa: because; LF401 crashed: line\nLITEFLEET_CODE=LF999"
    assert (told["PRIORITY"], told["LITEFLEET_MODEL"], told["LITEFLEET_RELEASE"]) == ("4", "cls", "a" * 64)
    assert len(told["MESSAGE_ID"]) == 32
    with pytest.raises(BlockingIOError):
        os.read(stderr[0], 1)
    assert log.lost == 0


def test_a_long_event_is_cut(folder, stderr):
    path = str(folder / "journal")
    with receiver(path) as sock:
        Log(stream(stderr[1]), stderr[1], path).event("health", text="x" * 1000000)
        told = dict(journal_fields(sock.recv(1 << 20)))
    assert told["MESSAGE"].startswith("health: xxx")
    assert len(told["MESSAGE"]) <= 8192


def test_without_a_journal_it_is_a_line_with_its_priority(folder, stderr):
    Log({}, stderr[1], str(folder / "none")).event("drift", findings=[finding("LF604", "other\nnumpy")])
    assert os.read(stderr[0], 9999) == b"<4>drift: LF604 not-proven-here: other numpy\n".replace(
        b"not-proven-here", finding("LF604", "").entry.slug.encode()
    )
    Log(stream(stderr[1]), stderr[1], str(folder / "none")).event("started", text="x" * 9999)  # the journal is gone
    line = os.read(stderr[0], 9999)
    assert line.startswith(b"<6>started: xxx")
    assert len(line) == 2001


def test_a_full_pipe_does_not_block(stderr):
    log = Log({}, stderr[1], "/nonexistent")
    for _ in range(200):
        log.event("health", text="x" * 1900)
    assert log.lost > 100
    os.close(os.dup(stderr[1]))
    assert Log({}, 9999, "/nonexistent").lost == 0
