"""A command does what was just asked or says why not, no wave begins on no evidence, and a rollback undoes: case by case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.rollout import RolloutEvent

from tests.sim.operator_commands import Done, Operator
from tests.sim.sim_profile import Outage
from tests.sim.virtual_loop import run

Make = Callable[..., Operator]


@pytest.fixture
def operator(tmp_path: Path, template: Path) -> Make:
    return lambda kinds=("pi4",) * 5, **policy: Operator(tmp_path / "fleet", template, kinds, **policy)


def interrupted(one: Operator, version: str) -> str:
    """Leave a rollout open that was planned and written down, and has begun nothing; return its id."""
    one.supply.versions["cls"] = version
    one.harness.choose()
    rollout = run(one.harness.start(), one.fleet.clock)
    one.harness.reopen()
    return rollout.id


def refused(one: Operator, done: Done, rollout: str) -> None:
    """A refusal with exit code 3 that names the open rollout and both ways on, and has changed nothing."""
    assert done.code == 3, done
    assert f"{rollout} is open" in done.text
    assert f"`litefleet resume {rollout}`" in done.text
    assert one.latest == rollout


# --- a command does what was just asked


def test_a_configuration_put_back_is_not_overruled_by_an_interrupted_rollout(operator: Make) -> None:
    one = operator()
    opened = interrupted(one, "2")
    done = one.rollout("1")
    refused(one, done, opened)
    assert "`litefleet rollout --supersede` replaces it" in done.text
    assert one.runs == "11111"
    assert one.rollout("1", supersede=True).code == 0
    assert (one.runs, one.state(opened)) == ("11111", "superseded")


def test_a_limit_is_not_widened_by_an_interrupted_rollout(operator: Make) -> None:
    one = operator()
    opened = interrupted(one, "2")
    done = one.rollout(limit=one.names[4])
    refused(one, done, opened)
    assert f"it was made for the whole fleet, and this command is for --limit {one.names[4]}" in done.text
    assert one.runs == "11111"


def test_a_rollout_is_not_taken_for_an_open_rollback(operator: Make) -> None:
    one = operator()
    assert one.rollout("2").code == 0
    one.away(2)
    assert one.rollback().code == 1
    opened = one.latest
    one.back(2)
    done = one.rollout("6", limit=one.names[2])
    refused(one, done, opened)
    assert "it is a rollback" in done.text
    assert one.runs == "11211"
    assert one.step("resume").code == 0
    assert one.runs == "11111"


def test_a_rollout_of_what_all_run_does_not_carry_out_an_open_rollback(operator: Make) -> None:
    one = operator()
    assert one.rollout("2").code == 0
    one.away(3)
    one.rollback(limit=one.names[3])
    opened = one.latest
    one.back(3)
    refused(one, one.rollout("2"), opened)
    assert one.runs == "22222"


def test_a_plan_that_blocks_every_device_opens_nothing_and_carries_out_nothing(operator: Make) -> None:
    one = operator()
    one.blocked = True
    before = one.latest
    assert one.rollout("9").code == 1
    assert one.latest == before
    one.blocked = False
    opened = interrupted(one, "2")
    one.blocked = True
    refused(one, one.rollout("9"), opened)
    assert one.rollout("9", supersede=True).code == 1  # the blocked devices are reported
    assert (one.latest, one.state(), one.runs) == (opened, "running", "11111")


def test_a_narrower_rollout_leaves_the_others_turns_open_or_says_whose_it_gives_up(operator: Make) -> None:
    one = operator()
    one.away(4)
    assert one.rollout("5").code == 1
    opened = one.latest
    done = one.rollout("6", limit=one.names[0])
    refused(one, done, opened)
    assert one.rollout("6", limit=one.names[0], supersede=True).code == 0
    assert f"{one.names[4]} had not had its turn" in one.harness.rollout(opened).reason
    assert one.runs == "65551"


def test_the_same_plan_goes_on_whatever_the_dead_controller_had_done(operator: Make) -> None:
    one = operator()
    opened = interrupted(one, "2")
    assert one.rollout("2").code == 0
    assert (one.latest, one.runs, one.state()) == (opened, "22222", "done")


@pytest.mark.parametrize("change", ["release", "device joins", "policy"])
def test_another_plan_is_named(operator: Make, change: str) -> None:
    one = operator()
    whole = one.fleet.inventory
    if change == "device joins":
        one.harness.see(whole[:4])
    opened = interrupted(one, "2")
    output = {
        "release": "the new plan release",
        "device joins": f"it does not include {one.names[4]}",
        "policy": "`rollout:` in litefleet.yaml has changed",
    }[change]
    if change == "device joins":
        one.harness.see(whole)
    if change == "policy":
        one.policy(soak=5.0)
    done = one.rollout("3" if change == "release" else "2")
    refused(one, done, opened)
    assert output in done.text
    assert one.runs == "11111"


def test_a_device_that_failed_in_the_open_rollout_is_named(operator: Make) -> None:
    one = operator(gates="off")
    one.wrong("2", 1)
    one.away(4)
    assert one.rollout("2").code == 1
    done = one.rollout("2")
    refused(one, done, one.latest)
    assert f"{one.names[1]} is failed in it" in done.text


def test_a_device_that_left_the_inventory_leaves_the_rollout(operator: Make) -> None:
    one = operator()
    one.away(4)
    one.rollout("2")
    opened = one.latest
    one.harness.see(one.fleet.inventory[:4])
    assert one.rollout("2").code == 0
    assert (one.latest, one.state(), one.states()) == (opened, "done", ["confirmed"] * 4 + ["skipped"])


def test_a_persons_resume_tries_a_device_that_was_away_for_longer_than_the_policy_waits(operator: Make) -> None:
    one = operator()
    one.away(4)
    one.rollout("2")
    one.fleet.clock.advance(31 * 86400)
    one.back(4)
    assert one.step("resume").code == 0
    assert (one.runs, one.state()) == ("22222", "done")


def test_the_limit_per_minute_outlives_the_controller(operator: Make) -> None:
    one = operator(per_minute=2, stratify=False, waves=["100%"])
    opened = interrupted(one, "2")
    one.fleet.clock.advance(120)
    began = one.fleet.clock.elapsed

    async def killed() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await one.harness.go_on(one.harness.rollout(opened))

    run(killed(), one.fleet.clock)
    one.harness.reopen()
    assert one.step("resume").code == 0
    begun = sorted(m.at - one.fleet.clock.epoch for m in one.harness.state.history(opened) if m.event == "begin")
    assert all(later - earlier >= 60 for earlier, later in zip(begun, begun[2:], strict=False)), begun
    assert begun[0] >= began - 0.001


def test_a_closed_window_is_reported(operator: Make) -> None:
    one = operator(windows=["22:00-05:00"])

    class Told(QuietProgress):
        messages: ClassVar[list[str]] = []

        def message(self, text: str) -> None:
            self.messages.append(text)

    one.harness.context.progress = Told()
    one.fleet.clock.epoch -= (one.fleet.clock.now() - 12 * 3600) % 86400  # noon, UTC
    assert one.rollout("2").code == 0
    (output,) = [text for text in Told.messages if "windows" in text]
    assert output.startswith("outside the windows 22:00-05:00: the next one opens at ")
    assert output.endswith(" 22:00 UTC")
    assert one.runs == "22222"


# --- evidence before spread


def test_of_a_fleet_that_was_away_one_device_of_each_kind_is_tried_first(operator: Make) -> None:
    one = operator(("pi4", "pi4", "pi4", "n100", "n100", "n100"), waves=[1, "50%", "100%"])
    one.away(*range(6))
    one.wrong("2")
    assert one.rollout("2").code == 1
    one.back(*range(6))
    one.fleet.clock.advance(7200)
    one.reconcile()
    assert one.state() == "paused"
    assert len(one.begun()) == 2
    assert one.runs == "111111"


@pytest.mark.parametrize("how", ["resume", "watch", "reconcile", "rollout"])
def test_a_canary_that_comes_back_is_followed_only_on_its_word(operator: Make, how: str) -> None:
    one = operator(waves=[1, "100%"], gates={"canary": {"count": 1}})
    one.away(*range(5))
    one.wrong("2")
    one.rollout("2")
    one.fleet.clock.advance(7200)
    one.back(*range(5))
    if how == "reconcile":
        one.reconcile()
    elif how == "rollout":
        one.rollout("2")
    else:
        one.step("resume", wait=WaitPolicy.ALL if how == "watch" else WaitPolicy.WAVES)
    assert (one.state(), one.runs) == ("paused", "11111")
    assert sum(state == "failed" for state in one.states()) == 1


def test_the_next_wave_does_not_begin_on_the_word_of_one_of_five(operator: Make) -> None:
    one = operator(("pi4",) * 8, waves=[1, 6, "100%"])
    one.rollout("2", limit=one.names[0])
    one.away(2, 3, 4, 5)
    assert one.rollout("2").code == 1
    assert one.runs == "22111121"
    assert "1 of 5 devices in wave 2 succeeded, and 50% are needed" in one.harness.rollout().reason
    one.reconcile()
    assert one.runs == "22111121"
    one.back(2, 3, 4, 5)
    one.fleet.clock.advance(7200)
    one.reconcile()
    assert (one.runs, one.state()) == ("22222222", "done")


def test_a_person_may_go_on_without_the_success_that_a_wave_lacks(operator: Make) -> None:
    one = operator(("pi4",) * 8, waves=[1, 6, "100%"])
    one.rollout("2", limit=one.names[0])
    one.away(2, 3, 4, 5)
    one.rollout("2")
    one.step("approve")  # the four are still away
    assert one.runs == "22111122"
    assert "nothing waits for approval" in one.step("approve").text


# --- a rollback undoes


def test_a_rollback_reverts_what_the_rollout_reached_and_closes_it(operator: Make) -> None:
    one = operator(waves=[2, "100%"], approve=True)
    assert one.rollout("2").code == 3
    assert one.step("approve").code == 0
    assert one.runs == "22222"
    assert one.rollout("3").code == 3  # waits after its first wave
    half = one.latest
    assert one.runs == "33222"
    preview = one.preview()
    assert (preview.closes, [r.device for r in preview.rows]) == (True, one.names[:2])
    assert preview.untouched == tuple(one.names[2:])
    assert one.rollback().code == 0
    assert one.runs == "22222"  # not 22111: devices that it never reached stay as they are
    assert one.state(half) == "aborted"
    assert one.states(half) == ["rolled-back"] * 2 + ["skipped"] * 3
    assert one.step("approve", half).code == 2
    assert one.runs == "22222"


def test_each_device_goes_back_to_what_ran_before_on_it(operator: Make) -> None:
    one = operator()
    assert one.rollout("2", limit=one.names[0]).code == 0
    assert one.rollout("3").code == 0
    assert one.rollback().code == 0
    assert one.runs == "21111"
    assert one.rollback().code == 0  # the rollout before that one
    assert one.runs == "11111"


def test_the_rollback_of_a_first_release_does_not_switch_on_a_later_one(operator: Make) -> None:
    """The device's own `previous` is the later release then: it is not what ran before the rollout that is reverted."""
    one = operator()
    assert one.rollout("3").code == 0
    assert one.rollback().code == 0
    done = one.rollback()  # of the first rollout, before which nothing ran
    assert done.code == 1
    assert one.runs == "11111"
    assert set(one.states()) == {"failed"}


