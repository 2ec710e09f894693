"""Requests that no browser sends, and files that change while the server runs: each gets a sentence, and none a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import litefleet
import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.build.golden.power import GoldenPower
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport, to_json
from litefleet_controller.project.run_fleet import reports_folder
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.auth.auth import Proxy
from litefleet_controller.serve.live import number_after
from litefleet_controller.serve.service import Service
from litefleet_controller.state import State
from starlette.testclient import TestClient

from tests.controller.serve.serving import HTML, client_of, csrf_of, logged_in, service_in
from tests.controller.support.state_values import ELSEWHERE, release

PAGES = ("/", "/devices/cam-1", "/rollouts", "/models", "/models/cls", "/findings", "/findings/LF403", "/reports")
DOCUMENTS = (
    "/devices",
    "/devices/cam-1",
    "/models",
    "/models/cls",
    "/rollouts",
    "/audit",
    "/history",
    "/reports",
    "/jobs",
    "/me",
    "/rollback",
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = service_in(tmp_path)
    yield made
    made.jobs.close()
    made.opened.close()


@pytest.fixture
def admin(service: Service) -> TestClient:
    """A client with an admin's token."""
    token = service.auth.users.add("root", Role.ADMIN)
    return client_of(service, headers={"authorization": f"Bearer {token}"})


def all_answers(admin: TestClient) -> dict[str, tuple[int, str]]:
    """Return the status and the text of each page and document."""
    found = {path: admin.get(path, headers=HTML) for path in PAGES}
    found.update({f"/api/v1{path}": admin.get(f"/api/v1{path}") for path in DOCUMENTS})
    return {path: (response.status_code, response.text) for path, response in found.items()}


def test_a_form_with_many_fields_is_no_error_of_the_server(service: Service) -> None:
    many = {f"field{n}": "x" for n in range(1500)}
    assert client_of(service).post("/login", data=many).status_code == 401
    client = logged_in(service, Role.OPERATE)
    assert client.post("/views", data={**many, "csrf": csrf_of(service, client)}).status_code == 403
    query = "&".join(f"a{n}=1" for n in range(100))
    saved = client.post("/views", data={"csrf": csrf_of(service, client), "name": "v", "query": query})
    assert (saved.status_code, saved.headers["location"]) == (303, "/")


def test_an_origin_that_is_no_url_is_another_sites(service: Service) -> None:
    assert client_of(service).post("/login", data={"token": "x"}, headers={"origin": "http://["}).status_code == 403


def test_a_number_that_no_database_holds_begins_no_stream() -> None:
    assert number_after("9" * 19) == 0
    assert number_after("9" * 18) == int("9" * 18)


def test_a_proxys_own_password_is_no_token_and_nobodys_failure(tmp_path: Path) -> None:
    import ipaddress

    proxy = Proxy("X-Forwarded-User", (ipaddress.ip_network("10.0.0.5/32"),), Role.VIEW)
    service = service_in(tmp_path, proxy)
    client = client_of(service, "10.0.0.5")
    basic = {"authorization": "Basic YWxpY2U6c2VjcmV0", "x-forwarded-user": "alice", "x-forwarded-for": "192.0.2.1"}
    for _ in range(8):
        assert client.get("/t/view", headers=basic).text == "alice view"
    service.opened.close()
    assert client_of(service).get("/t/view", headers={"authorization": basic["authorization"]}).status_code == 401


def test_healthz_names_no_file_to_people_who_have_not_logged_in(service: Service, admin: TestClient) -> None:
    path = service.options.config
    path.write_text("fleet: [\n")
    unknown = client_of(service).get("/healthz")
    assert unknown.status_code == 503
    assert str(path.parent) not in unknown.text
    assert str(path) in admin.get("/healthz").text


def test_a_report_of_any_name_can_be_downloaded(service: Service, admin: TestClient) -> None:
    folder = reports_folder(service.config())
    folder.mkdir(parents=True)
    (folder / "报告-verify.json").write_text(to_json(RunReport("verify", "2026-11-28T08:00:00Z", 1.0, ())))
    for kind in ("json", "csv", "junit", "markdown"):
        response = admin.get(f"/reports/报告-verify/{kind}")
        assert response.status_code == 200, response.text
        assert response.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%E6%8A%A5")
    assert admin.get("/reports/报告-verify", headers=HTML).status_code == 200
    assert admin.get("/reports/..%2F..%2Flitefleet/json").status_code == 404


