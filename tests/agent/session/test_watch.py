"""The lease holds whatever hangs, and a session ends when its controller is gone or silent: real processes, stopped for real."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from litefleet_agent.protocol import encode
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.store import Store, StoreError

from tests.agent.releases.test_lease_keeper import keepers
from tests.agent.session.test_server import Peer, put, sha
from tests.agent.support.release_fixtures import links, opened, proven

LEASE_S = 1.5
ALIVE = encode({"event": "alive"})
# A session with other limits, and with an operation that sends no event while it runs.
QUICK = (
    "import sys, time; sys.path.insert(0, sys.argv[1])\n"
    "from litefleet_agent.session import server, watch\n"
    "watch._SILENCE_S, watch._SILENCE_OLD_S, watch._POLL_S = 2.0, %s, 0.1\n"
    "class Slow(server.Session):\n"
    "    def _runtime(self, header):\n"
    "        server.acquire(self._store)\n"
    "        for _ in range(int(header['seconds'] * 10)):\n"
    "            time.sleep(0.1)\n"
    "            if header['ticks']: self._tick()\n"
    "        return {}\n"
    "server.Session = Slow\n"
    "sys.exit(server.serve(sys.argv[2], 'v1'))"
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    for pid in keepers(tmp_path / "root"):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def releases(root: Path) -> list[str]:
    """Return two releases that are verified on the device; the first of them is current."""
    store = opened(root, Clock())
    ids = [proven(store, note) for note in ("1", "2")]
    store.unlock()
    return ids


def until(happened: Callable[[], bool], limit_s: float) -> float:
    """Wait for something and return how many seconds it took."""
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() - begun < limit_s, f"it did not happen within {limit_s} s"
        time.sleep(0.02)
    return time.monotonic() - begun


def free(root: Path) -> bool:
    """Return whether a session could take the store's lock now."""
    store = Store(str(root))
    try:
        store.lock(0)
    except StoreError:
        return False
    store.unlock()
    return True


# --- the lease


@pytest.mark.parametrize("first", [True, False], ids=["the first release", "a later one"])
@pytest.mark.parametrize("hang", ["idle", "in a transfer", "stopped", "stopped in a transfer"])
def test_the_lease_holds_while_the_session_hangs(root: Path, releases: list[str], hang: str, first: bool) -> None:
    one, two = releases
    with Peer(root) as peer:
        if not first:
            assert "result" in peer.ask("activate", release=one)
        answer = peer.ask("activate", release=two, lease_s=LEASE_S)["result"]
        begun = time.monotonic()
        assert (answer["changed"], answer["keeper"]) == (True, True)
        if "transfer" in hang:
            peer.send(put(bytes(500_000))[:100_000])
            time.sleep(0.2)
        if "stopped" in hang:
            peer.process.send_signal(signal.SIGSTOP)
        assert links(Store(str(root)))[0] == two
        until(lambda: links(Store(str(root)))[0] == ("" if first else one), LEASE_S + 2 - (time.monotonic() - begun))
        assert not free(root)  # the session still holds the store
        if "stopped" in hang:
            peer.process.send_signal(signal.SIGCONT)
        if "transfer" not in hang:
            error = peer.ask("confirm", release=two)["error"]
            assert error["code"] == "lease-expired"
            assert f"nobody confirmed it within {LEASE_S:g} s" in error["message"]


def test_what_was_confirmed_in_time_stays_though_the_session_hangs(root: Path, releases: list[str]) -> None:
    with Peer(root) as peer:
        peer.ask("activate", release=releases[0], lease_s=LEASE_S)
        assert "result" in peer.ask("confirm", release=releases[0])
        peer.process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE_S + 1)
        assert links(Store(str(root)))[0] == releases[0]


def test_a_lease_beside_another_models_transfer_is_reverted_and_the_transfer_goes_on(
    root: Path, releases: list[str]
) -> None:
    data = os.urandom(300_000)
    with Peer(root) as peer:
        peer.ask("activate", release=releases[0], lease_s=LEASE_S)
        peer.send(put(data)[:100_000])
        until(lambda: links(Store(str(root)))[0] == "", LEASE_S + 2)
        peer.send(put(data)[100_000:])
        assert peer.answer() == {"re": 1, "result": {"stored": len(data)}}
        assert sha(data) in peer.ask("hello")["result"]["blobs"]


