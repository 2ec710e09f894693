"""What receivers are told of rollouts of a simulated fleet: each event once, with the devices behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_controller.rollout import RolloutEvent
from litefleet_controller.state import State, Subscription
from litefleet_controller.state.outbox import EVENTS, Notice

from tests.sim.operator_commands import Operator

Make = Callable[..., Operator]


@pytest.fixture
def operator(tmp_path: Path, template: Path) -> Make:
    told = [Subscription("simulated", "chat", frozenset(EVENTS))]

    def make(**policy: Any) -> Operator:
        one = Operator(tmp_path / "fleet", template, ("pi4",) * 5, **policy)
        one.harness._opened = lambda path, clock: State.open(path, clock, told=told)
        one.harness.reopen()
        return one

    return make


def told(one: Operator) -> list[tuple[str, list[str]]]:
    notices: tuple[Notice, ...] = one.harness.state.outbox("simulated").notices()
    return [(n.event, [d["name"] for d in n.content["devices"]]) for n in notices]  # type: ignore[attr-defined]


def test_a_rollout_that_waits_and_then_finishes(operator: Make) -> None:
    one = operator(waves=[1, "100%"], approve=True)
    assert one.rollout("2").code == 3
    assert told(one) == [("approval-wanted", [])]
    assert one.step("approve").code == 0
    assert told(one)[1:] == [("finished", [])]
    last = one.harness.state.outbox("simulated").notices()[-1]
    assert last.rollout == one.latest
    assert last.content["rollout"]["rows"] == {"confirmed": 5}  # type: ignore[index]


def test_devices_that_are_lost_are_named_once(operator: Make) -> None:
    one = operator(waves=["100%"], gates="off")
    one.away(1, 3)
    one.rollout("2")
    lost = [names for event, names in told(one) if event == "device-lost"]
    assert lost == [[one.names[1], one.names[3]]]
    one.step("resume")  # they are tried again, and are still away
    assert [names for event, names in told(one) if event == "device-lost"] == lost


def test_an_operators_abort_is_told(operator: Make) -> None:
    one = operator(waves=[1, "100%"], approve=True)
    one.rollout("2")
    one.end(RolloutEvent.ABORT)
    assert [event for event, _ in told(one)] == ["approval-wanted", "stopped"]
