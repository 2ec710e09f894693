"""Actions from the page: two people of different roles, a rollout watched live to its stop, and taken back."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncssh
import pytest
import yaml
from litefleet_controller.state import State
from playwright.sync_api import Page, expect

from tests.e2e.rollout_helpers import bad_release, current, environment, new_release
from tests.e2e.serve.dashboard import Dashboard

pytestmark = pytest.mark.timeout(600)  # a fleet, a browser and several rollouts
Visit = Callable[..., Page]
_WAIT_MS = 60_000


def latest(board: Dashboard) -> str:
    with closing(State.open(board.job.folder / ".litefleet" / "state.db")) as state:
        return state.rollouts("default", 1)[0].id


def test_a_rollout_is_watched_to_its_stop_and_taken_back_from_the_page(board: Dashboard, visit: Visit) -> None:
    before = current(board.fleet)
    new_release(board.job, 4)
    board.job.config(rollout={"waves": [1, "100%"], "approve": [1], "gates": {"canary": {"count": 1}}})
    board.command("rollout", code=3)  # the first wave is done, and a person has to approve
    ident = latest(board)

    looking, acting = visit("view"), visit("operate")
    for page in (looking, acting):
        page.goto(f"{board.address}/rollouts/{ident}")
    expect(looking.locator(".state")).to_contain_text("waiting")
    assert looking.locator(".actions").count() == 0  # a person who may only look has no buttons
    refused = looking.goto(f"{board.address}/rollouts/{ident}/approve")
    assert refused is not None
    assert refused.status == 403
    looking.goto(f"{board.address}/rollouts/{ident}")
    assert "view-person has the role view" in sent(looking, f"{board.address}/rollouts/{ident}/approve", 403)

    acting.click("#do-approve")
    assert "starts the next wave" in acting.inner_text("main")
    acting.click("form.confirm button")
    acting.wait_for_url(f"{board.address}/rollouts/{ident}")
    # The page of the other person moves by itself: no reload
    looking.evaluate("window.same = true")
    expect(looking.locator(".state")).to_contain_text("done", timeout=_WAIT_MS)
    expect(looking.locator("#said")).to_contain_text("4 done", timeout=_WAIT_MS)
    assert looking.evaluate("window.same") is True
    assert len(set(current(board.fleet).values()) - set(before.values())) == 1

    acting.goto(f"{board.address}/rollouts/{ident}")
    acting.click("#do-rollback")
    rows = acting.locator("main table tbody tr")
    assert rows.count() == 4
    for shown in (current(board.fleet)["cam-1"], before["cam-1"]):  # from, to
        assert shown[:12] in rows.first.inner_text()
    acting.click("form.confirm button")
    acting.wait_for_url(f"{board.address}/rollouts/{ident}")
    until = time.monotonic() + _WAIT_MS / 1000
    while "rollback" not in acting.goto(f"{board.address}/rollouts").text() and time.monotonic() < until:  # type: ignore[union-attr]
        time.sleep(0.5)
    acting.locator("tbody th a").first.click()
    expect(acting.locator(".state")).to_contain_text("done", timeout=_WAIT_MS)
    assert current(board.fleet) == before
    assert "operate-person" in acting.inner_text(".acted")


def test_a_gate_stops_a_bad_release_and_a_person_resumes_pauses_and_aborts_it(board: Dashboard, visit: Visit) -> None:
    before = current(board.fleet)
    bad_release(board.job, board.fleet.devices["cam-1"].root)
    board.job.config(rollout={"waves": [1, "100%"], "gates": {"canary": {"count": 1}}})
    acting = visit("operate")
    command = [sys.executable, "-m", "litefleet_controller", "rollout", "-c", str(board.job.folder / "litefleet.yaml")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    assert running.wait(120) == 3
    ident = latest(board)
    acting.goto(f"{board.address}/rollouts/{ident}")
    expect(acting.locator(".state")).to_contain_text("paused")
    assert "LF403" in acting.inner_text("article.finding")
    for verb in ("resume", "retry", "abort"):
        assert acting.locator(f"#do-{verb}").count() == 1
    acting.click("#do-retry")
    acting.click("form.confirm button")
    acting.wait_for_url(f"{board.address}/rollouts/{ident}")
    expect(acting.locator(".acted")).to_contain_text("operate-person", timeout=_WAIT_MS)
    expect(acting.locator(".state")).to_contain_text("paused", timeout=_WAIT_MS)  # the gate stopped it again
    acting.goto(f"{board.address}/rollouts/{ident}/pause")
    assert "not possible now" in acting.inner_text("main")
    assert acting.locator("form.confirm").count() == 0
    acting.goto(f"{board.address}/rollouts/{ident}/abort")
    acting.click("form.confirm button")
    acting.wait_for_url(f"{board.address}/rollouts/{ident}")
    expect(acting.locator(".state")).to_contain_text("aborted", timeout=_WAIT_MS)
    assert current(board.fleet) == before


def test_an_admin_accepts_a_changed_key_and_forgets_a_device_and_others_may_not(board: Dashboard, visit: Visit) -> None:
    known, other = _with_another_key(board, "cam-4")
    assert "LF503" in board.command("probe", "--limit", "cam-4", "--json", code=1)

    operator = visit("operate")
    operator.goto(f"{board.address}/devices/cam-4")
    assert operator.locator(".actions").count() == 0
    for verb in ("forget", "accept-key"):
        refused = operator.goto(f"{board.address}/devices/cam-4/{verb}")
        assert refused is not None
        assert refused.status == 403
        operator.goto(f"{board.address}/devices/cam-4")
        assert "operate-person has the role operate" in sent(operator, f"{board.address}/devices/cam-4/{verb}", 403)
    csrf = operator.context.request.post(f"{board.address}/devices/cam-4/forget", form={"csrf": "wrong"})
    assert csrf.status == 403
    assert other in known.read_text()

    admin = visit("admin")
    admin.goto(f"{board.address}/devices/cam-4")
    admin.click("text=Accept a new host key")
    shown = set(re.findall(r"SHA256:\S{43}", admin.inner_text("main")))
    assert len(shown) == 2  # the known key, and the one that the device shows
    admin.click("form.confirm button")
    admin.wait_for_url(f"{board.address}/devices/cam-4")
    assert other not in known.read_text()
    board.command("probe", "--limit", "cam-4")
    with closing(State.open(board.job.folder / ".litefleet" / "state.db")) as state:
        what = state.audit(1)[0].what
    assert {what["new"], what["old"]} == shown

    admin.goto(f"{board.address}/devices/cam-4")
    admin.click("text=Forget")
    assert "facts" in admin.inner_text("main")
    admin.click("form.confirm button")
    admin.wait_for_url(f"{board.address}/")
    with closing(State.open(board.job.folder / ".litefleet" / "state.db")) as state:
        assert "cam-4" not in state.known()
        assert state.audit(1)[0].who.startswith("admin-person")


def sent(page: Page, address: str, status: int) -> str:
    """Send the form of a button that the page does not show, with the session's own token; return what the server says."""
    csrf = page.locator("form[action='/logout'] input[name=csrf]").get_attribute("value") or ""
    headers = {"Origin": address.split("/", 3)[2].join(("http://", "")), "Accept": "text/html"}
    answer = page.context.request.post(address, form={"csrf": csrf}, headers=headers)
    assert answer.status == status
    return answer.text()


def _with_another_key(board: Dashboard, name: str) -> tuple[Path, str]:
    """Let known_hosts hold another key of a device than it shows; return that file and the key."""
    inventory = yaml.safe_load((board.job.folder / "fleet.yaml").read_text())
    entry = inventory["devices"][name]
    del entry["host_key"]
    board.job.inventory(yaml.safe_dump(inventory, sort_keys=False, width=1000))
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]
    known = board.job.folder / ".litefleet" / "known_hosts"
    known.write_text(f"[{entry['host']}]:{entry['port']} ssh-ed25519 {other}\n")
    return known, other
