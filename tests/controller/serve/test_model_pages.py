"""Pages of a model's releases and evaluations: nothing of a long history is left out."""

import html
import re
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport, to_json
from litefleet_controller.operations.model_records import evaluations_before
from litefleet_controller.serve.auth import Role

from tests.controller.serve.serving import HTML, client_of, logged_in, service_in
from tests.controller.support.state_values import ELSEWHERE, release, rollout, rows

_RELEASES, _REPORTS = 230, 45


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = service_in(folder)
    with made.state() as state:
        lock = state.acquire("shop", ELSEWHERE)
        every = [release(f"r{number:03}", model="cls", version=f"1.{number}") for number in range(_RELEASES)]
        state.create(lock, rollout("shop"), rows(1), every, {})
        state.release(lock)
    reports = folder / "store" / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    for number in range(_REPORTS):
        _write(reports / f"20261129T0000{number:02}-{number:04}-evaluate.json", number)
    yield made
    made.entries.close()
    made.opened.close()


def _write(path: Path, number: int) -> None:
    accuracy = {
        "metric": "top1",
        "samples": 10,
        "value": number / 100,
    }
    outcome = DeviceOutcome(
        "cam-1", "cls", Verdict.VERIFIED, measurements={"accuracy": accuracy}, version=f"1.{number}"
    )
    path.write_text(to_json(RunReport("evaluate", f"2026-11-29T00:00:{number:02}Z", 1.0, (outcome,))))


def test_every_release_is_on_one_page(service):
    client, seen = logged_in(service, Role.VIEW), []
    for number in range(1, 6):
        page = client.get(f"/models/cls?page={number}", headers=HTML)
        assert page.status_code == 200
        seen += re.findall(r">1\.(\d+) <code", page.text)
        assert f"Page {number} of 5" in page.text
    assert sorted(map(int, seen)) == list(range(_RELEASES))


def test_every_evaluation_is_on_one_page(service):
    client, seen, path = logged_in(service, Role.VIEW, "eve"), [], "/models/cls"
    for _ in range(3):
        page = client.get(path, headers=HTML)
        assert page.status_code == 200
        seen += re.findall(r"/reports/(\d{8}T\d{6}-\d+-evaluate)", page.text)
        following = re.search(r'href="([^"]+)">Older evaluations', page.text)
        path = html.unescape(following[1]) if following else ""
    assert path == ""
    assert len(seen) == len(set(seen)) == _REPORTS
    assert seen == sorted(seen, reverse=True)
    assert "Latest evaluations" in page.text


def test_the_api_has_them_in_pages(service):
    client = client_of(service)
    client.headers["authorization"] = f"Bearer {service.auth.users.add('api', Role.VIEW)}"
    for member, total in (("releases", _RELEASES), ("evaluations", _REPORTS)):
        found, following = [], f"/api/v1/models/cls/{member}?limit=20"
        while following:
            answer = client.get(following, headers={"accept": "application/json"})
            assert answer.status_code == 200, answer.text
            found += answer.json()[member]
            link = answer.headers.get("link", "")
            following = link[1 : link.index(">")] if link else ""
        assert len(found) == total
        unknown = client.get(f"/api/v1/models/none/{member}", headers={"accept": "application/json"})
        assert unknown.status_code == 404


def test_a_page_reads_a_bounded_number_of_reports(service, tmp_path):
    found, older = evaluations_before(service.config(), "another-model")
    assert (found, older) == ((), "")
    found, older = evaluations_before(service.config(), "cls", most=5)
    assert len(found) == 5
    assert older == found[-1].report
