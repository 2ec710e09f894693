"""The HTTP API of a real server process over a real fleet: each action to its end, as a program of a user's would do it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import litefleet
import pytest
import yaml
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from tests.conftest import CACHE
from tests.e2e.conftest import CONFIG, DIMS, Project
from tests.e2e.rollout_helpers import audit, current, environment, new_release
from tests.e2e.serving import Server, running_fleet
from tests.fakes.embedded_inventory import inventory_yaml


class Site(NamedTuple):
    """What the tests share: they run in their order, and each leaves the fleet as the next one needs it."""

    fleet: EmbeddedFleet
    job: Project
    server: Server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, lite_python: Path, models: dict[str, Path]) -> Iterator[Site]:
    os.environ["LITEFLEET_CACHE"] = str(CACHE / "litefleet")
    folder = tmp_path_factory.mktemp("api")
    text = CONFIG.format(model="cls", source=models["cls"], dims=DIMS["cls"], connect=5, step=60)
    (folder / "litefleet.yaml").write_text(text)
    specs = [DeviceSpec(name, kind="sshd", python=str(lite_python)) for name in ("a", "b")]
    with running_fleet(EmbeddedFleet(folder / "devices", specs)) as fleet:
        job = Project(folder)
        entries = yaml.safe_load(inventory_yaml(fleet))["devices"]
        del entries["b"]["host_key"]  # its key is pinned on the first contact, and may be accepted anew
        job.inventory(yaml.safe_dump({"devices": entries}, width=1000))
        ssh = yaml.safe_load(text)["ssh"]
        job.config(ssh={**ssh, "accept_new_host_keys": True})
        job.policy(waves=[1, "100%"], approve=True)
        server = Server(folder / "litefleet.yaml")
        server.start()
        try:
            yield Site(fleet, job, server)
        finally:
            server.end()


def waits(site: Site) -> str:
    """Start a rollout that waits for approval after its first wave, and return its ID."""
    job = site.server.ended(site.server.post("/rollouts", {}))
    assert (job["state"], job["exit_code"]) == ("done", 3), job
    return str(job["rollout"])


def test_a_plan_is_a_job_whose_result_is_the_commands_document(site: Site) -> None:
    begun = site.server.post("/plan", {"select": "a"})
    job = site.server.ended(begun)
    assert (job["kind"], job["state"], job["exit_code"], job["error"]) == ("plan", "done", 0, None), job
    assert job["by"].startswith("operate-user as ")
    plan = site.server.get(f"/jobs/{job['id']}/result").json
    assert plan["command"] == "plan"
    assert [(d["device"], d["what"]) for d in plan["devices"]] == [("a", "changes")]
    assert current(site.fleet) == {"a": "", "b": ""}


def test_a_rollout_waits_is_approved_and_done_and_the_log_names_the_people(site: Site) -> None:
    rollout = waits(site)
    status = site.server.get(f"/rollouts/{rollout}").json
    assert (status["rollout"]["state"], status["rollout"]["by"][:16]) == ("waiting", "operate-user as ")
    assert [bool(release) for release in current(site.fleet).values()] in ([True, False], [False, True])
    job = site.server.ended(site.server.post(f"/rollouts/{rollout}/approve", role="admin"))
    assert (job["state"], job["exit_code"]) == ("done", 0), job
    assert all(current(site.fleet).values())
    assert site.server.get(f"/rollouts/{rollout}").json["rollout"]["state"] == "done"
    approvals = [entry for entry in audit(site.job) if entry.action == "approve"]
    assert [str(entry.what["by"]).partition(" as ")[0] for entry in approvals] == ["admin-user"]
    report = site.server.get(f"/reports/{rollout}").json
    assert (report["command"], report["by"].partition(" as ")[0]) == ("approve", "admin-user")


def stream(site: Site, rollout: str, last: str = "") -> list[tuple[str, str, Any]]:
    """Return the events of a rollout that is over: (name, id, data)."""
    request = urllib.request.Request(f"{site.server.url}/api/v1/rollouts/{rollout}/events")
    request.add_header("Authorization", f"Bearer {site.server.tokens['view']}")
    if last:
        request.add_header("Last-Event-ID", last)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        blocks = response.read().decode().split("\n\n")
    found = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


def test_a_stream_has_every_move_and_continues_after_the_last_event_that_was_seen(site: Site) -> None:
    every = stream(site, "latest")
    assert [name for name, _, _ in every[-2:]] == ["rollout", "end"]
    moves = [(ident, data["device"], data["after"]) for name, ident, data in every if name == "move"]
    assert {(device, after) for _, device, after in moves} >= {("a", "confirmed"), ("b", "confirmed")}
    assert [int(ident) for ident, _, _ in moves] == sorted({int(ident) for ident, _, _ in moves})
    rest = stream(site, every[-1][2]["id"], moves[2][0])
    assert [ident for name, ident, _ in rest if name == "move"] == [ident for ident, _, _ in moves[3:]]
    wrong = site.server.get("/rollouts/r-20200101-0001/events")
    assert (wrong.status, wrong.headers["content-type"]) == (404, "application/problem+json")


def test_lists_are_paged_and_answers_have_tags(site: Site) -> None:
    first = site.server.get("/devices?limit=1")
    assert [record["device"] for record in first.json["devices"]] == ["a"]
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    second = site.server.get(link[1 : link.index(">")].removeprefix("/api/v1"))
    assert [record["device"] for record in second.json["devices"]] == ["b"]
    assert "link" not in second.headers
    for path in ("/devices", "/rollouts", "/rollouts/latest", "/findings/LF501", "/openapi.json", "/audit"):
        answer = site.server.get(path)
        assert answer.status == 200, (path, answer)
        again = site.server.ask("GET", f"/api/v1{path}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.text) == (304, ""), path
    assert site.server.get("/devices?cursor=bm9uZQ").status == 404
    assert site.server.get("/devices?select=nothing").status == 404
    assert site.server.get("/devices?state=failed").json["devices"] == []
    assert site.server.get("/devices/a").json["models"][0]["verdict"] == "verified"
    assert site.server.get("/history?select=a").json == {"schema": 1, "entries": []}


def test_problems_say_what_was_seen_and_what_to_do(site: Site) -> None:
    missing = site.server.get("/rollouts/r-20200101-0001")
    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
    assert "`litefleet status --all` lists them" in missing.json["detail"]
    wrong = site.server.get("/devices?limit=0&colour=red")
    assert wrong.status == 422
    assert {entry["where"] for entry in wrong.json["errors"]} == {"query.limit", "query.colour"}
    done = site.server.post(f"/rollouts/{site.server.get('/rollouts/latest').json['rollout']['id']}/pause")
    assert (done.status, done.json["exit_code"]) == (409, 2)
    assert "there is nothing to pause" in done.json["detail"]
    for method, path, body, status in (
        ("POST", "/plan", b"{", 422),
        ("POST", "/plan", {"select": 1}, 422),
        ("POST", "/plan", {"models": ["none"]}, 404),
        ("GET", "/nothing", None, 404),
        ("PUT", "/devices", {}, 405),
        ("GET", "/jobs/j-none", None, 404),
        ("GET", "/reports/..%2f..%2fetc", None, 404),
    ):
        answer = site.server.ask(method, f"/api/v1{path}", body)
        assert (answer.status, answer.json["status"]) == (status, status), (path, answer)
        assert answer.headers["content-type"] == "application/problem+json"


def test_roles_are_checked(site: Site) -> None:
    for method, path, role, status in (
        ("GET", "/devices", "", 401),
        ("POST", "/plan", "view", 403),
        ("POST", "/rollouts/x/abort", "view", 403),
        ("POST", "/jobs/x/stop", "view", 403),
        ("GET", "/devices/a/host-key", "operate", 403),
        ("DELETE", "/devices/a", "operate", 403),
        ("GET", "/me", "view", 200),
    ):
        answer = site.server.ask(method, f"/api/v1{path}", None, role)
        assert answer.status == status, (method, path, role, answer)
        assert answer.json.get("status", 200) == status


def test_a_repeated_request_acts_once_also_after_the_server_was_killed(site: Site) -> None:
    new_release(site.job, 3)
    first = site.server.post("/rollouts", {}, key="once-1")
    site.server.ended(first)
    site.server.end(signal.SIGKILL)
    site.server.start()
    again = site.server.post("/rollouts", {}, key="once-1")
    assert (again.status, again.headers["location"]) == (202, first.headers["location"])
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json["id"] == first.json["id"]
    assert len(site.server.get("/rollouts").json["rollouts"]) == 2
    other = site.server.post("/rollouts", {"supersede": True}, key="once-1")
    assert (other.status, other.json["title"]) == (422, "Unprocessable Entity")
    theirs = site.server.post("/rollouts/r-20200101-0001/pause", role="admin", key="once-1")
    assert theirs.status == 404  # another person's key


def test_a_rollout_is_paused_resumed_aborted_and_rolled_back(site: Site) -> None:
    rollout = site.server.get("/rollouts/latest").json["rollout"]["id"]
    paused = site.server.post(f"/rollouts/{rollout}/pause")
    assert (paused.status, paused.json["message"]) in ((200, f"{rollout} is paused"), (409, None)), paused
    resumed = site.server.ended(site.server.post(f"/rollouts/{rollout}/resume"))
    assert resumed["state"] == "done", resumed
    aborted = site.server.post(f"/rollouts/{rollout}/abort")
    assert (aborted.status, aborted.json["message"]) == (200, f"{rollout} is aborted")
    before = current(site.fleet)
    assert before["a"] != before["b"]
    preview = site.server.get(f"/rollback?rollout={rollout}").json
    assert (preview["rollout"], len(preview["devices"])) == (rollout, 1)
    assert preview["text"].startswith(f"rollback of {rollout}")
    assert current(site.fleet) == before
    done = site.server.ended(site.server.post("/rollback", {"rollout": rollout}))
    assert (done["state"], done["exit_code"]) == ("done", 0), done
    assert len(set(current(site.fleet).values())) == 1
    retried = site.server.post(f"/rollouts/{rollout}/retry")
    assert retried.status == 202  # what the rollout says then is its job's end
    failed = site.server.ended(retried)
    assert (failed["state"], failed["exit_code"]) == ("failed", 2)
    assert "rolled back" in failed["error"]["message"], failed


def test_a_job_is_stopped_as_ctrl_c_stops_the_command(site: Site) -> None:
    new_release(site.job, 4)
    begun = site.server.post("/rollouts", {"supersede": True})
    assert site.server.post(f"/jobs/{begun.json['id']}/stop").status == 200
    job = site.server.ended(begun)
    assert (job["state"], job["exit_code"]) == ("stopped", 4), job
    busy = site.server.post("/rollouts", {"supersede": True})
    assert busy.status == 202  # the fleet's lock is free again
    assert site.server.ended(busy)["exit_code"] == 3
    assert site.server.end() == 0
    site.server.start()


def test_the_python_client_does_the_same_over_http(site: Site) -> None:
    local = litefleet.open_project(site.job.folder / "litefleet.yaml")
    project = litefleet.open_project(site.server.url, token=site.server.tokens["operate"])
    assert (project.fleet, project.person, project.role) == ("default", "operate-user", "operate")
    assert project.plan(offline=True).to_dict()["counts"] == litefleet.plan(local, offline=True).counts
    assert [rollout.id for rollout in project.rollouts()] == [rollout.id for rollout in litefleet.rollouts(local)]
    assert project.rollouts(1)[0].state == "waiting"
    assert project.approve().exit_code == 0
    found, known = project.status(), litefleet.status(local)
    assert (found.rollout, found.rows, found.outcomes) == (known.rollout, known.rows, known.outcomes)
    assert project.devices() == litefleet.devices(local)
    story, local_story = project.device("a"), litefleet.device(local, "a")
    assert (story.records, story.timeline) == (local_story.records, local_story.timeline)
    assert project.audit(last=5) == litefleet.audit(local, last=5)
    assert project.known_models() == litefleet.known_models(local)
    one_model = project.model("cls")
    assert one_model.to_dict() == litefleet.model(local, "cls").to_dict()
    assert {one["golden_power"]["verdict"] for one in one_model.releases} == {"strong"}  # measured at the conversion
    assert sum(one["devices"] for one in one_model.releases) == 2
    assert project.report(found.rollout.id) == litefleet.report(local, found.rollout.id)
    assert project.plan_rollback().text() == litefleet.plan_rollback(local).text()
    assert site.server.tokens["operate"] not in repr(project)


def test_the_client_raises_the_errors_of_the_commands(site: Site) -> None:
    project = litefleet.open_project(site.server.url, token=site.server.tokens["view"])
    with pytest.raises(litefleet.UsageError, match="there is no rollout r-20200101-0001"):
        project.status("r-20200101-0001")
    with pytest.raises(litefleet.UsageError, match=r"view-user has the role view, and this needs operate"):
        project.rollout()
    with pytest.raises(litefleet.UsageError, match="Log in first"):
        litefleet.open_project(site.server.url, token="none")
    with pytest.raises(litefleet.UsageError, match="over http anybody on the way can read the token"):
        litefleet.open_project("http://192.0.2.1:8470", token="none")
    with pytest.raises(litefleet.UsageError, match="there is nothing to pause"):
        litefleet.open_project(site.server.url, token=site.server.tokens["operate"]).pause()
    with pytest.raises(litefleet.LitefleetError, match="cannot be reached"):
        litefleet.open_project("http://127.0.0.1:9", token="none")


def test_what_the_page_of_the_docs_gives_to_copy_works(site: Site) -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    token = site.server.tokens["operate"]
    variables = {**environment(), "LITEFLEET_URL": site.server.url, "LITEFLEET_TOKEN": token}
    shown = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in shown] == ["sh"] * 5 + ["python"]
    for language, block in shown[1:]:
        program = ["bash", "-ec"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, block], capture_output=True, text=True, env=variables, timeout=120, check=False
        )
        assert done.returncode == 0, (block, done.stderr)
        assert done.stdout, block


def test_a_host_key_is_shown_compared_and_trusted_and_a_device_is_forgotten(site: Site) -> None:
    shown = site.server.get("/devices/b/host-key", "admin")
    assert (shown.status, shown.json["is_trusted"]) == (200, True), shown
    known = site.job.folder / ".litefleet" / "known_hosts"
    known.write_text("")
    shown = site.server.get("/devices/b/host-key", "admin")
    assert (shown.status, shown.json["is_trusted"]) == (200, False), shown
    other = {"fingerprint": "SHA256:" + "A" * 43}
    assert site.server.post("/devices/b/host-key", other, "admin").status == 409
    accepted = site.server.post("/devices/b/host-key", {"fingerprint": shown.json["fingerprint"]}, "admin")
    assert (accepted.status, accepted.json["elsewhere"]) == (200, []), accepted
    assert shown.json["fingerprint"] in [entry.what.get("new") for entry in audit(site.job)]
    assert site.server.get("/devices/b/host-key", "admin").json["is_trusted"]
    assert site.server.get("/devices/none/host-key", "admin").status == 404

    assert sum(site.server.get("/devices/b/stored").json["stored"].values()) > 0
    gone = site.server.ask("DELETE", "/api/v1/devices/b", role="admin")
    assert (gone.status, gone.json["message"]) == (200, "b is forgotten."), gone
    assert site.server.ask("DELETE", "/api/v1/devices/b", role="admin").status == 404
