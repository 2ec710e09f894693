"""A bench of stand-in runtimes: what it measures, what it finds, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import pytest
from litefleet_agent.cli import main
from litefleet_agent.errors import AgentError
from litefleet_agent.facts.sensors import cpu_celsius, cpu_mhz, cpu_ticks, memory_of, ticks_of
from litefleet_agent.formats.files import Tree
from litefleet_agent.releases.activation import activate
from litefleet_agent.releases.store import Store

from tests.agent.support import bench_fixtures
from tests.agent.support.bench_fixtures import codes, golden, measured, opened, stand_in, toy_release

NAP = "time.sleep(0.001)"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return opened(tmp_path / "root")


def children() -> list:
    """Return the processes that this one has started and not yet reaped."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
        except (OSError, ValueError):
            continue
    return found


def files(store: Store) -> dict:
    root = Path(store.root)
    return {str(p): p.stat().st_mtime_ns for p in root.rglob("*") if not p.name.endswith("lock")}


# --- what is measured


def test_one_release_is_measured_cold_and_warm_and_by_workers(store: Store) -> None:
    identity = toy_release(store, stand_in(store, "plain", NAP))
    before, started = files(store), children()
    answer = measured(store, seconds=2, workers=[1, 2], threads=[1])
    assert answer["verdict"] == "verified"
    assert answer["findings"] == []
    (told,) = answer["releases"]
    assert (told["release"], told["right"], told["cases"], told["runtime_version"]) == (identity, True, 2, "v2.13-rc")
    assert told["cold"]["first"]["total_ms"] > told["cold"]["first"]["import_ms"] > 0
    assert 1 <= len(told["cold"]["again"]) <= 4
    warm, whole = told["warm"], told["whole"]
    assert 1.0 <= warm["min"] <= warm["p50"] <= warm["p99"] <= warm["max"]
    assert whole["p50"] >= warm["p50"]
    assert whole["runs"] == warm["runs"] == sum(told["series"]["runs"]) > 100
    assert told["memory"]["peak"] >= told["memory"]["after_load"] > told["memory"]["before_import"] > 1e6
    assert [(c["workers"], c["threads"]) for c in answer["cells"]] == [(1, 1), (2, 1)]
    alone, both = answer["cells"]
    assert both["runs_per_s"] > 1.3 * alone["runs_per_s"]  # they sleep most of the time, so that two do twice as much
    assert both["runs"] == both["latency"]["runs"]
    assert both["worker_p50"]["fastest"] <= both["worker_p50"]["slowest"]
    assert len(json.dumps(answer)) < 100_000
    assert files(store) == before  # nothing on the device is changed
    assert children() == started


def test_runs_are_counted_when_they_were_asked_for(store: Store) -> None:
    toy_release(store, stand_in(store, "plain", NAP))
    answer = measured(store, runs=137)
    assert answer["releases"][0]["warm"]["runs"] == 137


@pytest.mark.parametrize(("nap", "said"), [("0.004", "slower"), ("0.001", "faster")])
def test_two_releases_are_measured_by_turns(store: Store, nap: str, said: str) -> None:
    from litefleet_agent.bench.statistics import PairComparison, verdict

    other = toy_release(store, stand_in(store, "other", f"time.sleep({nap})"), current=False)
    identity = toy_release(store, stand_in(store, "plain", "time.sleep(0.002)"))
    answer = measured(store, seconds=3, against=other[:12])
    assert [told["release"] for told in answer["releases"]] == [identity, other]
    assert all(told["right"] and told["warm"]["runs"] > 50 for told in answer["releases"])
    assert verdict(PairComparison(**answer["comparison"])) == said
    assert answer["comparison"]["pairs"] >= 6
    assert [cell["release"] for cell in answer["cells"]] == [identity, other]


def test_a_release_is_told_apart_from_itself_by_nothing_but_chance(store: Store) -> None:
    toy_release(store, stand_in(store, "plain", "time.sleep(0.002)"))
    answer = measured(store, seconds=3, against="current")
    assert 0.8 < answer["comparison"]["ratio"] < 1.25


def test_previous_is_the_release_before(store: Store) -> None:
    first = toy_release(store, stand_in(store, "first", NAP))
    second = toy_release(store, stand_in(store, "second", NAP))
    answer = measured(store, release="current", against="previous")
    assert [told["release"] for told in answer["releases"]] == [second, first]


def test_cases_of_another_size_are_left_out(store: Store) -> None:
    goldens = (golden(1.0, 2.0), bench_fixtures.wide_golden(), golden(3.0, 4.0))
    toy_release(store, stand_in(store, "plain", NAP), goldens)
    answer = measured(store)
    assert (answer["releases"][0]["cases"], answer["releases"][0]["cases_left_out"]) == (2, 1)
    assert any("1 of the golden cases were left out" in note for note in answer["notes"])


