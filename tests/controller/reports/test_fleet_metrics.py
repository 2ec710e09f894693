"""Metrics of the fleet and of the service, read by Prometheus' own parser; and over HTTP, with callers that misbehave."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from litefleet_agent.formats.files import Tree
from litefleet_agent.service.metrics import METRICS, Exposition, ServiceCounters, metrics_text
from litefleet_agent.service.publisher import collect_status
from litefleet_controller.cli import main
from litefleet_controller.common.errors import LitefleetError, UsageError
from litefleet_controller.reports.fleet_metrics import METRICS as FLEET_METRICS
from litefleet_controller.reports.fleet_metrics import fleet_metrics
from litefleet_controller.reports.metrics_server import MetricsServer, address_of
from litefleet_controller.reports.status_text import history_dict, history_text
from litefleet_controller.state import Confirmed, HistoryEntry, KnownDevice, ServiceStatus, State
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.service.test_status import Model, generation, recorded
from tests.controller.support.state_values import ELSEWHERE, release, rollout, rows

A = "a" * 64
STATUS = {
    "schema": 1,
    "at": 900.0,
    "health": "degraded",
    "drift": 2,
    "models": {
        "cls": {
            "release": A,
            "wanted": A,
            "requests": {"total": 10, "ok": 9},
            "latency": {"p99_ms": 12.5},
            "worker_deaths": 1,
            "rollbacks": 0,
        }
    },
}


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return all samples as the official parser reads them; no sample is there twice."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def of(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def test_the_services_own_metrics_parse(tmp_path: Path) -> None:
    figures = ServiceCounters("v1", 900.0)
    for number in range(100):
        figures.answered("cls", "ok", 0.0, number / 100)
    figures.rejected("x", "unknown-model")
    models = {"cls": Model(), 'we"ird\\\n': Model(active="", incoming=A)}
    text = metrics_text(collect_status(figures, models, (), 1000.0, 5000.0, recorded(tmp_path)))  # type: ignore[arg-type]
    assert of(text, "litefleet_latency_seconds_count", model="cls") == 100
    assert of(text, "litefleet_latency_seconds_bucket", model="cls", le="0.5") == 51
    assert of(text, "litefleet_latency_seconds_bucket", model="cls", le="+Inf") == 100
    assert of(text, "litefleet_model_state", model='we"ird\\\n', state="warming") == 1
    assert of(text, "litefleet_temperature_celsius", zone="0", type='cpu"big') == 48.312
    assert metrics_text(collect_status(ServiceCounters("v", 0), {}, (), 1, 1, Tree("/nonexistent")))
    assert generation(A).release == A


def test_values_that_are_none_are_left_out() -> None:
    out = Exposition("x_", {"a": "text", "b": 'two\nlines \\ "'})
    for value in (None, float("nan"), float("inf"), "7", 1 << 70):
        out.gauge("a", value)
    assert out.text() == ""
    out.gauge("b", True, label="\ud800")
    assert samples(out.text()) == {("x_b", (("label", "?"),)): 1.0}
    with pytest.raises(KeyError):
        out.gauge("undeclared", 1)
    assert "undeclared" not in out.text()


@pytest.mark.parametrize("names", [METRICS, FLEET_METRICS])
def test_every_declared_name_is_a_metric_name(names: dict[str, str]) -> None:
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9_]*", name)] == []


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


def fill(state: State) -> str:
    lock = state.acquire("lab", ELSEWHERE)
    made = state.create(lock, rollout(), rows(3), [release("r1")], {})
    state.release(lock)
    state.record_facts([KnownDevice("d1", {}, "f", 1000.0)])
    state.confirm([Confirmed("d1", "cls", A, "b", "", "f", "", 1001.0)])
    state.record_history(ServiceStatus("d1", "aa", 1, STATUS, 1002.0), [HistoryEntry("d1", "aa", 1, 5.0, "started")])
    state.record_history(ServiceStatus("d2", "aa", 0, {"models": [], "health": 5, "at": "x"}, 1002.0))
    return made.id


def test_the_fleets_metrics_parse(state: State) -> None:
    assert samples(fleet_metrics(state, "lab")) == {("litefleet_fleet_devices", ()): 0.0}
    name = fill(state)
    text = fleet_metrics(state, "lab")
    assert of(text, "litefleet_fleet_device_last_seen_timestamp_seconds", device="d1") == 1000
    assert of(text, "litefleet_fleet_device_release", device="d1", model="cls", release=A) == 1
    assert of(text, "litefleet_fleet_rollout_open") == 1
    assert of(text, "litefleet_fleet_rollout_state", rollout=name, kind="rollout", state="planned") == 1
    assert of(text, "litefleet_fleet_rollout_rows", rollout=name, state="pending") == 3
    assert of(text, "litefleet_fleet_service_health", device="d1", health="degraded") == 1
    assert of(text, "litefleet_fleet_service_requests_total", device="d1", model="cls") == 10
    assert of(text, "litefleet_fleet_service_latency_p99_seconds", device="d1", model="cls") == 0.0125
    assert of(text, "litefleet_fleet_service_drift_findings", device="d1") == 2
    assert "litefleet_fleet_rollout_open" not in fleet_metrics(state, "another")


# --- over HTTP


@contextmanager
def serving(read, limit_s: float = 10.0) -> Iterator[str]:
    server = MetricsServer(("127.0.0.1", 0), read, limit_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_get_metrics_and_healthz() -> None:
    asked = []

    def read() -> str:
        asked.append(1)
        return "x 1\n"

    with serving(read) as url:
        assert get(f"{url}/metrics?x=1") == (200, "text/plain; version=0.0.4; charset=utf-8", "x 1\n")
        assert get(f"{url}/healthz")[::2] == (200, "ok\n")
        assert get(f"{url}/etc/passwd")[0] == 404
        assert len(asked) == 1  # many scrapers do not read the state many times
        request = urllib.request.Request(f"{url}/metrics", data=b"x")
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(request, timeout=10)


def test_a_state_that_can_not_be_read_is_said() -> None:
    def read() -> str:
        raise LitefleetError("the state database is gone")

    with serving(read) as url:
        assert get(f"{url}/metrics")[::2] == (503, "the state database is gone\n")
        assert get(f"{url}/healthz")[0] == 503


def test_silent_callers_are_cut_and_others_served_then() -> None:
    with serving(lambda: "x 1\n", limit_s=0.3) as url:
        port = int(url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(12)]
        for one in silent:
            assert one.recv(100) == b""  # the first eight by time, the others at once
            one.close()
        assert get(f"{url}/metrics")[0] == 200


def test_slow_callers_do_not_keep_others_out() -> None:
    """Eight and more that send a byte now and then, as long as the limit lets them: each scrape beside them is answered."""
    with serving(lambda: "x 1\n", limit_s=60) as url:
        port = int(url.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
        for one in slow:
            with contextlib.suppress(OSError):
                one.sendall(b"GET /met")
        for _ in range(5):
            assert get(f"{url}/metrics")[0] == 200
        for one in slow:
            one.close()


def test_addresses() -> None:
    assert address_of("0.0.0.0:9") == ("0.0.0.0", 9)
    assert address_of(":9808") == ("127.0.0.1", 9808)
    assert address_of("[::1]:80") == ("::1", 80)
    for wrong in ("", "9808x", "a:b", "a:99999", "::1:80", "host"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            address_of(wrong)
    with serving(lambda: "") as url, pytest.raises(UsageError, match="cannot listen on"):
        MetricsServer(address_of(url.removeprefix("http://")), lambda: "")


def test_whatever_keeps_the_metrics_from_being_made_is_reported() -> None:
    def read() -> str:
        raise ValueError("odd")

    with serving(read) as url:
        assert get(f"{url}/metrics")[::2] == (503, "cannot compute the metrics: ValueError: odd\n")


def test_a_device_with_a_number_beyond_all_bounds_costs_nobody_else_anything(state: State) -> None:
    huge = {**STATUS, "models": {"cls": {"latency": {"p99_ms": 10**400}}, "\x1b[2J": {"worker_deaths": 1}}}
    for name, status in (("d1", huge), ("d2", STATUS)):
        state.record_history(ServiceStatus(name, "aa", 1, status, 1000.0), [])
    text = fleet_metrics(state, "f")
    assert of(text, "litefleet_fleet_service_latency_p99_seconds", device="d2", model="cls") == 0.0125
    assert "\x1b" not in text


# --- the commands


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "hosts.yaml").write_text(
        "devices:\n  d1: {host: 127.0.0.1, user: u}\n  d2: {host: 127.0.0.2, user: u}\n"
    )
    (tmp_path / "litefleet.yaml").write_text(
        "fleet: lab\ninventory: hosts.yaml\nstore: store\nmodels:\n  cls: {source: cls}\n"
    )
    (tmp_path / "cls").mkdir()
    (tmp_path / "store").mkdir()
    opened = State.open(tmp_path / "store" / "state.db")
    fill(opened)
    opened.close()
    return tmp_path / "litefleet.yaml"


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_metrics_on_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "metrics", "-c", project)
    assert (code, err) == (0, "")
    assert of(out, "litefleet_fleet_devices") == 1
    file = project.parent / "fleet.prom"
    assert run(capsys, "metrics", "-c", project, "--textfile", file)[0] == 0
    assert file.read_text() == out
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert run(capsys, "metrics", "-c", project, "--textfile", project.parent / "none" / "x.prom")[0] == 2
    assert run(capsys, "metrics", "-c", project, "--textfile", file, "--listen", ":1")[0] == 2


def test_history_on_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "history", "-c", project, "--json")
    assert (code, [e["kind"] for e in json.loads(out)["entries"]]) == (0, ["started"])
    assert "started" in run(capsys, "history", "-c", project, "--limit", "d1")[1]
    assert "No events are stored" in run(capsys, "history", "-c", project, "--limit", "d2")[1]
    assert "No events are stored" in run(capsys, "history", "-c", project, "--since", "2d")[1]
    assert run(capsys, "history", "-c", project, "--since", "yesterday")[0] == 2


def test_history_folds_its_last_column_and_no_other() -> None:
    found = [{"code": "LF604", "seen": "numpy changed " * 20}]
    text = history_text([HistoryEntry("cam-07", "aa", 1, 1.8e9, "drift", "cls", A, {"findings": found})], 90)
    first = text.splitlines()[2].split()
    assert first[3:8] == ["cam-07", "drift", "cls", A[:12], "LF604:"], text
    assert max(map(len, text.splitlines())) <= 90


def test_history_shows_nothing_that_acts() -> None:
    entry = {"text": "\x1b[2Jgone", "findings": [{"code": "LF401", "seen": "a\nb"}, 5], "times": 3}
    text = history_text([HistoryEntry("d1", "aa", 1, 1.8e9, "worker-died", "cls", A, entry)], 160)
    assert "\x1b" not in text
    assert "LF401: a b (3 times)" in " ".join(text.split())
    assert history_dict([HistoryEntry("d1", "aa", 1, 0.0, "x")])["entries"][0]["entry"] == {}
    strange = HistoryEntry("d1", "aa", 1, 0.0, "x", "cls", "\x1b]0;a\x07", {"times": 10**400, "v": float("nan")})
    assert "\x1b" not in history_text([strange])
    assert max(map(len, history_text([strange]).splitlines())) <= 100
    json.dumps(history_dict([strange]), allow_nan=False)
