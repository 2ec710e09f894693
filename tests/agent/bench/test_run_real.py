"""A bench with real Paddle-Lite and a real model, in a session as a controller holds it; on Python 3.7 too."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from litefleet_agent.protocol import encode

from tests.agent.session.test_server import Peer
from tests.agent.support.bench_fixtures import opened, release
from tests.agent.support.real_paddlelite import archive_of
from tests.conftest import lite_environment, raw_nb

VERSIONS = ["2.13rc0", "2.12"]  # for Python 3.10 and 3.7


@pytest.fixture
def root(tmp_path: Path, goldens: dict) -> Path:
    """The folder of a device that runs cls, and ran it before as another release."""
    store = opened(tmp_path / "root")
    nb = raw_nb("cls", "x86").read_bytes()
    files = [path.read_bytes() for path in goldens["cls"]]
    release(store, nb, tuple(files[:1]), "system", "cls")
    release(store, nb, tuple(files), "system", "cls")
    store.unlock()
    return tmp_path / "root"


def children(pid: int) -> list:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(done, most_s: float = 60.0) -> None:
    end = time.monotonic() + most_s
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.toolchain
@pytest.mark.parametrize("version", VERSIONS)
def test_cls_is_measured_and_right(root: Path, version: str) -> None:
    with Peer(root, str(lite_environment(version))) as peer:
        answer = peer.ask("bench", model="cls", seconds=3, workers=[1, 2], threads=[1])["result"]
        assert peer.end()[0] == 0
    assert answer["verdict"] == "verified", answer["findings"]
    (told,) = answer["releases"]
    assert told["right"] is True
    assert told["warm"]["runs"] > 50
    assert told["runtime_version"] in ("v2.13-rc", "v2.12")
    assert told["cold"]["first"]["load_ms"] > 0
    assert told["memory"]["after_load"] > told["memory"]["before_import"]
    assert told["threads_set_by"] == "environment"
    assert [cell["workers"] for cell in answer["cells"]] == [1, 2]
    assert all(cell["runs"] > 10 for cell in answer["cells"])
    assert any("OpenMP" in note for note in answer["notes"])


@pytest.mark.toolchain
def test_two_releases_are_both_right_and_run_with_the_engine_of_the_later_proof(root: Path) -> None:
    """The later one has a release archive, and was proven natively; the other one by an agent that had the binding alone."""
    python = lite_environment()
    store = opened(root)
    archive_of(python, Path(store.path("runtimes")) / "archive")
    nb, golden = raw_nb("cls", "x86").read_bytes(), store.release(store.link("cls", "current")).goldens[0]
    earlier = store.link("cls", "current")
    later = release(store, nb, (Path(store.blob(golden)).read_bytes(),), "archive", "cls")
    store.record_verification(later, "f", {"engine": "native"}, at=2)
    store.unlock()
    with Peer(root, str(python)) as peer:
        answer = peer.ask("bench", model="cls", seconds=3, workers=[1], against="previous")["result"]
    assert [(told["release"], told["right"]) for told in answer["releases"]] == [(later, True), (earlier, True)]
    assert [told["engine"] for told in answer["releases"]] == ["native", "native"]
    said = f"Release {earlier[:12]} was verified, and is served, with Paddle-Lite's Python binding"
    assert any(note.startswith(said) for note in answer["notes"])
    assert answer["comparison"]["pairs"] >= 6
    assert 0.2 < answer["comparison"]["ratio"] < 5


@pytest.mark.toolchain
def test_a_request_that_does_not_fit_is_a_sentence_and_the_session_goes_on(root: Path) -> None:
    with Peer(root, str(lite_environment())) as peer:
        error = peer.ask("bench", model="cls", seconds="for ever")["error"]
        assert (error["code"], "`seconds`" in error["message"]) == ("bad-request", True)
        assert peer.ask("bench")["error"]["code"] == "bad-request"
        assert peer.ask("bench", model="det")["error"]["code"] == "not-current"
        assert len(peer.ask("hello")["result"]["boot"]) == 36


@pytest.mark.toolchain
@pytest.mark.parametrize("how", ["the controller hangs up", "the agent is killed"])
def test_no_process_outlives_its_session(root: Path, how: str) -> None:
    peer = Peer(root, str(lite_environment()))
    with peer:
        peer.send(encode({"id": 7, "op": "bench", "model": "cls", "seconds": 600, "against": "previous"}))
        assert peer.answer() == {"event": "running"}
        until(lambda: len(children(peer.process.pid)) == 2)
        started = children(peer.process.pid)
        if how == "the agent is killed":
            os.kill(peer.process.pid, signal.SIGKILL)
        else:
            peer.process.stdout.close()
            peer.process.stdin.close()
        until(lambda: not any(alive(pid) for pid in started))
        assert peer.process.wait(60) == (-9 if how == "the agent is killed" else 0)
