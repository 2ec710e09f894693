"""A state that is older than its devices, or that another one leads: noticed at the first contact, and nothing changes until
a person adopts what the devices run, or takes them over knowingly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_controller.reports.status_text import status_dict, status_text
from litefleet_controller.rollout import RolloutEvent
from litefleet_controller.state import StateDamaged, StateOlder

from tests.sim.operator_commands import Done, Operator
from tests.sim.sim_profile import Outage

REFUSED = 3
Make = Callable[..., Operator]
Act = Callable[[Operator], Done]
GO_ON: dict[str, Act] = {
    "reconcile": lambda at: at.reconcile(),
    "reconcile --repair": lambda at: at.reconcile(repair=True),
    "rollout": lambda at: at.rollout("1"),
    "rollback": lambda at: at.rollback(),
}


@pytest.fixture
def operator(tmp_path: Path, template: Path) -> Make:
    return lambda **policy: Operator(tmp_path / "fleet", template, ("pi4",) * 3, **policy)


@pytest.mark.parametrize("command", GO_ON)
def test_a_state_from_yesterday_takes_nothing_newer_back(operator: Make, command: str) -> None:
    at = operator()
    at.rollout("2")
    yesterday = at.backup()
    at.rollout("3")
    at.restore(yesterday)
    said = GO_ON[command](at)
    assert (said.code, at.runs) == (REFUSED, "333"), said
    assert f"LF630 {', '.join(at.names)}: {at.names[0]} was last switched under number" in said.text
    assert "litefleet state adopt" in said.text
    assert at.adopt().code == 0
    assert (at.reconcile(repair=True).code, at.runs) == (0, "333")
    assert at.rollout("4").code == 0
    assert at.runs == "444"


def test_an_open_rollout_of_yesterday_is_not_carried_on(operator: Make) -> None:
    at = operator(waves=[1, "100%"], approve=True)
    assert (at.rollout("2").code, at.runs) == (REFUSED, "211")
    yesterday, old = at.backup(), at.latest
    at.end(RolloutEvent.ABORT)
    at.policy()
    at.rollout("3")
    at.restore(yesterday)
    for command in ("approve", "resume"):
        assert (at.step(command, old).code, at.runs) == (REFUSED, "333")
    assert (at.reconcile().code, at.runs) == (REFUSED, "333")
    assert at.adopt().code == 0
    assert at.state(old) == "aborted"
    assert (at.reconcile(repair=True).code, at.runs) == (0, "333")


def test_a_device_that_was_away_when_the_others_were_adopted_is_asked_for_again(operator: Make) -> None:
    at = operator()
    yesterday = at.backup()
    at.rollout("2")
    at.restore(yesterday)
    at.away(2)
    assert at.adopt().code == 1
    at.back(2)
    assert at.rollout("3").code == REFUSED
    assert at.rollout("3", limit=",".join(at.names[:2])).code == 0
    assert at.runs == "332"
    assert at.adopt(at.names[2]).code == 0
    assert (at.rollout("3").code, at.runs) == (0, "333")


def test_an_empty_state_leads_nothing_until_it_takes_over_knowingly(operator: Make) -> None:
    at = operator()
    mine = at.backup()
    at.restore(None)  # a second controller, with a database of its own
    for act in (lambda: at.rollout("2"), lambda: at.rollout("2", supersede=True)):
        said = act()
        assert (said.code, at.runs) == (REFUSED, "111")
        assert "last switched by another state" in said.text
        assert "litefleet rollout --take-over" in said.text
    assert at.rollout("2", take_over=True).code == 0
    assert at.runs == "222"
    at.restore(mine)  # the first one finds out in its turn
    assert (at.rollout("3").code, at.reconcile(repair=True).code, at.runs) == (REFUSED, REFUSED, "222")


def test_a_device_that_another_state_took_meanwhile_is_left_alone(operator: Make) -> None:
    at = operator()
    at.away(2)
    at.rollout("2")
    assert at.runs == "221"
    at.device(2).told = {"fleet": "simulated", "state": "f" * 32, "number": 1}
    at.back(2)
    assert at.step("resume").code == REFUSED  # a gate stops there
    assert (at.runs, at.states()) == ("221", ["confirmed", "confirmed", "failed"])
    assert at.harness.rows()[(at.names[2], "cls")].codes == ("LF630",)


def test_an_older_agent_is_led_as_before(operator: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    at = operator()
    yesterday = at.backup()
    for name in at.names:
        device = at.fleet.devices[name]
        answer = device.answer

        def older(request: Any, session: object, version: str, answer: Any = answer) -> Any:
            assert "told" not in request.header  # nothing is sent that this agent has not announced
            said = answer(request, session, version)
            said.get("result", {}).pop("told", None)
            return said

        monkeypatch.setattr(device, "answer", older)
    assert (at.rollout("2").code, at.runs) == (0, "222")
    at.restore(yesterday)
    assert (at.rollout("3").code, at.runs) == (0, "333")


def test_the_file_beside_the_database_tells_before_any_device_is_asked(operator: Make) -> None:
    at = operator()
    yesterday = at.backup()
    at.rollout("2")
    contacts = [device.contacts for device in at.fleet.devices.values()]
    with pytest.raises(StateOlder, match=r"is older than state\.db\.id beside it"):
        at.restore(yesterday, with_note=False)
    assert at.harness.state.behind("simulated")
    assert contacts == [device.contacts for device in at.fleet.devices.values()]


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "missing"])
def test_a_damaged_database_is_named_and_nothing_is_overwritten(operator: Make, damage: str) -> None:
    at = operator()
    whole = at.backup()
    at.harness.leave()
    path = at.harness.folder / "state.db"
    left = {"empty": b"", "half": whole[: len(whole) // 2], "garbage": bytes(range(256)) * 64, "missing": None}[damage]
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    for _ in range(2):
        with pytest.raises(
            StateDamaged, match=r"state\.db\.id beside it says what it held: fleet 'simulated' with number"
        ):
            at.harness._open()
    assert (path.read_bytes() if path.exists() else None) == left
    path.write_bytes(whole)
    at._sit_down()
    assert at.harness.state.check_audit() == ""


def test_what_a_canary_runs_that_left_at_the_end_of_its_soak(operator: Make) -> None:
    at = operator(waves=[1, "100%"], soak=60, gates={"canary": {"count": 1}})
    device, gone = at.device(0), at.fleet.clock.elapsed + 45
    device.profile = device.profile.with_(outages=(Outage(gone, gone + 600),))
    at.rollout("2")
    at.back(0)
    assert (at.runs, at.states()) == ("211", ["failed", "pending", "pending"])
    running = {key: entry.at for key, entry in at.harness.state.runs_failed(at.latest).items()}
    rollout, rows = at.harness.rollout(), at.harness.state.rows(at.latest)
    text = status_text(rollout, rows, (), at.fleet.clock.now(), running=running)
    assert "these devices ran the new release when they were last seen" in " ".join(text.split())
    assert "run the release that they ran before" not in text
    content = status_dict(rollout, rows, (), 0.0, "", running)
    assert [d["device"] for d in content["failed_running"]] == at.names[:1]
    assert (at.reconcile(repair=True).code, at.latest) == (REFUSED, rollout.id)  # no "repair" to what it runs
    (report,) = (at.harness.folder / "store" / "reports").glob("*-reconcile.json")
    named = {d["device"]: [f["code"] for f in d["findings"]] for d in json.loads(report.read_text())["devices"]}
    assert named == {at.names[0]: ["LF631"], at.names[1]: [], at.names[2]: []}
    assert (at.rollback(rollout=rollout.id).code, at.runs) == (0, "111")
