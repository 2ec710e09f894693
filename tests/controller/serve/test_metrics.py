"""`/metrics` of the server: what it says, that it stays small, and what Prometheus' own tool says of it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from litefleet_controller.rollout import DeviceEvent, DeviceRow
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.metrics import KeptMetrics
from litefleet_controller.serve.metrics.kept import MOST_DEVICES
from litefleet_controller.serve.metrics.text import METRICS
from litefleet_controller.state import Confirmed, KnownDevice, ServiceStatus
from litefleet_controller.state.model import RowChange

from tests.conftest import lacking
from tests.controller.reports.test_fleet_metrics import STATUS, of, samples
from tests.controller.serve.serving import logged_in, service_in
from tests.controller.support.state_values import ELSEWHERE, rollout, staged

MANY = MOST_DEVICES + 100


@pytest.fixture
def service(tmp_path):
    made = service_in(tmp_path)
    (tmp_path / "hosts.ini").write_text("devices:\n  cam-1: {host: 127.0.0.1, user: u}\n")
    object.__setattr__(made, "metrics", KeptMetrics(keep_s=0))
    yield made
    made.opened.close()


def fill(service, devices, model="cls"):
    """Store a rollout under way on these many devices, each with a service."""
    with service.state() as state:
        lock = state.acquire("shop", ELSEWHERE)
        rows = [DeviceRow(f"cam-{n:04}", model, 0, n, release="r1") for n in range(devices)]
        made = state.create(lock, rollout("shop"), rows, [], {})
        state.move(lock, made.id, [RowChange(row, DeviceEvent.BEGIN, staged(row)) for row in rows])
        state.confirm([Confirmed(row.device, model, "r1", "", "", "f", made.id, 1.0, {}) for row in rows])
        state.record_facts([KnownDevice(row.device, {}, "f", 1.0) for row in rows])
        for row in rows[:50]:
            state.record_history(ServiceStatus(row.device, "aa", 1, STATUS, 2.0), [])
        state.release(lock)


def scraped(client, query=""):
    response = client.get(f"/metrics{query}")
    assert response.status_code == 200, response.text
    return response.text


def test_it_does_not_grow_with_the_fleet(service):
    client = logged_in(service, Role.VIEW)
    fill(service, 3)
    small = scraped(client)
    fill(service, MANY)
    text = scraped(client)
    assert of(text, "litefleet_fleet_devices") == MANY
    assert of(text, "litefleet_fleet_device_models", model="cls", condition="working") == MANY
    assert of(text, "litefleet_fleet_services_health", health="degraded") == 50
    assert of(text, "litefleet_fleet_services_latency_p99_seconds_bucket", model="cls", le="0.025") == 50
    assert of(text, "litefleet_fleet_inventory_devices") == 1
    assert of(text, "litefleet_serve_project_readable") == 1
    assert len(samples(text)) <= len(samples(small)) + 5
    assert 'device="' not in text


def test_series_of_devices_are_served_when_asked_for_and_few(service):
    client = logged_in(service, Role.VIEW)
    fill(service, 3)
    text = scraped(client, "?devices=yes")
    assert of(text, "litefleet_fleet_service_health", device="cam-0001", health="degraded") == 1
    assert of(text, "litefleet_fleet_device_series_left_out") == 0
    fill(service, MANY)
    text = scraped(client, "?devices=yes")
    assert 'device="' not in text
    assert of(text, "litefleet_fleet_device_series_left_out") == MANY
    assert client.get("/metrics?devices=all").status_code == 422


def test_names_are_one_line_of_bounded_length(service):
    fill(service, 2, model='x"\n\x1b[2J' + "y" * 500)
    text = scraped(logged_in(service, Role.VIEW))
    assert "\x1b" not in text
    (model,) = {dict(labels)["model"] for name, labels in samples(text) if name == "litefleet_fleet_confirmed_models"}
    assert len(model) < 120
    assert "\n" not in model


def test_many_scrapers_read_the_state_once(service):
    object.__setattr__(service, "metrics", KeptMetrics(keep_s=60))
    client = logged_in(service, Role.VIEW)
    before = scraped(client)
    fill(service, 3)
    assert scraped(client) == before


def test_a_project_that_cannot_be_read_is_said_beside_the_rest(service):
    client = logged_in(service, Role.VIEW)
    fill(service, 2)
    service.config().inventory.path.write_text("devices: [")
    text = scraped(client)
    assert of(text, "litefleet_serve_project_readable") == 0
    assert of(text, "litefleet_fleet_devices") == 2
    assert "litefleet_fleet_inventory_devices" not in text


def test_prometheus_own_tool_finds_nothing(service):
    if shutil.which("promtool") is None:
        lacking("promtool is missing: apt-get install prometheus")
    fill(service, 3)
    client = logged_in(service, Role.VIEW)
    for query in ("", "?devices=yes"):
        text = scraped(client, query)
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), query


def test_every_name_is_written_once():
    names = [prefix + name for prefix, texts in METRICS.items() for name in texts]
    assert len(names) == len(set(names))