def test_a_device_that_left_during_the_soak_is_found_by_the_rollback(operator: Make) -> None:
    one = operator(waves=[1, "100%"], soak=60, gates={"canary": {"count": 1}})
    device = one.device(0)
    at = one.fleet.clock.elapsed + 45
    device.profile = device.profile.with_(outages=(Outage(at, at + 600),))
    one.rollout("2")
    assert one.runs == "21111"
    one.back(0)
    assert one.rollback().code == 0
    assert one.runs == "11111"


def test_what_the_rollout_did_not_switch_on_is_left_as_it_is(operator: Make) -> None:
    one = operator()
    assert one.rollout("2").code == 0
    made = one.supply.release("cls", "1", one.device(2).profile.kind.facts)
    one.device(2).switch.roll_back("cls", made.id, 0)
    three = one.supply.release("cls", "3", one.device(1).profile.kind.facts)
    one.device(1).switch.activate("cls", three.id, 0, 0)
    one.device(1).settle()
    done = one.rollback()
    assert done.code == 1
    assert one.runs == "13111"
    assert one.states()[1] == "failed"


def test_a_rollback_waits_for_devices_that_are_away_and_is_the_same_when_asked_again(operator: Make) -> None:
    one = operator()
    one.rollout("2")
    one.away(3)
    assert one.rollback().code == 1
    opened = one.latest
    assert one.rollback(limit=one.names[1]).code == 3
    one.back(3)
    assert one.preview().open_one is not None
    assert one.rollback().code == 0
    assert (one.latest, one.runs, one.state()) == (opened, "11111", "done")


