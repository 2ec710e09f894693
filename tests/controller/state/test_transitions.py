"""Moves in any order, legal or not, held against a plain dict: what may not be changes nothing."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from litefleet_controller.rollout import (
    DeviceEvent,
    DeviceRow,
    DeviceState,
    IllegalMove,
    Rollout,
    RolloutEvent,
    RolloutState,
)
from litefleet_controller.rollout.states import DEVICE_TABLE, ROLLOUT_TABLE
from litefleet_controller.state import Conflict, RowChange, State

from tests.controller.support.state_values import ELSEWHERE, Clock, rollout

NAMES = ("d0", "d1", "d2")


class Machine(RuleBasedStateMachine):
    """One rollout of three devices in a database, and the same in a dict."""

    make: ClassVar[Callable[[], str]]

    def __init__(self) -> None:
        super().__init__()
        self.state = State.open(self.make(), Clock())
        self.lock = self.state.acquire("lab", ELSEWHERE)
        self.rows = {name: DeviceRow(name, "m", 0, position) for position, name in enumerate(NAMES)}
        self.rollout = self.state.create(self.lock, rollout(), list(self.rows.values()), [], {})
        self.moves = 0
        self.entries = 1

    def teardown(self) -> None:
        assert self.state.check_audit() == ""
        self.state.close()

    def _apply(self, changes: list[RowChange]) -> dict[str, DeviceRow] | None:
        """Return the rows after some moves, None when one of them may not be."""
        rows = dict(self.rows)
        for change in changes:
            name = change.before.device
            allowed = DEVICE_TABLE.get((change.before.state, change.event)) is change.after.state
            if not allowed or rows[name].state is not change.before.state:
                return None
            rows[name] = change.after
        return rows

    def _change(
        self, name: str, event: DeviceEvent, believed: DeviceState | None, reached: DeviceState | None
    ) -> RowChange:
        row = self.rows[name]
        before = replace(row, state=believed or row.state)
        after = reached or DEVICE_TABLE.get((before.state, event), before.state)
        return RowChange(before, event, replace(row, state=after, attempts=row.attempts + 1, sentence=f"{event} é"))

    @rule(
        tries=st.lists(
            st.tuples(
                st.sampled_from(NAMES),
                st.sampled_from(DeviceEvent),
                st.sampled_from([None, None, None, *DeviceState]),
                st.sampled_from([None, None, None, *DeviceState]),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def move_any(self, tries: list[tuple[str, DeviceEvent, DeviceState | None, DeviceState | None]]) -> None:
        self._move([self._change(*one) for one in tries])

    @rule(name=st.sampled_from(NAMES), choice=st.integers(0, 20))
    def move_on(self, name: str, choice: int) -> None:
        events = [event for state, event in DEVICE_TABLE if state is self.rows[name].state]
        if events:
            self._move([self._change(name, events[choice % len(events)], None, None)])

    def _move(self, changes: list[RowChange]) -> None:
        expected = self._apply(changes)
        if expected is None:
            with pytest.raises((IllegalMove, Conflict)):
                self.state.move(self.lock, self.rollout.id, changes)
            return
        self.state.move(self.lock, self.rollout.id, changes)
        self.rows, self.moves = expected, self.moves + len(changes)

    @rule(
        event=st.sampled_from([None, *RolloutEvent]),
        believed=st.sampled_from([None, None, *RolloutState]),
        reached=st.sampled_from([None, None, *RolloutState]),
        name=st.sampled_from(NAMES),
        device_event=st.sampled_from(DeviceEvent),
        wave=st.integers(0, 2),
    )
    def advance(
        self,
        event: RolloutEvent | None,
        believed: RolloutState | None,
        reached: RolloutState | None,
        name: str,
        device_event: DeviceEvent,
        wave: int,
    ) -> None:
        before = replace(self.rollout, state=believed or self.rollout.state)
        legal = before.state if event is None else ROLLOUT_TABLE.get((before.state, event))
        after = replace(before, state=reached or legal or before.state, wave=wave, reason=str(event))
        change = self._change(name, device_event, None, None)
        self._advance(before, event, after, change, legal is after.state)

    def _advance(
        self, before: Rollout, event: RolloutEvent | None, after: Rollout, change: RowChange, legal: bool
    ) -> None:
        expected = self._apply([change])
        refused = pytest.raises((IllegalMove, Conflict))
        good = legal and before.state is self.rollout.state and expected is not None
        with contextlib.nullcontext() if good else refused:
            self.state.advance(self.lock, before, event, after, [change])
        if good and expected is not None:
            self.rollout, self.rows, self.moves = after, expected, self.moves + 1
            self.entries += event is not None

    @precondition(lambda self: self.moves)
    @rule()
    def another_takes_over(self) -> None:
        self.state.release(self.lock)
        self.lock = self.state.acquire("lab", ELSEWHERE)

    @invariant()
    def stored_is_what_is_believed(self) -> None:
        assert self.state.rows(self.rollout.id) == tuple(self.rows.values())
        stored = self.state.rollout(self.rollout.id)
        assert stored is not None
        assert replace(stored, updated_at=self.rollout.updated_at) == self.rollout
        assert len(self.state.history(self.rollout.id, limit=10**6)) == self.moves
        assert len(self.state.audit()) == self.entries


def run(make: Callable[[], str], examples: int) -> None:
    class Here(Machine):
        pass

    Here.make = staticmethod(make)
    limits = settings(
        max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Here, settings=limits)


def test_any_moves_on_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(lambda: str(Path(tempfile.mkdtemp(dir=folder)) / "state.db"), 15)


def test_any_moves_on_postgresql(new_schema: Callable[[], str]) -> None:
    run(new_schema, 8)
