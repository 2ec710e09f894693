"""The tables of states: every way ends, and what is settled stays so unless somebody asks."""

from __future__ import annotations

import pytest
from litefleet_controller.rollout.states import (
    DEVICE_TABLE,
    ROLLOUT_TABLE,
    DeviceEvent,
    DeviceState,
    IllegalMove,
    RolloutEvent,
    RolloutState,
    move_device,
    move_rollout,
)

ASKED = {DeviceEvent.RETRY, DeviceEvent.ROLL_BACK, DeviceEvent.FAIL}


def _reached(start, table):
    """Every state that can follow `start`, itself included."""
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for (before, _), after in table.items():
            if before is state and after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


@pytest.mark.parametrize("state", DeviceState)
def test_every_device_can_settle(state):
    assert any(after.settled for after in _reached(state, DEVICE_TABLE))


@pytest.mark.parametrize("state", [s for s in DeviceState if s.settled])
def test_a_settled_device_moves_only_when_asked_or_found_bad(state):
    assert {event for before, event in DEVICE_TABLE if before is state} <= ASKED


@pytest.mark.parametrize("state", [s for s in DeviceState if s.in_flight])
def test_a_device_in_flight_can_fail_be_lost_or_be_orphaned(state):
    assert move_device(state, DeviceEvent.FAIL) is DeviceState.FAILED
    assert move_device(state, DeviceEvent.LOSE) is DeviceState.OFFLINE
    assert move_device(state, DeviceEvent.ORPHAN) is DeviceState.PENDING


def test_every_device_state_but_the_first_is_reached_from_the_start():
    planned = {DeviceState.BLOCKED}  # decided when the plan is made
    assert _reached(DeviceState.PENDING, DEVICE_TABLE) == set(DeviceState) - planned


def test_confirmed_is_reached_only_from_a_switch():
    before = {state for (state, _), after in DEVICE_TABLE.items() if after is DeviceState.CONFIRMED}
    assert before <= {DeviceState.SWITCHING, DeviceState.LEASED}
    assert DeviceState.LEASED in before


def test_every_rollout_can_end_and_an_aborted_one_stays_so():
    for state in RolloutState:
        assert any(after.over for after in _reached(state, ROLLOUT_TABLE))
    assert _reached(RolloutState.ABORTED, ROLLOUT_TABLE) == {RolloutState.ABORTED}
    assert _reached(RolloutState.PLANNED, ROLLOUT_TABLE) == set(RolloutState)


def test_what_is_not_in_a_table_is_refused_with_a_sentence():
    for state in DeviceState:
        for event in DeviceEvent:
            if (state, event) not in DEVICE_TABLE:
                with pytest.raises(IllegalMove, match=f"a device that is {state} cannot {event}"):
                    move_device(state, event)
    with pytest.raises(IllegalMove, match="a rollout that is aborted cannot resume"):
        move_rollout(RolloutState.ABORTED, RolloutEvent.RESUME)
