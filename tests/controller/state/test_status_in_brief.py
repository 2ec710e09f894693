"""`litefleet status` counts in the database: it shows what it would show of all rows, and reads no more of a larger fleet."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.operations.find import RolloutStatus, read_status, read_status_in_brief
from litefleet_controller.reports.status_text import status_text
from litefleet_controller.rollout import DeviceEvent, DeviceRow, DeviceState
from litefleet_controller.rollout.conditions import summary_of, wave_counts
from litefleet_controller.state import FleetLock, State
from litefleet_controller.state.brief import counts_by_wave
from litefleet_controller.state.database import ConnectionQuery

from tests.controller.support.state_values import BORN, ELSEWHERE, change, failed, release, rollout, rows, staged

MEASURED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "not a number": {"load_ms": float("nan")},
    "settings": {"settings": [{"name": "threads", "asked": "2", "taken": "2", "state": "taken"}]},
    "a key of the same name": {"outputs": [{"sent_bytes": 7}]},
}


def ended(row: DeviceRow, measured: dict[str, Any], sent: int = 1000) -> Any:
    outcome = DeviceOutcome(row.device, row.model, Verdict.VERIFIED, measurements=measured, sent_bytes=sent)
    return replace(change(staged(row), DeviceEvent.SAME, verdict=Verdict.VERIFIED), outcome=outcome)


def fleet_of(state: State, devices: int, troubled: int = 3) -> FleetLock:
    """Store a rollout of two models on each device: the first `troubled` fail, the next three stay pending, others are well."""
    lock = state.acquire("lab", ELSEWHERE, 1e9)
    named = [release("r1"), release("r2", model="det", recipe="dd")]
    two = [replace(row, model=m, release=r) for row in rows(devices) for m, r in (("det", "r2"), ("cls", "r1"))]
    made = state.create(lock, rollout(), two, named, {})
    moved = [row for row in two if not troubled <= row.position < troubled + 3]
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN) for row in moved])
    kinds = list(MEASURED.values())
    ends = [
        failed(staged(row), f"output {row.position}")
        if row.position < troubled and row.model == "cls"
        else ended(row, kinds[row.position % len(kinds)] if row.position < 40 else {}, 1000 + row.position)
        for row in moved
    ]
    state.move(lock, made.id, ends)
    return lock


def text_of(found: RolloutStatus) -> str:
    parts = (found.holder, found.running, found.versions, found.sent_besides, found.summary)
    return status_text(found.rollout, found.rows, found.outcomes, BORN, 200, False, *parts)


def test_in_brief_it_says_what_it_says_of_all_rows(state: State) -> None:
    fleet_of(state, 60)
    whole, brief = read_status(state, "lab"), read_status_in_brief(state, "lab")
    assert text_of(brief) == text_of(whole)
    assert brief.summary == summary_of(whole.rows)
    assert brief.sent_besides + sum(o.sent_bytes for o in brief.outcomes) == sum(o.sent_bytes for o in whole.outcomes)
    assert len(whole.rows) == 120
    assert len(brief.rows) < 12


def test_devices_are_counted_by_wave_as_of_rows_that_were_read(state: State) -> None:
    fleet_of(state, 20)
    one = state.rollouts("lab")[0]
    with state.reading() as connection:
        found = counts_by_wave(ConnectionQuery(connection), one.id)
    assert found == wave_counts(state.rows(one.id))
    assert {wave: counts["failed"] for wave, counts in found.items()} == {0: 1, 1: 2}


def test_one_confirmed_row_is_read_for_the_commands_that_depend_on_it(state: State) -> None:
    lock = state.acquire("lab", ELSEWHERE, 1e9)
    made = state.create(lock, rollout(), rows(9), [], {})
    for event in (DeviceEvent.BEGIN, DeviceEvent.PROVE, DeviceEvent.SWITCH, DeviceEvent.LEASE, DeviceEvent.CONFIRM):
        state.move(lock, made.id, [change(row, event) for row in state.rows(made.id)])
    found = read_status_in_brief(state, "lab")
    assert [row.state for row in found.rows] == [DeviceState.CONFIRMED]
    assert text_of(found) == text_of(read_status(state, "lab"))


def test_the_outcomes_of_chosen_devices_are_those_alone(state: State) -> None:
    fleet_of(state, 20)
    found = read_status(state, "lab", chosen={"d1", "d15"})
    assert {o.device for o in found.outcomes} == {row.device for row in found.rows} == {"d1", "d15"}


class _Calls:
    """Counts the functions that Python calls."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        self.number += event == "call"


def calls_of(state: State) -> tuple[int, RolloutStatus]:
    counted = _Calls()
    sys.setprofile(counted)
    try:
        found = read_status_in_brief(state, "lab")
    finally:
        sys.setprofile(None)
    return counted.number, found


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_larger_fleet_costs_no_more_work_in_python(state: State, where: str) -> None:
    lock = fleet_of(state, 60)
    calls_of(state)  # the first time, statements are compiled
    small, first = calls_of(state)
    state.release(lock)
    fleet_of(state, 600)
    calls_of(state)
    large, second = calls_of(state)
    assert second.summary is not None
    assert second.summary.devices == 600
    assert len(second.rows) == len(first.rows)
    assert len(second.outcomes) == len(first.outcomes)
    assert large < small * 1.3, "rows or outcomes of devices that are well are read one by one"