def test_a_rollback_beside_an_open_rollout_that_it_is_not_about_is_refused(operator: Make) -> None:
    one = operator()
    one.rollout("2")
    first = one.latest
    one.away(4)
    one.rollout("3")
    second = one.latest
    for done in (one.rollback(rollout=first), one.rollback(to="nothing")):
        assert done.code == 3
        assert f"`litefleet rollback --rollout {second}` reverts and ends it" in done.text
    assert one.rollback().code == 0
    assert (one.runs, one.state(second)) == ("22222", "aborted")


def test_nothing_to_revert_is_said(operator: Make) -> None:
    one = operator()
    one.rollout("2")
    second = one.latest
    assert one.rollback().code == 0
    done = one.rollback(rollout=second)
    assert (done.code, "has switched nothing on that is left to revert" in done.text) == (2, True)
    assert one.step("retry", second).code == 2


def test_an_aborted_rollout_is_reverted_where_it_had_switched_on(operator: Make) -> None:
    one = operator(waves=[2, "100%"], approve=True)
    one.rollout("2")
    one.end(RolloutEvent.ABORT)
    assert one.runs == "22111"
    assert one.rollback().code == 0
    assert one.runs == "11111"


# --- a gate that says `then: rollback`, whose controller died before that rollback


def _due(operator: Make) -> tuple[Operator, str]:
    """Return a rollout that its gate has ended with one device switched, whose controller died before it reverted that one."""
    one = operator(waves=[2, "100%"], gates={"canary": {"count": 1, "then": "rollback"}})
    one.wrong("2", 1)
    one.supply.versions["cls"] = "2"
    one.harness.choose()
    begun = run(one.harness.start(), one.fleet.clock)
    run(one.harness.go_on(begun), one.fleet.clock)
    one.harness.reopen()
    assert (one.runs, one.state(begun.id)) == ("21111", "aborted")
    return one, begun.id


