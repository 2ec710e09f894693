"""The service's look at its own device: what is changed by hand is found, once per look, beside the loop."""

import json
import sys

import pytest
from litefleet_agent.cli import main
from litefleet_agent.facts import Facts, Libc, Package, fingerprint
from litefleet_agent.releases import activation as switch
from litefleet_agent.releases.runtimes import runtime_files
from litefleet_agent.releases.store import Store
from litefleet_agent.service import drift
from litefleet_agent.service.drift import ClockWatch, DriftWatch, changes, check_drift, clock_findings, facts_anew
from litefleet_agent.service.event_loop import EventLoop

from tests.agent.releases.test_garbage import release
from tests.agent.support.release_fixtures import SetClock


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def store(tmp_path, clock):
    opened = Store(str(tmp_path / "root"), clock)
    opened.lock()
    return opened


@pytest.fixture
def facts(store):
    return facts_anew(store.root)


@pytest.fixture
def running(store, facts):
    identity = release(store, "cls", 1, key="r1")
    store.record_verification(identity, fingerprint(facts), at=1.79e9)
    switch.activate(store, identity)
    return identity


def codes(found):
    return [f.code for f in found]


def test_the_facts_of_a_fresh_interpreter_are_those_of_this_device(facts):
    assert facts.machine
    assert facts.python.version == ".".join(map(str, sys.version_info[:3]))
    assert facts.python.executable == sys.executable


def test_where_no_interpreter_starts_this_process_tells(store, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python3")
    assert facts_anew(store.root).python.executable == "/nonexistent/python3"


def test_nothing_changed_nothing_found(store, facts, running):
    assert check_drift(store, facts, deep=True) == []
    assert DriftWatch(store).findings(facts) == []


def test_a_changed_environment_says_what_changed(store, facts, running):
    now = facts._replace(
        numpy=Package("2.1.0", "/usr/lib/numpy"), libc=Libc("glibc", "9.99"), libraries=("libgomp.so.1",)
    )
    then = facts._replace(numpy=Package("1.26.4", "/usr/lib/numpy"), libraries=("libgomp.so.1", "libatomic.so.1"))
    found = check_drift(store, then, False, now)
    said = " ".join(f.observed for f in found)
    assert codes(found) == ["LF604", "LF604", "LF604", "LF306"]
    assert "cls: Release " in said
    assert "numpy changed from 1.26.4 (/usr/lib/numpy) to 2.1.0 (/usr/lib/numpy)" in said
    assert "to glibc 9.99" in said
    assert "libatomic.so.1 is missing" in said
    assert changes(now._replace(libraries=()), now._replace(libraries=())) == []
    assert codes(changes(now, now._replace(libraries=()))) == []  # not known is not gone


def test_a_changed_byte_is_found_within_a_round_and_stays_until_it_is_right(store, facts, running, monkeypatch):
    monkeypatch.setattr(drift, "_READ_BYTES", 1)  # one file in each look
    blob = store.blob(sorted(store.blobs())[0])
    with open(blob, "rb") as file:
        right = file.read()
    with open(blob, "wb") as file:
        file.write(b"X" * len(right))
    watch = DriftWatch(store)
    rounds = [codes(watch.findings(facts)) for _ in range(8)]
    assert ["LF602"] in rounds
    assert rounds[rounds.index(["LF602"]) :] == [["LF602"]] * (8 - rounds.index(["LF602"]))
    with open(blob, "wb") as file:
        file.write(right)
    assert [codes(watch.findings(facts)) for _ in range(8)][-1] == []


def test_a_changed_runtime_file_is_found(store, facts, running):
    files = runtime_files(store, "r1")
    assert files is not None
    name = sorted(files)[0]
    with open(store.path("runtimes", "r1", name), "r+b") as file:
        data = file.read()
        file.seek(0)
        file.write(bytes(255 - byte for byte in data))
    found = DriftWatch(store).findings(facts)
    assert codes(found) == ["LF603"]
    assert name in found[0].observed


def test_a_file_that_is_gone_is_told_once(store, facts, running):
    import os

    sha = sorted(store.blobs())[0]
    os.unlink(store.blob(sha))
    assert codes(DriftWatch(store).findings(facts)) == ["LF602"]


# --- clock


def test_a_clock_before_the_last_proof(store, clock, running):
    assert clock_findings(store) == []
    clock.epoch = 1.79e9 - 60
    assert clock_findings(store) == []
    clock.epoch = 0
    (found,) = clock_findings(store)
    assert (found.code, found.severity.value) == ("LF618", "warning")
    assert (
        found.observed == "The clock says 1970-01-01T00:00:00Z, and a release was proven here at 2026-09-21T14:13:20Z."
    )
    with open(store.path("trust", "accepted.json"), "w") as file:
        json.dump({"latest": 1795000000}, file)
    assert "accepted here at 2026-11-18T11:06:40Z" in clock_findings(store)[0].observed
    for nonsense in ("[", "[]", '{"latest": true}', '{"latest": 1e300}'):
        with open(store.path("trust", "accepted.json"), "w") as file:
            file.write(nonsense)
        assert "proven here" in clock_findings(store)[0].observed


def test_a_clock_that_was_set(clock):
    watch = ClockWatch(clock)
    assert watch.findings() == []
    clock.advance(1e6)  # time goes by
    assert watch.findings() == []
    clock.epoch += 3600  # a time server's correction
    assert watch.findings() == []
    clock.epoch -= 2 * 86400
    assert watch.findings()[0].observed == "The clock was set back by 2.0 days while the service ran."
    assert watch.findings() == []


# --- beside the loop


def test_a_look_runs_beside_the_loop_and_never_twice(store, facts, running):
    loop, told, ticks = EventLoop(), [], []
    watch = DriftWatch(store)
    loop.every(0.01, lambda: ticks.append(1))

    def done(found):
        told.append(found)
        loop.stop()

    assert watch.start_check(loop, facts._replace(machine="other"), done) is True
    assert watch.start_check(loop, facts, done) is False
    loop.run()
    assert [codes(found) for found in told] == [["LF604"]]
    assert len(ticks) > 1
    assert watch.start_check(loop, facts, done) is True
    loop.run()
    assert told[1] == []
    loop.close()


def test_a_look_that_fails_is_told(store, tmp_path):
    class Broken(DriftWatch):
        def findings(self, facts):
            raise PermissionError(13, "Permission denied")

    loop, told = EventLoop(), []
    Broken(store).start_check(loop, Facts(), lambda found: (told.extend(found), loop.stop()))
    loop.run()
    assert "Permission denied" in told[0].observed
    loop.close()


# --- the command


def test_check_on_the_command_line(store, running, capsys):
    assert main(["check", "--root", store.root]) == 0
    assert capsys.readouterr().out == "1 model; all is as it was proven.\n"
    with open(store.blob(sorted(store.blobs())[0]), "ab") as file:
        file.write(b"more")
    assert main(["check", "--deep", "--root", store.root]) == 1
    said = capsys.readouterr().out
    assert said.startswith("LF602 ")
    assert main(["check", "--root", store.root, "--deep", "--json"]) == 1
    assert [f["code"] for f in json.loads(capsys.readouterr().out)["findings"]] == ["LF602"]


def test_wrong_usage(tmp_path, capsys):
    for args in (["--root"], ["x"], ["--root", "a", "b"]):
        assert main(["check", *args]) == 2
        assert capsys.readouterr().err.startswith("usage: litefleet-agent check")
    assert main(["check", "--root", str(tmp_path / "none")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["check", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "No model is current here.\n"
