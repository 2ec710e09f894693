"""A real Prometheus scrapes a real server whose rollout was stopped: the example alerts fire, the dashboard has data.

promtool tests how long each alert waits (docs/examples/monitoring/alerts_test.yml); here that wait is cut.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import DeviceSpec
from litefleet_controller.demo.base import free_port
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.rollout import DeviceEvent
from litefleet_controller.state import KnownDevice, RowChange, ServiceStatus, State

from tests.conftest import CACHE, lacking
from tests.controller.reports.test_fleet_metrics import STATUS
from tests.controller.serve.test_monitoring_docs import EXAMPLES, rules
from tests.controller.support.state_values import ELSEWHERE, change, release, rollout, rows, staged
from tests.e2e.conftest import CONFIG, DIMS, Project
from tests.e2e.rollout_helpers import bad_release
from tests.e2e.serve.dashboard import Dashboard, FleetThread, serving, write_inventory

LOST_S = 3 * 86400.0
# What is wrong with the fleet below; the others of the examples are of troubles that it does not have.
FIRING = {
    "LitefleetGateStoppedRollout",
    "LitefleetRolloutPaused",
    "LitefleetDevicesFailed",
    "LitefleetWrongOutputs",
    "LitefleetDevicesNotSeen",
    "LitefleetDrift",
    "LitefleetServicesUnhealthy",
    "LitefleetWorkersDie",
    "LitefleetAccuracyLow",
    "LitefleetNoticesDead",
}
ONCE_IT_IS_DOWN = "LitefleetServerDown"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    address: str

    def ask(self, path: str, **words: str) -> Any:
        """Return the data of an answer of its HTTP API."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def wait_for(what: str, true: Callable[[], Any], limit_s: float = 60) -> Any:
    """Return what `true` does once it is; a server that does not answer yet is waited for."""
    end = time.monotonic() + limit_s
    while True:
        try:
            if found := true():
                return found
        except OSError:
            found = "no answer"
        assert time.monotonic() < end, f"{what}: {found}"
        time.sleep(0.2)


def add_troubles(job: Project) -> None:
    """Store what takes days or labelled data to come about: a lost device, an ailing service, a low accuracy."""
    now = time.time()
    with closing(State.open(job.folder / ".litefleet" / "state.db")) as state:
        lock = state.acquire("default", ELSEWHERE)
        row = replace(rows(1, "r-old")[0], device="cam-3", model="shapes")
        made = state.create(lock, rollout("default"), [row], [release("r-old", model="shapes", version="0.9")], {})
        state.move(lock, made.id, [change(row, DeviceEvent.BEGIN)])
        figures = {"accuracy": {"metric": "top1", "value": 0.8, "samples": 9, "least": 0.6}}
        failed = change(staged(row), DeviceEvent.FAIL, verdict=Verdict.FAILED, sentence="its worker crashed")
        outcome = DeviceOutcome(row.device, row.model, Verdict.FAILED, measurements=figures, release="r-old")
        state.move(lock, made.id, [RowChange(failed.before, failed.event, failed.after, outcome)])
        state.release(lock)
        state.record_facts([KnownDevice("cam-3", {}, "f", now - LOST_S)])
        state.record_history(ServiceStatus("cam-1", "aa", 1, STATUS, now), [])


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, lite_python: Path, models: dict[str, Path]) -> Iterator[Dashboard]:
    """A server over two real devices: their second release is wrong, so the canary's gate stopped it, and no receiver knows."""
    os.environ["LITEFLEET_CACHE"] = str(CACHE / "litefleet")
    folder = tmp_path_factory.mktemp("watched")
    job = Project(folder / "project")
    job.folder.mkdir()
    text = CONFIG.format(model="cls", source=models["cls"], dims=DIMS["cls"], connect=5, step=60)
    (job.folder / "litefleet.yaml").write_text(text)
    specs = [DeviceSpec(f"cam-{number}", kind="sshd", python=str(lite_python)) for number in (1, 2)]
    with FleetThread(folder / "devices", specs) as fleet:
        write_inventory(job, fleet)
        made = Dashboard("", job, fleet)
        made.command("rollout")
        add_troubles(job)
        made.command("abort")
        bad_release(job, fleet.devices["cam-1"].root)
        job.config(notify={"hook": {"command": {"argv": ["/bin/false"]}, "attempts": 1}})
        job.policy(waves=[1, "100%"], gates={"canary": {"count": 1}})
        made.command("rollout", code=3)
        with serving(job, fleet) as server:
            yield server


@contextmanager
def prometheus(folder: Path, board: Dashboard) -> Iterator[Prometheus]:
    """Run Prometheus with the example's files; changed are the address, how often it looks, and how long alerts wait."""
    if shutil.which("prometheus") is None:
        lacking("Prometheus is missing: apt-get install prometheus")
    (folder / "token").write_text(board.tokens["view"])
    config = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    scrape.update(scheme="http", scrape_interval="500ms", scrape_timeout="500ms")
    scrape["authorization"]["credentials_file"] = str(folder / "token")
    scrape["static_configs"] = [{"targets": [board.address.removeprefix("http://")]}]
    config["global"] = {"evaluation_interval": "500ms"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    alerts = {"groups": [{"name": "litefleet", "rules": [{**rule, "for": "1s"} for rule in rules()]}]}
    (folder / "alerts.yml").write_text(yaml.safe_dump(alerts))
    listen = f"127.0.0.1:{free_port(set())}"
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "data"}
    argv = ["prometheus", f"--web.listen-address={listen}", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            made = Prometheus(f"http://{listen}")
            wait_for("it never listened", lambda: made.ask("status/runtimeinfo"))
            yield made
        finally:
            process.terminate()


def test_the_alerts_fire_and_every_query_of_the_dashboard_has_data(board: Dashboard, tmp_path: Path) -> None:
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))
    (variable,) = (one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query")
    metric, label = variable.removeprefix("label_values(").removesuffix(")").split(", ")
    with prometheus(tmp_path, board) as server:
        target = wait_for("no scrape", lambda: server.ask("targets")["activeTargets"])[0]
        wait_for(f"it is not up: {target}", lambda: server.ask("query", query='up{job="litefleet"} == 1')["result"])
        (instance,) = wait_for("no instance", lambda: server.ask(f"label/{label}/values", **{"match[]": metric}))
        with suppress(AssertionError):  # the next line says which
            wait_for("alerts do not fire", lambda: server.firing() >= FIRING)
        assert server.firing() == FIRING

        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        (marked,) = (one["expr"] for one in dashboard["annotations"]["list"])
        assert marked.endswith(" > 0")  # it has data while waves change
        asked = [query.replace("$instance", instance) for query in (*queries, marked.removesuffix(" > 0"))]
        found = {query: server.ask("query", query=query)["result"] for query in asked}
        assert len(found) > 25
        assert [query for query, series in found.items() if not series] == []
        values = {query: float(series[0]["value"][1]) for query, series in found.items()}
        assert [query for query, value in values.items() if value != value] == []  # NaN: a histogram without values
        assert values[f'litefleet_fleet_devices{{instance=~"{instance}"}}'] == 3
        (stopped,) = found[f'litefleet_fleet_rollout_gate_stopped{{instance=~"{instance}"}} == 1']
        assert stopped["metric"]["gate"] == "canary"

        (tmp_path / "token").write_text("lfs_of-nobody")
        wait_for("a scrape without a valid token is not refused", lambda: ONCE_IT_IS_DOWN in server.firing())
        assert "401" in server.ask("targets")["activeTargets"][0]["lastError"]