@pytest.mark.parametrize("command", ["resume", "reconcile", "rollback"])
def test_a_rollback_that_is_due_is_made_by_the_next_command(operator: Make, command: str) -> None:
    one, ended = _due(operator)
    done = {"resume": lambda: one.step("resume", ended), "reconcile": one.reconcile, "rollback": one.rollback}[
        command
    ]()
    assert (done.code, one.runs) == (0, "11111"), done
    assert one.harness.rollout().kind == "rollback"
    assert one.states(ended)[:2] == ["rolled-back", "failed"]
    again = one.step("resume", ended)
    assert (again.code, one.runs) == (2, "11111")
    assert "is aborted: there is nothing to resume" in again.text


def test_a_rollback_that_is_due_waits_for_a_device_that_is_away(operator: Make) -> None:
    one, ended = _due(operator)
    one.away(0)
    assert one.step("resume", ended).code == 1
    assert (one.runs, one.harness.rollout().kind) == ("21111", "rollback")
    one.back(0)
    assert (one.step("resume").code, one.runs) == (0, "11111")
    assert one.states(ended)[0] == "rolled-back"


def test_a_new_release_after_a_rollback_that_is_due(operator: Make) -> None:
    """The operator decides: what was just asked for runs, and nothing is taken back from it later."""
    one, ended = _due(operator)
    assert (one.rollout("3").code, one.runs) == (0, "33333")
    assert one.reconcile(repair=True).code == 0
    assert one.runs == "33333"
    one.step("resume", ended)
    assert one.runs == "33333"
