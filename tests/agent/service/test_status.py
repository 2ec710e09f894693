"""The service's status: figures, sentences, health, and the files that hold it."""

import json
import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from litefleet_agent.findings import finding
from litefleet_agent.formats.files import Tree
from litefleet_agent.service.metrics import BUCKETS_S, Histogram, ServiceCounters, metrics_text, write_textfile
from litefleet_agent.service.publisher import collect_status
from litefleet_agent.service.status import WorkerFacts
from litefleet_agent.service.status_file import read_status, write_status

A, B = "a" * 64, "b" * 64
WRONG = finding("LF403", "0.9 off")


# the keys that controllers, dashboards and scripts read
KEYS = {
    *("schema", "at", "health", "reasons", "pid", "version", "uptime_s", "rss_bytes", "fds", "callers", "models"),
    *("unknown_model", "drift", "drift_looks", "problems", "device"),
}
MODEL_KEYS = {
    *(
        "release",
        "wanted",
        "state",
        "since",
        "workers",
        "incoming",
        "before",
        "facts",
        "queue",
        "requests",
        "latency",
        "run",
    ),
    *("worker_deaths", "workers_worn", "switches", "rollbacks", "last_inference_at", "probe", "findings"),
}


class Queue(list):
    most = 32


class Model:
    """What collect_status reads of a model's service, and of its releases."""

    max_silence_s = 60.0

    def __init__(self, active=A, wanted=A, incoming="", findings=(), last_good=990.0):
        self.active = generation(active) if active else None
        self.incoming = generation(incoming) if incoming else None
        self.fallback = None
        self.wanted, self.findings, self.last_good, self.switched_at = wanted, list(findings), last_good, 900.0
        self.queue = Queue()
        self.model = active or None
        self.loading = self.warming_up = bool(incoming)
        self.releases = self


def generation(release, alive=True):
    worker = SimpleNamespace(pid=77, state=SimpleNamespace(value="ready"), runs=5, loads=1, rss_bytes=lambda: 1000)
    facts = WorkerFacts(12.5, "2.13", "1.26", "config", "", False, {"huge": 1})
    return SimpleNamespace(release=release, alive=alive, workers=[worker], facts=facts)


