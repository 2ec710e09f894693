"""The dashboard's pages over both kinds of databases."""

import dataclasses
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.rollout import DeviceEvent
from litefleet_controller.serve.queries.fleet import Filters, fleet_page
from litefleet_controller.serve.queries.roster import Roster
from litefleet_controller.state import Confirmed, RowChange, State
from litefleet_inventory import Device
from starlette.testclient import TestClient

from tests.controller.serve.serving import HTML, app_of, service_in
from tests.controller.support.state_values import ELSEWHERE, change, release, rollout, rows, staged


@pytest.fixture
def client(where: str, tmp_path: Path) -> TestClient:
    service = service_in(tmp_path)
    config = tmp_path / "litefleet.yaml"
    config.write_text(config.read_text() + f"state: {where!r}\n")
    client = TestClient(app_of(service), base_url="http://127.0.0.1:8470")
    page = client.get(f"/login?link={service.auth.link.secret}", headers=HTML)
    assert page.status_code == 200, page.text
    return client


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/devices?q=cam&sort=last_seen",
        "/devices?drift=1&status=new",
        "/devices/cam-1",
        "/rollouts",
        "/models",
        "/metrics",
    ],
)
def test_each_page_reads_either_database(client: TestClient, path: str) -> None:
    page = client.get(path, headers=HTML)
    assert page.status_code == 200, page.text[:2000]
    if path in ("/", "/devices?q=cam&sort=last_seen"):
        assert "cam-1" in page.text


def test_a_page_has_its_lines_in_their_order_beside_counts_of_all(state: State) -> None:
    """What needs no table's order or value is cut before it is joined; a filter's page is of what passes."""
    names = [f"cam-{(number * 37) % 120:03}" for number in range(120)]
    made = tuple(Device(name, f"10.0.0.{number}") for number, name in enumerate(names))
    roster = Roster("lab", made, dict.fromkeys(names, ("cls",)), by_name={one.name: one for one in made})
    lock = state.acquire("lab", ELSEWHERE)
    row = dataclasses.replace(rows(1)[0], device=names[70], release="r1")
    stored = state.create(
        lock, dataclasses.replace(rollout("lab"), fleet="lab"), [row], [release("r1", version="2.0")], {}
    )
    failed = change(staged(row), DeviceEvent.FAIL, verdict=Verdict.WRONG, codes=("LF403",), sentence="wrong")
    runs = Confirmed(names[70], "cls", "r1", "ff", "1.0", "f", stored.id, 1.0)
    state.move(lock, stored.id, [change(row, DeviceEvent.BEGIN)])
    state.move(lock, stored.id, [RowChange(failed.before, failed.event, failed.after, None, runs)])
    for sort, order in (("inventory", names), ("device", sorted(names))):
        pages = [fleet_page(state, roster, Filters(sort=sort, page=number)) for number in (1, 2, 3, 9)]
        assert [line.device for found in pages[:3] for line in found.lines] == order
        assert pages[3].lines == pages[2].lines  # beyond the end: the last one
    found = pages[0]
    assert (found.total, found.pages, dict(found.conditions)) == (120, 3, {"failed": 1, "new": 119})
    assert dict(found.versions) == {"2.0": 1}
    assert fleet_page(state, roster, Filters(sort="status")).lines[0].device == names[70]
    for chosen in (Filters(status="failed"), Filters(version="2.0", sort="device")):
        (line,) = fleet_page(state, roster, chosen).lines
        assert (line.device, line.condition, line.version, line.codes) == (names[70], "failed", "2.0", ("LF403",))
