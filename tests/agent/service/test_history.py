"""The device's own history: bounded, counted, whole after a cut, and readable from any number on."""

import os
import random
import resource
import shutil
import threading
from pathlib import Path

import pytest
from litefleet_agent.findings import finding
from litefleet_agent.service.history import History, read_history
from litefleet_agent.service.status_file import service_status, write_status

from tests.agent.session.test_server import Peer
from tests.agent.support.release_fixtures import SetClock

A = "a" * 64


def total(root):
    return sum(p.stat().st_size for p in (Path(root) / "history").glob("*.jsonl"))


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def root(tmp_path):
    return str(tmp_path)


def kinds(page):
    return [entry["kind"] for entry in page.entries]


def test_what_is_added_is_read_again(root, clock):
    history = History(root, 1 << 20, clock)
    history.add("started", text="agent abc")
    clock.advance(5)
    history.add("went-back", "cls", A, [finding("LF401", "it crashed")], "why", {"asked": 20})
    page = history.read()
    assert page.entries[0] == {"n": 1, "at": 1.8e9, "up": 100.0, "kind": "started", "times": 1, "text": "agent abc"}
    assert page.entries[1] == {
        "n": 2,
        "at": 1.8e9 + 5,
        "up": 105.0,
        "kind": "went-back",
        "times": 1,
        "model": "cls",
        "release": A,
        "findings": [{"code": "LF401", "seen": "it crashed"}],
        "text": "why",
        "values": {"asked": 20},
    }
    assert (page.next, page.newest, len(page.identity)) == (2, 2, 16)
    assert history.read(1).entries == page.entries[1:]
    assert history.read(2).entries == []
    history.close()
    again = History(root, 1 << 20, clock)
    again.add("stopped")
    assert again.read(2).entries[0]["n"] == 3
    assert (again.read().identity, again.lost) == (page.identity, 0)


def test_a_crash_loop_is_counted_and_evicts_nothing(root, clock):
    history = History(root, 8192, clock)
    history.add("switched", "cls", A)
    for number in range(5000):
        clock.advance(0.1)
        history.add("worker-died", "cls", A, [finding("LF401", "signal at %d" % number)])  # noqa: UP031
    page = history.read()
    assert kinds(page)[0] == "switched"
    assert len(page.entries) < 20
    assert sum(entry["times"] for entry in page.entries[1:]) == 5000
    assert "4999" in page.entries[-1]["findings"][0]["seen"]
    clock.advance(4000)  # after an hour it is news again
    history.add("worker-died", "cls", A, [finding("LF401", "again")])
    assert history.read(page.newest).entries[-1]["times"] == 1


def test_different_events_stay_within_the_bound(root, clock):
    for most in (4096, 20000):
        history = History(root, most, clock)
        for number in range(1500):
            history.add("health", "m%d" % number, A, text="x" * 200)  # noqa: UP031
            assert total(root) <= most
        page = history.read()
        assert page.newest == page.entries[-1]["n"]
        numbers = [entry["n"] for entry in page.entries]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert len(numbers) * 300 > most / 2  # and it is used
        history.close()
    assert page.newest == 3000


@pytest.mark.parametrize("seed", range(30))
def test_cut_anywhere_what_came_before_is_there(root, clock, seed):
    history = History(root, 1 << 20, clock)
    for number in range(6):
        history.add("health", "m%d" % number)  # noqa: UP031
    history.close()
    path = Path(root) / "history" / "1.jsonl"
    data = path.read_bytes()
    cut = random.Random(seed).randrange(len(data) + 1)
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b"\n")
    assert len(read_history(root).entries) == whole
    again = History(root, 1 << 20, clock)
    again.add("started")
    assert kinds(again.read()) == ["health"] * whole + ["started"]
    assert [entry["n"] for entry in again.read().entries] == list(range(1, whole + 2))
    again.close()


def test_damage_costs_one_entry(root, clock):
    history = History(root, 1 << 20, clock)
    for number in range(4):
        history.add("health", "m%d" % number)  # noqa: UP031
    history.close()
    path = Path(root) / "history" / "1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        lines[0] + b"garbage\n" + lines[2].replace(b"health", b"hearth") + b"\xff" * 20000 + b"\n" + lines[3]
    )
    (path.parent / "note.txt").write_text("somebody's")
    assert [entry["n"] for entry in read_history(root).entries] == [1, 4]