def test_how_threads_were_set_is_said(store: Store) -> None:
    toy_release(store, stand_in(store, "bound", NAP, bench_fixtures.SET_THREADS))
    assert measured(store, threads=[2])["releases"][0]["threads_set_by"] == "set_threads"
    toy_release(store, stand_in(store, "plain", NAP))
    answer = measured(store, threads=[2])
    assert answer["releases"][0]["threads_set_by"] == "environment"
    assert any("OpenMP" in note for note in answer["notes"])


@pytest.mark.parametrize("low_priority", [False, True])
def test_low_priority_is_kept(store: Store, low_priority: bool) -> None:
    expected = min(19, os.nice(0) + 10) if low_priority else os.nice(0)
    toy_release(store, stand_in(store, "nice", f"{NAP}; os.nice(0) == {expected} or os._exit(9)"))
    answer = measured(store, low_priority=low_priority)
    assert codes(answer) == []
    assert answer["releases"][0]["right"] is True


def test_a_measured_process_is_confined(store: Store) -> None:
    """It ends at once where it can write beside the runtime or connect: neither may work."""
    attempt = (
        "attempts = [lambda: open(__file__ + '.new', 'w'), lambda: __import__('socket').socket()]\n"
        "for attempt in attempts if self.runs == 1 else ():\n    try:\n        attempt()\n        os._exit(9)\n"
        "    except OSError:\n        pass\n"
    )
    key = stand_in(store, "curious", f"exec({attempt!r}, {{**globals(), **locals()}}); {NAP}")
    toy_release(store, key)
    assert codes(measured(store)) == []


# --- what is found


def test_a_runtime_that_leaks_is_found(store: Store) -> None:
    leak = "self.kept.append(b'x' * 300000); time.sleep(0.004)"
    toy_release(store, stand_in(store, "leaky", leak))
    answer = measured(store, seconds=6)
    assert codes(answer) == ["LF419"]
    assert answer["verdict"] == "slow"
    told = answer["releases"][0]
    assert told["right"] is True
    assert told["growth"]["per_1000_runs"] == pytest.approx(300e6, rel=0.15)
    assert "per_hour" not in told["growth"]  # seconds do not tell of hours


def test_a_leak_too_small_for_the_time_is_possible_and_decides_nothing(store: Store) -> None:
    toy_release(store, stand_in(store, "drip", "self.kept.append(b'x' * 30000); time.sleep(0.004)"))
    answer = measured(store, seconds=6)
    assert [(f["code"], f["certainty"], f["severity"]) for f in answer["findings"]] == [
        ("LF419", "possible", "warning")
    ]
    assert answer["verdict"] == "verified"


def test_a_cpu_that_slows_down_is_found(store: Store, tmp_path: Path) -> None:
    """A recorded /sys changes while the stand-in slows down, since no kernel can be made to throttle here."""
    cpu, zone = (
        tmp_path / "sys" / part for part in ("sys/devices/system/cpu/cpu0/cpufreq", "sys/class/thermal/thermal_zone0")
    )
    for folder in (cpu, zone):
        folder.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal")
    (zone / "temp").write_text("51000")
    rate = cpu / "scaling_cur_freq"
    rate.write_text("1800000")
    key = stand_in(store, "hot", "time.sleep(0.02 if os.path.exists(__file__ + '.hot') else 0.002)")
    toy_release(store, key)

    def throttle() -> None:
        rate.write_text("1200000")
        (zone / "temp").write_text("84000")
        (Path(store.path("runtimes", key)) / "paddlelite" / "__init__.py.hot").touch()

    class WarmingTree(Tree):
        reads = 0

        def data(self, name: str, limit: int = 1 << 20) -> bytes:
            if name.endswith("scaling_cur_freq"):
                self.reads += 1
                if self.reads == 20:  # a read each 0.1 s: however long the starts before the series took
                    throttle()
            return super().data(name, limit)

    answer = measured(store, WarmingTree(str(tmp_path / "sys")), seconds=7)
    assert codes(answer) == ["LF421"]
    assert answer["verdict"] == "verified"  # a warning
    assert "from 1800 to 1200 MHz" in answer["findings"][0]["seen"]
    told = answer["releases"][0]
    assert told["heat"]["highest"] == 84.0
    assert min(mhz for mhz in told["series"]["frequency"] if mhz) == 1200


def test_an_output_that_is_wrong_from_the_start_decides(store: Store) -> None:
    toy_release(store, stand_in(store, "wrong", f"y = y + 1; {NAP}"))
    answer = measured(store)
    assert "LF403" in codes(answer)
    assert answer["verdict"] == "wrong"
    assert answer["releases"][0]["right"] is False
    assert answer["releases"][0]["warm"]["runs"] > 10  # the figures are there, and marked