def recorded(tmp_path):
    """Return a small machine with two zones, of which one can't be read."""
    files = {
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone0/type": 'cpu"big\n',
        "sys/class/thermal/thermal_zone1/temp": "nonsense",
        "sys/class/thermal/cooling_device0/temp": "1",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000",
        "sys/devices/system/cpu/cpufreq/scaling_cur_freq": "5",
        "proc/meminfo": "MemTotal:  2048 kB\nMemAvailable:    1024 kB\n",
        "proc/loadavg": "0.50 0.1 0.1 1/100 7\n",
        "proc/self/statm": "100 25 3 0 0 0 0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Tree(str(tmp_path))


def status_of(models, counters=None, connections=(), tree=None):
    counters = counters or ServiceCounters("v" * 64, 900.0)
    return collect_status(counters, models, connections, 1000.0, 5000.0, tree or Tree("/nonexistent"))


def status(models, counters=None, connections=(), tree=None):
    """Return the JSON form, as a client reads it."""
    return json.loads(json.dumps(status_of(models, counters, connections, tree).to_dict()))


def texts(told):
    return [reason["text"] for reason in told["reasons"]]


def test_a_well_service():
    counters = ServiceCounters("v1", 900.0)
    counters.switched("cls", A)
    for _ in range(9):
        counters.answered("cls", "ok", 0.001, 0.002)
    counters.answered("cls", "timed-out", 9.0, 0.0)
    counters.rejected("cls", "busy")
    counters.probed("cls", True, [])
    told = status({"cls": Model()}, counters, [1, 2, 3])
    assert (told["schema"], told["health"], told["reasons"], told["uptime_s"]) == (1, "ok", [], 100.0)
    model = told["models"]["cls"]
    assert model["requests"] == {"total": 11, "ok": 9, "errors": {"timed-out": 1, "busy": 1}}
    assert model["queue"] == {"length": 0, "limit": 32, "rejected": 1}
    assert model["latency"]["p50_ms"] == pytest.approx(3.0)
    assert model["latency"]["count"] == model["run"]["count"] == 9
    assert model["workers"] == [{"pid": 77, "state": "ready", "runs": 5, "loads": 1, "rss_bytes": 1000}]
    assert model["facts"] == {
        "load_ms": 12.5,
        "runtime_version": "2.13",
        "numpy_version": "1.26",
        "threads_set_by": "config",
        "power_mode": "",
        "batches": False,
    }
    assert (model["since"], model["last_inference_at"], model["state"]) == (4900.0, 4990.0, "serving")
    assert (told["callers"], told["pid"]) == (3, os.getpid())
    assert set(told) == KEYS
    assert set(model) == MODEL_KEYS
    assert status_of({"cls": Model()}).health_dict()["models"] == {"cls": {"release": A, "state": "serving"}}


@pytest.mark.parametrize(
    ("model", "health", "said"),
    [
        (Model(active="", incoming=A), "starting", "cls is not served yet: its release aaaaaaaaaaaa is being loaded"),
        (Model(active="", findings=[WRONG]), "failed", "cls is not served: 0.9 off"),
        (Model(wanted=B, findings=[WRONG]), "degraded", "still serves aaaaaaaaaaaa"),
        (Model(last_good=900.0), "degraded", "has run no correct inference for 100 s"),
        (Model(active="", wanted=""), "degraded", "cls has no current release"),
    ],
)
def test_what_is_wrong_is_a_sentence(model, health, said):
    told = status({"cls": model, "det": Model()})
    short = status_of({"cls": model, "det": Model()}).health_dict()
    assert told["health"] == health == short["health"]
    assert said in texts(told)[0]
    assert short["reasons"] == texts(told)


def test_the_gravest_decides():
    models = {"a": Model(active="", incoming=A), "b": Model(active="", findings=[WRONG]), "c": Model(last_good=900.0)}
    told = status(models)
    assert told["health"] == "failed"
    assert len(told["reasons"]) == 3
    assert told["reasons"][1]["finding"]["code"] == "LF403"
    assert status({})["health"] == "ok"


def test_went_back_until_the_next_switch_and_failed_probes_and_drift():
    counters = ServiceCounters("v1", 900.0)
    counters.switched("cls", A)
    counters.reverted("cls", B)
    counters.probed("cls", False, [WRONG])
    assert counters.set_drift([finding("LF604", "numpy is another")]) is True
    assert counters.set_drift([finding("LF604", "numpy is another")]) is False
    told = status({"cls": Model()}, counters)
    assert texts(told) == [
        "cls was reverted from bbbbbbbbbbbb by the service",
        "cls gave wrong outputs for a golden: 0.9 off",
        "the environment has changed: numpy is another",
    ]
    assert told["health"] == "degraded"
    counters.switched("cls", B)
    counters.probed("cls", True, [])
    assert counters.set_drift([]) is True
    assert status({"cls": Model()}, counters)["health"] == "ok"
    assert (counters.of("cls").rollbacks, counters.of("cls").switches) == (1, 2)


def test_names_that_callers_make_up_are_not_kept():
    counters = ServiceCounters("v1", 0.0)
    for number in range(1000):
        counters.rejected("made-up-%d" % number, "unknown-model")  # noqa: UP031 - the agent's own style
        counters.rejected("made-up-%d" % number, "bad-request")  # noqa: UP031
    counters.rejected("cls", "not-ready")
    assert set(counters.models) == {"", "cls"}
    assert counters.of("").errors == {"unknown-model": 1000, "bad-request": 1000}
    for number in range(1000):
        counters.answered("cls", str(number), 0, 0)
        counters.problem("no room %d" % number)  # noqa: UP031
    assert len(counters.of("cls").errors) <= 33
    assert sum(counters.of("cls").errors.values()) == 1001
    assert len(counters.problems) == 20


def test_histogram():
    durations = Histogram()
    assert durations.summary().to_dict()["p50_ms"] is None
    assert durations.summary().to_dict()["p99_ms"] is None
    for number in range(2000):
        durations.add(number / 1000)
    told = durations.summary().to_dict()
    assert told["count"] == 2000
    assert dict(map(tuple, told["buckets"]))[1.0] == 1001
    assert dict(map(tuple, told["buckets"]))[BUCKETS_S[-1]] == 2000
    assert told["p50_ms"] == pytest.approx(1488, abs=2)  # of the latest 1024
    assert told["p99_ms"] == pytest.approx(1989, abs=2)
    durations.add(1e9)
    assert durations.summary().to_dict()["buckets"][-1][1] == 2000


def test_sensors_of_a_recorded_machine(tmp_path):
    told = status({}, tree=recorded(tmp_path))
    assert told["device"] == {
        "temperatures": [{"zone": "0", "type": 'cpu"big', "celsius": 48.312}],
        "cpu_hz": {"0": 1800000000},
        "memory_total_bytes": 2048 << 10,
        "memory_available_bytes": 1024 << 10,
        "load1": 0.5,
    }
    assert told["rss_bytes"] == 25 * os.sysconf("SC_PAGE_SIZE")


def test_metrics_have_each_family_once_and_escaped_labels(tmp_path):
    counters = ServiceCounters("v1", 900.0)
    counters.answered("cls", "ok", 0.001, 0.002)
    counters.rejected("x", "unknown-model")
    text = metrics_text(
        status_of({"cls": Model(), "det": Model(active="", incoming=B)}, counters, (), recorded(tmp_path))
    )
    lines = text.splitlines()
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds)) > 25
    assert 'litefleet_requests_total{model="cls",code="ok"} 1' in lines
    assert 'litefleet_requests_total{model="",code="unknown-model"} 1' in lines
    assert 'litefleet_latency_seconds_bucket{model="cls",le="0.0025"} 0' in lines
    assert 'litefleet_latency_seconds_bucket{model="cls",le="+Inf"} 1' in lines
    assert 'litefleet_temperature_celsius{zone="0",type="cpu\\"big"} 48.312' in lines
    assert 'litefleet_model_state{model="det",state="warming"} 1' in lines
    assert 'litefleet_health{health="starting"} 1' in lines
    assert not [line for line in lines if "None" in line or "nan" in line]
    write_textfile(str(tmp_path / "litefleet.prom"), text)
    assert (tmp_path / "litefleet.prom").read_text() == text
    assert stat.S_IMODE((tmp_path / "litefleet.prom").stat().st_mode) == 0o644