def test_read_in_pages_and_of_another_history(root, clock):
    history = History(root, 1 << 20, clock)
    for number in range(25):
        history.add("health", "m%d" % number)  # noqa: UP031
    history.close()
    seen, since = [], 0
    while True:
        page = read_history(root, since, most=10)
        seen += [entry["n"] for entry in page.entries]
        if page.next == page.newest:
            break
        since = page.next
    assert seen == list(range(1, 26))
    assert len(read_history(root, 20, page.identity).entries) == 5
    assert len(read_history(root, 20, "0" * 16).entries) == 25  # those numbers were another history's
    assert read_history(root + "/none").newest == 0


def test_where_nothing_can_be_written_the_service_goes_on(tmp_path, clock):
    (tmp_path / "history").write_text("a file where the folder should be")
    history = History(str(tmp_path), 1 << 20, clock)
    history.add("started")
    assert history.lost == 2
    (tmp_path / "history").unlink()
    history.add("health")
    assert kinds(history.read()) == ["health"]
    history.close()


def test_a_disk_that_is_full_leaves_no_half_line(root, clock):
    history = History(root, 1 << 20, clock)
    history.add("started")
    history.close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (total(root) + 30, before[1]))  # the next line fits by half
    try:
        history.add("health", text="x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert history.lost == 1
    history.add("stopped")
    assert [(entry["n"], entry["kind"]) for entry in history.read().entries] == [(1, "started"), (2, "stopped")]
    history.close()


def test_clock_and_counts_survive_a_clock_that_is_set_back(root, clock):
    history = History(root, 1 << 20, clock)
    history.add("health", "cls")
    clock.epoch -= 1e8
    clock.advance(1)
    history.add("health", "cls")
    clock.restart()
    history.add("health", "cls")  # the time since the start went back: another start
    assert [entry["times"] for entry in history.read().entries] == [1, 1, 1]
    history.close()


# --- at the next contact


def test_a_session_tells_and_sends_it(root, clock):
    with Peer(Path(root)) as peer:
        assert "history" not in peer.ask("hello")["result"]
    history = History(root, 1 << 20, clock)
    for kind in ("started", "switched", "drift"):
        history.add(kind)
    history.close()
    status = {
        "schema": 1,
        "at": 5,
        "health": "degraded",
        "reasons": [{"text": "the environment has changed"}],
        "drift": [{}],
        "models": {"cls": {"release": A, "requests": {"total": 3, "ok": 2, "errors": {"busy": 1}}, "pid": 7}},
    }
    write_status(root, {}, status)
    with Peer(Path(root)) as peer:
        said = peer.ask("hello")["result"]
        assert said["history"]["newest"] == 3
        assert (said["service"]["health"], said["service"]["drift"]) == ("degraded", 1)
        assert said["service"]["models"]["cls"]["requests"] == {"total": 3, "ok": 2}
        page = peer.ask("history", since=1, history=said["history"]["id"])["result"]
        assert [entry["kind"] for entry in page["entries"]] == ["switched", "drift"]
        assert (page["next"], page["newest"], page["id"]) == (3, 3, said["history"]["id"])
        assert len(peer.ask("history", since=3, history="0" * 16)["result"]["entries"]) == 3
        for wrong in (-1, "x", None, 1 << 60, True):
            assert peer.ask("history", since=wrong)["error"]["code"] == "bad-request"
    for data in ('{"schema": 2}', '{"schema": 1, "models": [], "reasons": {}, "drift": 1}', "["):
        (Path(root) / "status.json").write_text(data)
        assert service_status(root)["service"] == {} or service_status(root)["service"]["models"] == {}


def test_a_folder_that_was_removed_is_made_again(root, clock):
    history = History(root, 1 << 20, clock)
    history.add("started")
    shutil.rmtree(os.path.join(root, "history"))
    history.add("switched", "cls", A)
    assert history.lost == 1
    history.add("went-back", "cls", A)
    assert kinds(history.read()) == ["went-back"]
    history.close()


def test_without_threads_it_is_written_all_the_same(root, clock, monkeypatch):
    def none_left(thread):
        raise RuntimeError("can't start new thread")

    history = History(root, 1 << 20, clock)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    before = len(os.listdir("/proc/self/fd"))
    history.add("started")
    history.add("stopped")
    assert (kinds(history.read()), history.lost) == (["started", "stopped"], 0)
    history.close()
    assert len(os.listdir("/proc/self/fd")) == before