def test_an_output_that_becomes_wrong_decides(store: Store) -> None:
    toy_release(store, stand_in(store, "later", f"y = y + (self.runs > 50); {NAP}"))
    answer = measured(store)
    assert answer["releases"][0]["right"] is False
    assert set(codes(answer)) & {"LF403", "LF406"}


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        (
            "os.kill(os.getpid(), 11) if time.monotonic() - BEGUN > 1.5 else time.sleep(0.001)",
            "LF401",
            "died with SIGSEGV",
        ),
        (
            "os._exit(0) if time.monotonic() - BEGUN > 1.5 else time.sleep(0.001)",
            "LF900",
            "ended early with exit code 0",
        ),
        ("raise RuntimeError('no such kernel')", "LF423", "no such kernel"),
    ],
)
def test_a_process_that_ends_is_a_finding(store: Store, behaviour: str, code: str, words: str) -> None:
    toy_release(store, stand_in(store, "dying", behaviour))
    started = children()
    answer = measured(store, seconds=5)
    assert codes(answer) == [code]
    assert words in answer["findings"][0]["seen"]
    told = answer["releases"][0]
    assert told["right"] is None
    assert ("warm" in told) == ("BEGUN" in behaviour)  # what was measured by then stays
    assert answer["verdict"] != "verified"
    assert children() == started


def test_a_runtime_that_can_not_be_imported_is_told(store: Store) -> None:
    key = stand_in(store, "broken", "pass")
    package = Path(store.path("runtimes", key)) / "paddlelite" / "__init__.py"
    package.write_text("raise ImportError('libfoo.so.1: cannot open shared object file')")
    toy_release(store, key)
    answer = measured(store)
    assert codes(answer) == ["LF306"]
    assert answer["cells"] == []


def test_what_fails_with_several_at_once_does_not_hide_the_rest(store: Store) -> None:
    lock = "self.kept.append(open(__file__)), __import__('fcntl').flock(self.kept[0], 6)"
    toy_release(store, stand_in(store, "jealous", f"self.runs == 1 and ({lock}); {NAP}"))
    answer = measured(store, workers=[1, 2])
    alone, both = answer["cells"]
    assert alone["runs_per_s"] > 10
    assert both["skipped"].startswith("it failed: ")
    assert [found["code"] for found in answer["findings"]] == ["LF423"]
    assert answer["findings"][0]["seen"].startswith("Running 2 at once: ")
    assert answer["releases"][0]["right"] is True


def with_free_memory(folder: Path, kilobytes: int) -> str:
    """Return a recorded machine that tells nothing else."""
    (folder / "sys" / "proc").mkdir(parents=True)
    (folder / "sys" / "proc" / "meminfo").write_text(f"MemTotal:  900000 kB\nMemAvailable:  {kilobytes} kB\n")
    return str(folder / "sys")


def test_workers_for_whom_there_is_no_room_are_not_started(store: Store, tmp_path: Path) -> None:
    toy_release(store, stand_in(store, "plain", NAP))
    answer = measured(store, Tree(with_free_memory(tmp_path, 200_000)), workers=[1, 64])
    assert "runs_per_s" in answer["cells"][0]
    assert answer["cells"][1]["skipped"].startswith("64 processes would take about ")
    assert answer["verdict"] == "verified"


def test_two_releases_for_which_there_is_no_room_are_not_compared(store: Store, tmp_path: Path) -> None:
    toy_release(store, stand_in(store, "plain", NAP))
    answer = measured(store, Tree(with_free_memory(tmp_path, 2_000)), against="current")
    assert codes(answer) == ["LF311"]
    assert "Two releases at once take about" in answer["findings"][0]["seen"]


# --- what is refused


def refused(store: Store, **header: object) -> tuple:
    with pytest.raises(AgentError) as caught:
        measured(store, **header)
    return caught.value.code, str(caught.value)


def test_only_what_is_current_or_proven_here_is_run(store: Store) -> None:
    identity = toy_release(store, stand_in(store, "plain", NAP))
    other = toy_release(store, "plain", (golden(9.0, 9.0),), current=False)
    store.clear_verified(other)
    assert refused(store, release=other) == ("not-kept", f"no release {other[:12]} was proven on this device")
    assert refused(store, against="0" * 64)[0] == "not-kept"
    assert refused(store, against="previous") == ("not-kept", "toy has no previous release on this device")
    assert (
        refused(store, model="cls")[1]
        == "no release of cls is current on this device, which runs toy: roll it out first"
    )
    assert refused(store, release="short")[0] == "bad-request"
    assert refused(store, release=["x"])[0] == "bad-request"
    assert refused(store, model="../x")[0] == "bad-request"
    assert refused(store, seconds="long")[0] == "bad-request"
    assert refused(store, model="cls", release=identity)[1].endswith("is a release of toy, not of cls")