def test_broken_files_of_the_project_get_a_sentence_on_every_page(
    service: Service, admin: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    config, inventory = service.options.config, service.options.config.parent / "hosts.yaml"
    right, listed = config.read_text(), inventory.read_text()
    for file, text in ((config, "fleet: [\n"), (config, "fleet: shop\nmodles: {}\n"), (inventory, "devices: 7\n")):
        file.write_text(text)
        answers = all_answers(admin)
        assert {status for status, _ in answers.values()} <= {200, 503}
        assert answers["/"][0] == 503
        assert file.name in answers["/"][1]
        assert file.name in json.loads(answers["/api/v1/devices"][1])["detail"]
        config.write_text(right)
        inventory.write_text(listed)
    for gone in (inventory, config):
        moved = gone.rename(gone.with_suffix(".away"))
        answers = all_answers(admin)
        assert {status for status, _ in answers.values()} <= {200, 404, 422, 503}
        assert answers["/"][0] in (422, 503)
        assert gone.name in answers["/"][1]
        moved.rename(gone)
    assert {path: status for path, (status, _) in all_answers(admin).items() if status != 200} == {
        "/api/v1/rollback": 404  # no rollout yet
    }
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_state_that_cannot_be_used_gets_a_sentence(
    service: Service, admin: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    store = service.config().store
    with service.state():
        pass
    service.opened.close()
    for file in store.glob("state.db*"):
        file.unlink()
    (store / "state.db").write_bytes(b"no database" * 1000)
    answers = all_answers(admin)
    assert answers["/"][0] == 503
    assert "state.db" in answers["/"][1]
    assert {status for status, _ in answers.values()} <= {200, 503}
    (store / "state.db").unlink()
    State.open(store / "state.db").close()
    assert admin.get("/", headers=HTML).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_jobs_that_cannot_be_read_and_views_that_cannot_be_saved(service: Service, admin: TestClient) -> None:
    store = service.config().store
    store.mkdir(parents=True, exist_ok=True)
    (store / "serve.db").write_bytes(b"no database" * 1000)
    (store / "serve-views.json").mkdir()
    assert admin.get("/rollouts/x", headers=HTML).status_code == 404  # not the error of the file of jobs
    assert admin.get("/api/v1/jobs").status_code == 503
    refused = admin.post("/views", data={"name": "v", "query": "q=x"}, headers=HTML)
    assert refused.status_code == 503
    assert "serve-views.json cannot be written" in refused.text


def test_a_body_that_names_a_member_twice_is_refused(admin: TestClient) -> None:
    for body in (b'{"offline": true, "offline": false}', b'{"models": [{"a": 1, "a": 1}]}'):
        refused = admin.post("/api/v1/plan", content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
        assert "twice" in refused.json()["detail"]
    deep = admin.post("/api/v1/plan", content=b"[" * 100_000, headers={"content-type": "application/json"})
    assert deep.status_code == 422


def test_an_unknown_address_of_the_api_is_no_page(admin: TestClient) -> None:
    for path in ("/api/v1/none", "/api/v2/devices", "/api/"):
        answer = admin.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.json()["detail"].startswith("There is no such address of the API")
    assert "no such page" in admin.get("/none", headers=HTML).text


def test_the_api_knows_models_their_goldens_and_what_was_measured(service: Service, admin: TestClient) -> None:
    power = GoldenPower("fp32", 2, "weak", "it would accept other classes in out", (), ())
    with service.state() as state:
        lock = state.acquire("shop", ELSEWHERE)
        state.store_releases(
            lock, [release("r1", version="1.0", golden_power=power.to_dict()), release("r2", model="old")]
        )
        state.release(lock)
    folder = reports_folder(service.config())
    folder.mkdir(parents=True, exist_ok=True)
    for day, values in ((1, (0.5, 0.75)), (2, (0.9,))):
        outcomes = tuple(
            DeviceOutcome(
                f"cam-{n}",
                "cls",
                Verdict.VERIFIED,
                version="1.0",
                measurements={"accuracy": {"metric": "top1", "value": value, "samples": 9, "least": 0.6}},
            )
            for n, value in enumerate(values, 1)
        )
        kept = RunReport("evaluate", f"2026-11-0{day}T10:00:00Z", 1.0, outcomes)
        (folder / f"2026110{day}T100000-evaluate.json").write_text(to_json(kept))
    (folder / "20261103T100000-evaluate.json").write_text("{")

    listed = admin.get("/api/v1/models?limit=1")
    assert [one["name"] for one in listed.json()["models"]] == ["cls"]
    following = listed.headers["link"].split(">")[0].removeprefix("<")
    assert [(one["name"], one["is_configured"]) for one in admin.get(following).json()["models"]] == [("old", False)]
    answer = admin.get("/api/v1/models/cls")
    found = answer.json()
    assert [(one["id"], one["golden_power"]["verdict"]) for one in found["releases"]] == [("r1", "weak")]
    seen = [(one["devices"], one["accepted"], one["lowest"], one["middle"]) for one in found["evaluations"]]
    assert seen == [(1, 1, 0.9, 0.9), (2, 1, 0.5, 0.625)]
    assert [one["device"] for one in found["evaluations"][1]["scores"]] == ["cam-1", "cam-2"]
    assert admin.get("/api/v1/models/cls", headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert admin.get("/api/v1/models/none").status_code == 404
    page = admin.get("/models/cls", headers=HTML).text
    for words in ("weak", "it would accept other classes", "0.6250", "Evaluations that are kept"):
        assert words in page
    assert "r2"[:12] in admin.get("/models/old", headers=HTML).text
    assert [one.name for one in litefleet.known_models(service.options.config)] == ["cls", "old"]
    assert litefleet.model(service.options.config, "cls").to_dict() == found