# --- the session


def quick(root: Path, old_limit_s: float = 3600) -> Peer:
    return Peer(root, code=QUICK % old_limit_s)


def request(seconds: float, ticks: bool) -> bytes:
    return encode({"id": 7, "op": "runtime", "seconds": seconds, "ticks": ticks})


def test_hello_asks_for_heartbeats(root: Path) -> None:
    with Peer(root) as peer:
        assert peer.ask("hello")["result"]["heartbeat_s"] == 5.0
        peer.send(ALIVE + ALIVE)
        assert "result" in peer.ask("hello")  # they have no answer
        assert peer.end() == (0, b"", "")


@pytest.mark.parametrize("busy", [None, False, True], ids=["waiting", "busy", "busy with events"])
def test_a_controller_that_sends_heartbeats_and_stops_is_given_up(root: Path, busy: bool | None) -> None:
    with quick(root) as peer:
        assert "result" in peer.ask("put", b"x", sha256=sha(b"x"))
        for _ in range(8):
            peer.send(ALIVE)
            time.sleep(0.5)
        assert not free(root)
        if busy is not None:
            peer.send(request(60, busy))
            for _ in range(8):
                time.sleep(0.5)
                peer.send(ALIVE)
            assert not free(root)
        assert until(lambda: free(root), 2 + 4 + 1) > 1
        assert peer.process.wait(10) == 1
        assert "the controller has been silent for 2 s" in peer.process.stderr.read().decode()


def test_a_controller_without_heartbeats_has_longer_and_as_long_as_it_likes_for_a_request(root: Path) -> None:
    with quick(root, old_limit_s=3) as peer:
        peer.send(request(5, False))
        assert peer.answer() == {"re": 7, "result": {}}
        assert not free(root)
        assert until(lambda: free(root), 3 + 4 + 1) > 2
        assert peer.process.wait(10) == 1


@pytest.mark.parametrize("ticks", [True, False])
def test_the_agent_of_a_dead_controller_gives_way(root: Path, ticks: bool) -> None:
    """sshd closes the pipes of a connection that is gone; the next session waits that long."""
    with quick(root) as peer:
        peer.send(request(60, ticks))
        until(lambda: root.exists() and not free(root), 10)
        peer.process.stdin.close()
        peer.process.stdout.close()
        with Peer(root) as other:
            begun = time.monotonic()
            assert "result" in other.ask("put", b"y", sha256=sha(b"y"))
            assert time.monotonic() - begun < 8
        assert peer.process.wait(10) == 0


def test_many_heartbeats_during_a_request_do_not_fill_the_pipe(root: Path) -> None:
    with quick(root) as peer:
        peer.send(request(4, True))
        peer.send(ALIVE * 5000)  # 195 kB; more than a pipe holds
        answer = peer.answer()
        while "event" in answer:
            answer = peer.answer()
        assert answer == {"re": 7, "result": {}}
        assert "result" in peer.ask("hello")
        assert peer.end()[0] == 0


def test_a_request_that_runs_reports_itself_every_five_seconds_at_most(root: Path) -> None:
    with quick(root) as peer:
        peer.send(request(6, True))  # which ticks 60 times
        for _ in range(4):
            time.sleep(1)
            peer.send(ALIVE)
        assert [peer.answer(), peer.answer()] == [{"event": "running"}, {"re": 7, "result": {}}]


def test_a_stopped_session_that_goes_on_finds_its_controller_alive(root: Path) -> None:
    with quick(root) as peer:
        peer.send(ALIVE)
        assert "result" in peer.ask("put", b"x", sha256=sha(b"x"))
        peer.process.send_signal(signal.SIGSTOP)
        for _ in range(8):
            time.sleep(0.5)
            peer.send(ALIVE)
        peer.process.send_signal(signal.SIGCONT)
        assert "result" in peer.ask("put", b"y", sha256=sha(b"y"))
        with pytest.raises(subprocess.TimeoutExpired):
            peer.process.wait(1)