def test_nothing_is_measured_while_a_switch_waits_for_its_confirmation(store: Store) -> None:
    identity = toy_release(store, stand_in(store, "plain", NAP), current=False)
    activate(store, identity, lease_s=600)
    code, words = refused(store)
    assert code == "busy"
    assert "the switch of toy waits for its confirmation (another" in words


def test_what_the_checks_refuse_is_never_loaded(store: Store) -> None:
    from tests.agent.verification.test_release import runtime

    toy_release(store, runtime(store, b"not an ELF file"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = measured(store)
    assert "LF315" in codes(answer)
    assert (answer["releases"], answer["cells"]) == ([], [])
    assert resource.getrusage(resource.RUSAGE_CHILDREN) == before  # no process was started


def test_a_controller_that_went_away_ends_the_processes(store: Store) -> None:
    toy_release(store, stand_in(store, "plain", NAP))
    started = children()

    def gone() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        measured(store, tick=gone, seconds=60)
    assert children() == started


# --- on the device itself


def test_the_command_tells_figures_and_exits_by_the_findings(store: Store, capsys: pytest.CaptureFixture) -> None:
    identity = toy_release(store, stand_in(store, "plain", NAP))
    store.unlock()
    assert main(["bench", "toy", "--root", store.root, "--seconds", "1", "--workers", "1,2"]) == 0
    out = capsys.readouterr().out
    assert f"toy {identity[:12]}: outputs match the goldens" in out
    assert " 2 at once, with its usual threads: " in out
    assert (
        main(
            [
                "bench",
                "toy",
                "--root",
                store.root,
                "--seconds",
                "1",
                "--against",
                identity[:10],
                "--workers",
                "1",
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], len(told["releases"])) == (1, 2)


def test_the_command_says_what_is_wrong(store: Store, capsys: pytest.CaptureFixture) -> None:
    toy_release(store, stand_in(store, "wrong", "y = y + 1"))
    store.unlock()
    assert main(["bench", "toy", "--root", store.root, "--seconds", "1", "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "WRONG outputs" in out
    assert "LF403 " in out
    assert main(["bench", "cls", "--root", store.root]) == 1
    assert "no release of cls is current" in capsys.readouterr().err
    assert main(["bench", "toy", "--root", store.root, "--seconds", "0.5"]) == 2
    assert "`seconds` must be a number from 1 to 86400, not 0.5" in capsys.readouterr().err
    assert main(["bench", "toy", "--root", store.root + "/none"]) == 1
    assert "there is no folder" in capsys.readouterr().err
    for wrong in ([], ["a", "b"], ["a", "--runs"], ["a", "--runs", "x"], ["a", "--workers", "1;2"], ["a", "--loud"]):
        assert main(["bench", *wrong]) == 2
        assert capsys.readouterr().err.startswith("usage: litefleet-agent bench MODEL")


def test_the_command_does_not_wait_for_ever_for_another_session(
    store: Store, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_release(store, stand_in(store, "plain", NAP))
    monkeypatch.setattr("litefleet_agent.cli._LOCK_TIMEOUT_S", 0.1)
    assert main(["bench", "toy", "--root", store.root]) == 75  # `store` holds the lock
    assert "another controller is at work" in capsys.readouterr().err


# --- sensors


def test_sensors_of_this_machine_and_of_none(tmp_path: Path) -> None:
    here, nowhere = Tree("/"), Tree(str(tmp_path))
    worked, every = cpu_ticks(here)
    assert 0 < worked < every
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass
    assert ticks_of(here, os.getpid()) > 0
    memory = memory_of(here, os.getpid())
    assert memory["peak"] >= memory["rss"] > 1e6
    assert memory["threads"] >= 1
    assert cpu_ticks(nowhere) is None
    assert (ticks_of(nowhere, 1), memory_of(nowhere, 1)) == (0, {})
    assert (cpu_celsius(nowhere), cpu_mhz(nowhere)) == (None, None)


def test_the_cpus_own_zone_counts_and_nonsense_does_not(tmp_path: Path) -> None:
    for number, (kind, temp) in enumerate(
        [("battery", 91000), ("gpu-thermal", 70000), ("cpu-thermal", 55500), ("soc", 900000)]
    ):
        folder = tmp_path / "sys/class/thermal" / f"thermal_zone{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(kind)
        (folder / "temp").write_text(str(temp))
    assert cpu_celsius(Tree(str(tmp_path))) == 55.5
    for cpu, rate in enumerate(("600000", "1800000", "nonsense")):
        folder = tmp_path / "sys/devices/system/cpu" / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(rate)
    assert cpu_mhz(Tree(str(tmp_path))) == 1800
