"""Whole rollouts with whatever may happen: the board agrees with one made afresh, keeps its limits, and every run ends."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from litefleet_controller.rollout import (
    DeviceEvent,
    DeviceRow,
    DeviceState,
    IllegalMove,
    Policy,
    Rollout,
    RolloutEvent,
    RolloutState,
)
from litefleet_controller.rollout.board import (
    Advance,
    Ask,
    Begin,
    Board,
    Decision,
    Finish,
    GiveUp,
    OfflineOnly,
    Promote,
    RecheckWave,
    Soak,
    Stop,
    Wait,
    retry_at,
)
from litefleet_controller.rollout.policy import Gates
from litefleet_controller.rollout.states import DEVICE_TABLE, move_device, move_rollout
from litefleet_controller.rollout.waves import assign

D, E = DeviceState, DeviceEvent
NOW = 1_795_000_000.0
KINDS = (("A53", "glibc 2.36"), ("A72", "glibc 2.36"), ("", ""))


class Play:
    """Does what the board says, as the engine would, and checks each decision against all rows."""

    def __init__(self, rows: list[DeviceRow], policy: Policy) -> None:
        placed, waves = assign(rows, policy, lambda _: frozenset())
        self.rollout = Rollout("r-1", "f", "rollout", RolloutState.RUNNING, policy, waves, NOW, "ann@desk")
        self.board = Board(self.rollout, placed)
        self.now, self.free = NOW, policy.parallel or 4
        self.begun: list[tuple[str, float]] = []

    def busy(self) -> list[str]:
        return sorted({r.device for r in self.board.rows() if r.state.in_flight})

    def move(self, row: DeviceRow, event: DeviceEvent, code: str = "LF401") -> None:
        """Apply an event to a row; IllegalMove changes nothing."""
        after = replace(row, state=move_device(row.state, event), offline_since=0.0, next_try_at=0.0)
        if event is E.BEGIN:
            after = replace(after, attempts=row.attempts + 1, offline_since=row.offline_since)
        elif event is E.LOSE:
            after = replace(after, offline_since=row.offline_since or self.now)
            after = replace(after, next_try_at=retry_at(after, self.rollout.policy, self.now))
        elif event in (E.FAIL, E.GIVE_UP):
            code = "LF615" if event is E.GIVE_UP else code
            after = replace(after, codes=(code,), forgiven=False, regressed=code == "LF413")
        self.board.put(after)

    def put(self, event: RolloutEvent | None = None, **more: Any) -> None:
        state = move_rollout(self.rollout.state, event) if event else self.rollout.state
        self.rollout = replace(self.rollout, state=state, **more)
        self.board.put_rollout(self.rollout)

    def resume(self) -> None:
        for row in self.board.rows():
            if row.failed:
                self.board.put(replace(row, forgiven=True))
        self.put(RolloutEvent.RESUME)

    def step(self) -> Decision:
        """Ask what is next, check it, and do it."""
        decision = self.board.next(self.now, self.free - len(self.busy()))
        match decision:
            case Begin(devices):
                self.begin(devices)
            case Stop(event):
                self.put(event)
            case Promote(rows):
                self.promote(rows)
            case GiveUp(devices):
                self.give_up(devices)
            case Finish():
                assert all(r.state.settled for r in self.board.rows())
                self.put(RolloutEvent.FINISH)
            case Soak() | RecheckWave() | Ask() | Advance():
                self.between(decision)
            case Wait(until) | OfflineOnly(until):
                assert until is None or until > self.now
        return decision

    def begin(self, devices: tuple[str, ...]) -> None:
        self.check_begin(devices)
        self.check_evidence(devices)
        for name in devices:
            self.begun.append((name, self.now))
            self.board.begun(name, self.now)
            for row in self.board.rows_of(name):
                if row.state in (D.PENDING, D.OFFLINE):
                    self.move(row, E.BEGIN)

    def promote(self, rows: tuple[DeviceRow, ...]) -> None:
        assert all(row.wave == 0 and self.board.row(row.device, row.model).wave > 0 for row in rows)
        for row in rows:
            self.board.put(row)

    def give_up(self, devices: tuple[str, ...]) -> None:
        for name in devices:
            rows = [row for row in self.board.rows_of(name) if row.state is D.OFFLINE]
            since = min(row.offline_since for row in rows if row.offline_since)
            assert self.now - since >= self.rollout.policy.retry.give_up_after
            for row in rows:
                self.move(row, E.GIVE_UP)

    def between(self, decision: Soak | RecheckWave | Ask | Advance) -> None:
        self.check_settled()
        match decision:
            case Soak(until):
                self.put(soak_until=until)
            case RecheckWave():
                assert self.rollout.soak_until <= self.now
                self.put(looked=self.rollout.wave + 1)
            case Ask():
                self.put(RolloutEvent.ASK)
            case Advance(wave):
                assert wave == self.rollout.wave + 1 < len(self.rollout.waves)
                self.check_success()
                policy = self.rollout.policy
                assert not policy.soak or self.rollout.looked >= wave
                assert not policy.needs_approval(wave - 1) or self.rollout.approved >= wave
                self.put(wave=wave, soak_until=0.0)

    def check_settled(self) -> None:
        """The wave and all before it have nothing left but devices that are offline."""
        for row in self.board.rows():
            assert row.wave > self.rollout.wave or row.state.settled or row.state is D.OFFLINE, row

    def check_begin(self, devices: tuple[str, ...]) -> None:
        policy, busy = self.rollout.policy, self.busy()
        assert devices
        assert len(set(devices)) == len(devices)
        assert not set(devices) & set(busy)
        assert len(devices) + len(busy) <= self.free
        rows = [row for name in devices for row in self.board.rows_of(name)]
        assert all(row.wave <= self.rollout.wave for row in rows)
        assert all(
            any(r.state is D.PENDING or r.next_try_at <= self.now for r in self.board.rows_of(n)) for n in devices
        )
        used = {row.jump for row in rows}
        jumps = Counter(self.board.rows_of(name)[0].jump for name in [*devices, *busy])
        assert all(number <= policy.per_jump_host for jump, number in jumps.items() if jump and jump in used)
        recent = [at for _, at in self.begun if at > self.now - 60]
        assert policy.per_minute is None or len(recent) + len(devices) <= policy.per_minute
        gate = policy.gates.canary.count
        first = {r.device for r in self.board.rows() if r.wave == 0 and r.failed and r.codes != ("LF615",)}
        assert gate is None or len(first) < gate

    def check_evidence(self, devices: tuple[str, ...]) -> None:
        """Of a kind that has no evidence yet, one device is at work at most."""
        if not self.rollout.policy.stratify:
            return
        tried = (D.CONFIRMED, D.FAILED, D.UNCHANGED)
        evident = {_kind(r) for r in self.board.rows() if r.state in tried and r.codes != ("LF615",)}
        at_work = {*devices, *self.busy()}
        for kind in {_kind(r) for r in self.board.rows()} - evident:
            open_rows = [r for r in self.board.rows() if _kind(r) == kind and not r.state.settled]
            starting = {r.device for r in open_rows} & set(devices)
            assert len(starting) <= 1, kind
            assert not starting or len({r.device for r in open_rows} & at_work) == 1, kind

    def check_success(self) -> None:
        """A wave ends with enough success, or a person went on without."""
        policy, wave = self.rollout.policy, self.rollout.wave
        if policy.gates == Gates.none() or self.rollout.approved > wave:
            return
        devices: dict[str, list[DeviceRow]] = {}
        for row in self.board.rows():
            devices.setdefault(row.device, []).append(row)
        expected = well = 0
        for rows in devices.values():
            takes_part = any(
                r.state not in (D.BLOCKED, D.SKIPPED) and not (r.state is D.UNCHANGED and r.attempts == 0) for r in rows
            )
            if min(r.wave for r in rows) == wave and takes_part and not any(r.forgiven for r in rows):
                expected += 1
                good = all(r.state.settled for r in rows) and any(r.state.well for r in rows)
                well += good and not any(r.failed and r.codes != ("LF615",) for r in rows)
        assert well >= policy.success * expected - 1e-9

    def check_afresh(self) -> None:
        """A board made of the same rows says the same."""
        fresh = Board(self.rollout, self.board.rows())
        for name, at in self.begun:
            fresh.begun(name, at)
        assert fresh.counts() == self.board.counts()
        for wave in range(len(self.rollout.waves)):
            assert fresh.counts(wave) == self.board.counts(wave)
        one, other = fresh.tallies, self.board.tallies
        assert (one.total, one.regressed, +one.parts) == (other.total, other.regressed, +other.parts)
        assert {k: v for k, v in one.clusters.items() if v} == {k: v for k, v in other.clusters.items() if v}
        assert {w: t for w, t in one.waves.items() if t.size} == {w: t for w, t in other.waves.items() if t.size}
        for free in (0, 1, 3, 100):
            assert fresh.next(self.now, free) == self.board.next(self.now, free)


def _kind(row: DeviceRow) -> tuple[str, str, str]:
    return row.stratum if row.known else ("", "", "")


_device = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(["", "", "north", "south"]),
    st.sampled_from([D.PENDING] * 5 + [D.OFFLINE, D.BLOCKED, D.UNCHANGED]),
    st.booleans(),
)


def _rows(found: list[tuple[tuple[str, str], str, DeviceState, bool]]) -> list[DeviceRow]:
    rows = []
    for n, ((part, libc), jump, state, two) in enumerate(found):
        since = NOW - 10 if state is D.OFFLINE else 0.0
        one = DeviceRow(f"cam-{n}", "cls", 0, 0, state, part, libc, "r1", jump, offline_since=since)
        rows += [one, replace(one, model="det", state=D.PENDING, offline_since=0.0)] if two else [one]
    return rows


fleets = st.lists(_device, min_size=1, max_size=14).map(_rows)
limit = st.one_of(st.just({}), st.builds(lambda n: {"count": n}, st.integers(1, 3)), st.just({"share": 0.3}))
policies = st.builds(
    lambda waves, **more: Policy(waves=(*waves, "100%"), **more),
    st.lists(st.one_of(st.integers(1, 5), st.just("40%")), max_size=3),
    stratify=st.booleans(),
    success=st.sampled_from([0, 0.5, 0.5, 1]),
    parallel=st.integers(1, 5),
    per_jump_host=st.integers(1, 2),
    per_minute=st.one_of(st.none(), st.integers(1, 4)),
    soak=st.sampled_from([0, 45]),
    approve=st.sampled_from([False, True, (2,)]),
    windows=st.sampled_from([(), ("12:00-13:00",)]),
    gates=st.fixed_dictionaries({"canary": limit, "wave": limit, "total": limit, "cluster": limit}),
    retry=st.sampled_from([{"give_up_after": "3m"}, {"first": "5s", "longest": "20s", "give_up_after": "1d"}]),
)


class BoardMachine(RuleBasedStateMachine):
    @initialize(rows=fleets, policy=policies)
    def plan(self, rows, policy):
        self.play = Play(rows, policy)

    @rule()
    def step(self):
        self.play.step()

    @rule(pick=st.randoms(use_true_random=False), event=st.sampled_from(E), code=st.sampled_from(["LF401", "LF413"]))
    def something_happens(self, pick: random.Random, event, code):
        rows = self.play.board.rows()
        row = pick.choice(rows)
        if (row.state, event) in DEVICE_TABLE:
            self.play.move(row, event, code)
        else:
            with pytest.raises(IllegalMove):
                self.play.move(row, event, code)
            assert self.play.board.rows() == rows

    @rule(pick=st.randoms(use_true_random=False), code=st.sampled_from(["LF401", "LF413"]))
    def a_conversation_goes_on(self, pick: random.Random, code):
        rows = [r for r in self.play.board.rows() if r.state.in_flight]
        if rows:
            row = pick.choice(rows)
            events = [event for state, event in DEVICE_TABLE if state is row.state]
            self.play.move(row, pick.choice(events), code)

    @rule(seconds=st.sampled_from([0.5, 7.0, 30.0, 61.0, 3600.0]))
    def time_passes(self, seconds):
        self.play.now += seconds

    @precondition(lambda self: self.play.rollout.state is RolloutState.PAUSED)
    @rule()
    def somebody_resumes(self):
        self.play.resume()

    @precondition(lambda self: self.play.rollout.state is RolloutState.WAITING)
    @rule()
    def somebody_approves(self):
        self.play.put(RolloutEvent.APPROVE, approved=self.play.rollout.wave + 1)

    @precondition(lambda self: self.play.rollout.state is RolloutState.DONE)
    @rule()
    def somebody_reopens(self):
        self.play.put(RolloutEvent.REOPEN)

    @invariant()
    def agrees_with_a_board_made_afresh(self):
        if hasattr(self, "play"):
            self.play.check_afresh()


BoardMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBoardMachine = BoardMachine.TestCase


def _converse(play: Play, pick: random.Random, gone: set[str]) -> None:
    """One row in flight goes on; devices in `gone` are lost each time."""
    row = pick.choice([r for r in play.board.rows() if r.state.in_flight])
    if row.device in gone:
        play.move(row, E.LOSE)
        return
    events = [e for state, e in DEVICE_TABLE if state is row.state and e not in (E.ORPHAN, E.LOSE, E.FAIL)]
    play.move(row, pick.choices([*events, E.LOSE, E.FAIL], [8.0] * len(events) + [1.0, 1.0])[0])


@settings(max_examples=60, deadline=None)
@given(fleets, policies, st.randoms(use_true_random=False))
def test_every_run_ends(rows, policy, pick):
    play = Play(rows, policy)
    gone = {row.device for row in rows if pick.random() < 0.15}
    for _ in range(20_000):
        decision = play.step()
        if isinstance(decision, Finish):
            break
        if play.rollout.state is RolloutState.PAUSED:
            while play.busy():  # what is in flight when a gate fires goes on to its end
                _converse(play, pick, gone)
            play.resume()
        elif play.rollout.state is RolloutState.WAITING:
            play.put(RolloutEvent.APPROVE, approved=play.rollout.wave + 1)
        elif isinstance(decision, Wait | OfflineOnly):
            if play.busy() and (decision.until is None or pick.random() < 0.8):
                play.now += pick.choice([0.0, 1.0, 10.0])
                _converse(play, pick, gone)
            else:
                assert decision.until is not None, "nothing in flight, and nothing to wait for"
                play.now = decision.until
        elif play.busy() and pick.random() < 0.5:
            _converse(play, pick, gone)
    assert play.rollout.state is RolloutState.DONE
    assert all(row.state.settled for row in play.board.rows())