# --- files


@pytest.fixture
def folders(tmp_path: Path):
    for name in ("root", "run"):
        (tmp_path / name).mkdir()
    return tmp_path / "root", tmp_path / "run"


def test_status_is_in_both_places_and_spares_the_flash(folders):
    root, run = folders
    environ = {"RUNTIME_DIRECTORY": "%s:/other" % run}  # noqa: UP031
    told = dict(status({}), at=1)
    write_status(str(root), environ, told)
    write_status(str(root), environ, dict(told, at=2))
    assert json.loads((root / "status.json").read_text())["at"] == 1
    assert json.loads((run / "status.json").read_text())["at"] == 2
    assert read_status(str(root))["at"] == 2
    modes = [stat.S_IMODE((folder / "status.json").stat().st_mode) for folder in folders]
    assert modes == [0o600, 0o644]
    write_status(str(root), environ, dict(told, at=3, health="failed"))
    assert json.loads((root / "status.json").read_text())["at"] == 3
    for age in (-3600, 3600):  # long ago, or a clock that was set back
        os.utime(str(root / "status.json"), (time.time() - age,) * 2)
        write_status(str(root), environ, dict(told, at=age, health="failed"))
        assert json.loads((root / "status.json").read_text())["at"] == age
    (run / "status.json").unlink()  # restarted since
    assert read_status(str(root))["at"] == 3600
    assert sorted(p.name for p in root.iterdir()) == ["status.json"]


def test_without_a_runtime_folder_only_the_roots(folders):
    root, _ = folders
    write_status(str(root), {}, {"schema": 1, "at": 1})
    write_status(str(root), {}, {"schema": 1, "at": 2})
    assert read_status(str(root)) == {"schema": 1, "at": 2, "live": ""}


def test_what_can_not_be_read_or_written(folders):
    root, run = folders
    assert read_status(str(root)) == {}
    for data in (b"", b"{", b"[1]", b"\xff", b"[" * 100000):
        (root / "status.json").write_bytes(data)
        assert read_status(str(root)) == {}
    (root / "status.json").unlink()
    os.mkfifo(str(root / "status.json"))  # would hang who opens it
    assert read_status(str(root)) == {}
    with pytest.raises(OSError):
        write_status(str(root), {"RUNTIME_DIRECTORY": str(run / "none")}, {"at": 1})
    (run / "status.json").mkdir()
    with pytest.raises(OSError):
        write_status(str(root), {"RUNTIME_DIRECTORY": str(run)}, {"at": 1})
    assert [p.name for p in run.iterdir()] == ["status.json"]
