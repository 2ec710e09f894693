"""The durable state on SQLite and PostgreSQL: what is stored comes back, and what may not be stored changes nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_controller.rollout import DeviceEvent, DeviceRow, DeviceState, IllegalMove, RolloutEvent, RolloutState
from litefleet_controller.state import Conflict, FleetLock, FleetLockLost, KnownDevice, RowChange, State, StateError

from tests.controller.support.state_values import (
    BORN,
    ELSEWHERE,
    Clock,
    change,
    confirmed,
    failed,
    release,
    rollout,
    rows,
    sql,
    staged,
    started,
)

DAY = 86400.0


def test_a_new_database_is_empty(state: State) -> None:
    assert state.rollouts("lab") == ()
    assert (state.rollout("r-none"), state.rows("r-none"), state.requested_action("r-none")) == (None, (), "")


def test_a_rollout_comes_back_as_it_was_given(state: State) -> None:
    lock = state.acquire("lab", ELSEWHERE)
    made = state.create(
        lock, rollout(limit="d0", parent="r-old", reason="\x00odd \ud800"), rows(3, "r1"), [release()], {}
    )
    assert made.id == "r-20261118-0001"
    assert state.rollout(made.id) == replace(made, reason="\ufffdodd \ufffd")
    assert state.rows(made.id) == tuple(rows(3, "r1"))
    assert state.releases_of(made.id) == (release(),)
    assert state.stored_release("r1") == release()
    assert state.stored_release("r2") is None
    assert state.latest_release("cls", "ee", "x86_64 cp311 glibc 2.36") == release()
    assert state.latest_release("cls", "ee", "x86_64 cp39 glibc 2.36") is None


def test_ids_count_within_the_day_and_lists_are_newest_first(state: State, clock: Clock) -> None:
    lock = state.acquire("lab", ELSEWHERE)
    first = state.create(lock, rollout(), [], [], {})
    second = state.create(lock, rollout(), [], [], {})
    clock.now += DAY
    third = state.create(lock, rollout(), [], [], {})
    assert [r.id for r in (first, second, third)] == ["r-20261118-0001", "r-20261118-0002", "r-20261119-0001"]
    assert state.rollouts("lab", 2) == (third, second)
    assert state.rollouts("other") == ()


def test_all_of_a_row_is_kept_by_a_move_with_its_outcome(state: State, where: str, clock: Clock) -> None:
    lock, made, (row, *_) = started(state)
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN, attempts=1, release="r1", before="r0")])
    clock.now += 5
    failure = failed(replace(staged(row), attempts=1, release="r1", before="r0"))
    state.move(lock, made.id, [replace(failure, confirmed=confirmed())])
    assert state.rows(made.id)[0] == failure.after
    assert failure.outcome is not None
    assert [o.findings for o in state.outcomes(made.id)] == [failure.outcome.findings]
    assert state.confirmed() == {("d0", "cls"): confirmed()}
    moves = [(t.at, t.event, t.before, t.after) for t in state.history(made.id, "d0")]
    assert moves == [(BORN, "begin", "pending", "staging"), (BORN + 5, "fail", "staging", "failed")]
    assert [tuple(r) for r in sql(where, "SELECT code, severity, seen FROM findings ORDER BY position")] == [
        (f.code, f.severity.value, f.observed) for f in failure.outcome.findings
    ]
    named = {str(r[0]): r[1] for r in sql(where, "SELECT name, value FROM measurements")}
    assert named == {"latency_ms.p50": 4.5, "latency_ms.p99": None, "outputs.0.cosine": 0.9, "load_ms": 3.0}


def test_a_later_outcome_takes_the_place_of_the_one_before(state: State) -> None:
    lock, made, (row, *_) = started(state)
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN), failed(staged(row))])
    again = [change(failed(staged(row)).after, DeviceEvent.RETRY), change(row, DeviceEvent.BEGIN)]
    state.move(lock, made.id, [*again, failed(staged(row), "worse")])
    assert [o.findings[1].observed for o in state.outcomes(made.id)] == ["worse"]


def test_an_outcome_whose_measurements_are_stored_leaves_them_there(state: State, where: str) -> None:
    lock, made, (row, *_) = started(state)
    first = failed(staged(row))
    assert first.outcome is not None
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN), first])
    again = [change(first.after, DeviceEvent.RETRY), change(row, DeviceEvent.BEGIN)]
    later = replace(failed(staged(row)), outcome=replace(first.outcome, steps={"confirm": 2.0}), measured=True)
    state.move(lock, made.id, [*again, later])
    assert [o.steps for o in state.outcomes(made.id)] == [{"confirm": 2.0}]
    (count,) = sql(where, "SELECT count(*) FROM measurements")[0]
    assert count == 4
    assert len(sql(where, "SELECT code FROM findings")) == len(first.outcome.findings)


def test_an_outcome_whose_measurements_should_be_stored_and_are_not_is_a_conflict(state: State) -> None:
    lock, made, (row, *_) = started(state)
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN)])
    with pytest.raises(Conflict, match="nothing was written"):
        state.move(lock, made.id, [replace(failed(staged(row)), measured=True)])
    assert state.rows(made.id)[0] == staged(row)


def test_both_outcomes_of_a_row_may_come_in_one_transaction(state: State, where: str) -> None:
    lock, made, (row, *_) = started(state)
    first = failed(staged(row))
    assert first.outcome is not None
    again = [change(first.after, DeviceEvent.RETRY), change(row, DeviceEvent.BEGIN)]
    later = replace(failed(staged(row)), outcome=replace(first.outcome, steps={"confirm": 2.0}), measured=True)
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN), first, *again, later])
    assert [o.steps for o in state.outcomes(made.id)] == [{"confirm": 2.0}]
    assert sql(where, "SELECT count(*) FROM measurements")[0][0] == 4


def test_moves_are_all_or_none(state: State) -> None:
    lock, made, given = started(state)
    good = change(given[0], DeviceEvent.BEGIN)
    wrong = {
        "conflict": (Conflict, change(staged(given[1]), DeviceEvent.PROVE)),
        "missing": (Conflict, change(replace(given[1], device="nobody"), DeviceEvent.BEGIN)),
        "illegal": (
            IllegalMove,
            RowChange(given[1], DeviceEvent.CONFIRM, replace(given[1], state=DeviceState.CONFIRMED)),
        ),
        "elsewhere": (IllegalMove, RowChange(given[1], DeviceEvent.BEGIN, replace(given[1], state=DeviceState.PROVEN))),
        "other": (IllegalMove, RowChange(given[1], DeviceEvent.BEGIN, staged(given[2]))),
    }
    for kind, bad in wrong.values():
        with pytest.raises(kind):
            state.move(lock, made.id, [good, bad])
    assert state.rows(made.id) == tuple(given)
    assert state.history(made.id) == ()


def test_a_conflict_names_the_device(state: State) -> None:
    lock, made, given = started(state)
    with pytest.raises(Conflict, match="d1, model cls, was taken for staging but is pending"):
        state.move(lock, made.id, [change(given[0], DeviceEvent.BEGIN), change(staged(given[1]), DeviceEvent.PROVE)])


def test_a_rollout_advances_with_its_rows(state: State, clock: Clock) -> None:
    lock, made, given = started(state)
    clock.now += 9
    running = replace(made, state=RolloutState.RUNNING, wave=1, behind=("d0",), soak_until=BORN + 60)
    new = DeviceRow("d9", "cls", 1, 9)
    state.advance(lock, made, RolloutEvent.START, running, [change(given[0], DeviceEvent.BEGIN)], [new], {"by": "x"})
    assert state.rollout(made.id) == replace(running, updated_at=BORN + 9)
    assert [r.device for r in state.rows(made.id)] == ["d0", "d1", "d2", "d9"]
    assert state.rows(made.id)[0].state is DeviceState.STAGING
    entry = state.audit()[-1]
    assert (entry.action, entry.who) == ("start", "ops@other-host")
    assert entry.what == {"by": "x", "rollout": made.id, "from": "planned", "to": "running", "wave": 2, "reason": ""}


def test_what_a_rollout_may_not_do_changes_nothing(state: State) -> None:
    lock, made, given = started(state)
    stored, before = state.rollout(made.id), state.audit()
    running = replace(made, state=RolloutState.RUNNING)
    with pytest.raises(IllegalMove):
        state.advance(lock, made, RolloutEvent.FINISH, replace(made, state=RolloutState.DONE))
    with pytest.raises(IllegalMove):
        state.advance(lock, made, None, running)
    with pytest.raises(Conflict, match="no longer running"):
        state.advance(lock, running, RolloutEvent.PAUSE, replace(made, state=RolloutState.PAUSED))
    with pytest.raises(Conflict, match="d1, model cls, would be in the rollout twice"):
        state.advance(lock, made, RolloutEvent.START, running, joined=[given[1]])
    with pytest.raises(Conflict):
        state.advance(lock, made, RolloutEvent.START, running, [change(staged(given[0]), DeviceEvent.PROVE)])
    with pytest.raises(Conflict, match="no rollout r-none"):
        state.move(lock, "r-none", [])
    with pytest.raises(Conflict):
        state.create(lock, rollout(), [given[0], given[0]], [], {})
    with pytest.raises(Conflict, match="has no id yet"):
        state.create(lock, made, [], [], {})
    with pytest.raises(Conflict, match="fleet 'other'"):
        state.create(lock, rollout("other"), [], [], {})
    assert (state.rollout(made.id), state.rows(made.id)) == (stored, tuple(given))
    assert (len(state.rollouts("lab")), state.audit()) == (1, before)


def test_a_hold_is_for_its_own_fleet_only(state: State) -> None:
    _, made, given = started(state)
    other = state.acquire("other", ELSEWHERE)
    with pytest.raises(Conflict, match="of fleet 'lab', not of 'other'"):
        state.move(other, made.id, [change(given[0], DeviceEvent.BEGIN)])
    assert state.rows(made.id) == tuple(given)


def test_nothing_is_written_without_the_hold(state: State) -> None:
    lock, made, given = started(state)
    stale = FleetLock("lab", lock.token - 1)
    for write in (
        lambda: state.move(stale, made.id, [change(given[0], DeviceEvent.BEGIN)]),
        lambda: state.advance(stale, made, RolloutEvent.START, replace(made, state=RolloutState.RUNNING)),
        lambda: state.relocate(stale, made.id, [replace(given[0], wave=1)]),
        lambda: state.store_releases(stale, [release()]),
        lambda: state.renew(stale),
        lambda: state.create(stale, rollout(), [], [], {}),
    ):
        with pytest.raises(FleetLockLost, match="taken over by ops@other-host"):
            write()
    assert state.rows(made.id) == tuple(given)
    assert state.stored_release("r1") is None
    assert state.rollouts("lab") == (made,)


def test_rows_are_relocated_in_their_state_only(state: State) -> None:
    lock, made, given = started(state)
    state.relocate(lock, made.id, [replace(given[0], wave=1, next_try_at=5.0, forgiven=True)])
    moved = next(r for r in state.rows(made.id) if r.device == "d0")
    assert (moved.wave, moved.next_try_at, moved.forgiven) == (1, 5.0, True)
    with pytest.raises(Conflict):
        state.relocate(lock, made.id, [staged(given[1])])
    assert len(state.history(made.id)) == 0


def test_a_request_survives_an_advance_that_does_not_know_of_it(state: State) -> None:
    lock, made, _ = started(state)
    state.ask(made.id, "pause", "bob@desk")
    running = replace(made, state=RolloutState.RUNNING)
    state.advance(lock, made, RolloutEvent.START, running)
    assert state.requested_action(made.id) == "pause"
    paused = replace(running, state=RolloutState.PAUSED)
    state.advance(lock, replace(running, request="pause"), RolloutEvent.PAUSE, paused)
    assert state.requested_action(made.id) == ""
    state.advance(lock, paused, RolloutEvent.ABORT, replace(paused, state=RolloutState.ABORTED))
    with pytest.raises(Conflict, match="is aborted: there is nothing left to pause"):
        state.ask(made.id, "pause", "bob@desk")
    with pytest.raises(Conflict, match="no rollout"):
        state.ask("r-none", "pause", "bob@desk")
    assert [(e.action, e.who) for e in state.audit()][1] == ("asked to pause", "bob@desk")


def test_releases_are_kept_anew(state: State) -> None:
    lock, made, given = started(state)
    state.store_releases(lock, [release(signed=None), release("r2", runtime_blob=None, special=True)])
    state.store_releases(lock, [release(blobs={"hh": Path("/new")})])
    assert state.stored_release("r1") == release(blobs={"hh": Path("/new")})
    assert state.stored_release("r2") == release("r2", runtime_blob=None, special=True)
    assert state.releases_of(made.id) == ()
    state.move(lock, made.id, [change(given[0], DeviceEvent.BEGIN, release="r2")])
    assert [r.id for r in state.releases_of(made.id)] == ["r2"]


def test_numbers_grow_and_are_never_below_the_clock(state: State, clock: Clock) -> None:
    given = [state.next_number("lab", "cls") for _ in range(3)]
    assert given == [int(BORN), int(BORN) + 1, int(BORN) + 2]
    clock.now -= 1000
    assert state.next_number("lab", "cls") == int(BORN) + 3
    clock.now += 5000
    assert state.next_number("lab", "cls") == int(clock.now)
    assert state.next_number("lab", "det") == int(clock.now)


def test_what_devices_tell_is_kept(state: State) -> None:
    state.record_facts([KnownDevice("d0", {"cpu": ["a", "\x00"]}, "f", 1.0), KnownDevice("d1", {}, "", 2.0)])
    state.record_facts([KnownDevice("d1", {"x": 1}, "g", 3.0)])
    assert state.known() == {
        "d0": KnownDevice("d0", {"cpu": ["a", "\x00"]}, "f", 1.0),
        "d1": KnownDevice("d1", {"x": 1}, "g", 3.0),
    }


def test_old_rollouts_go_with_all_that_is_only_theirs(state: State, where: str, clock: Clock) -> None:
    lock = state.acquire("lab", ELSEWHERE, 1e9)
    made = []
    for n in range(4):
        one = state.create(lock, rollout(), rows(1, f"r{n}"), [release(f"r{n}")], {})
        if n != 1:  # the second is never over
            state.advance(lock, one, RolloutEvent.ABORT, replace(one, state=RolloutState.ABORTED))
        made.append(one)
    first = rows(1, "r0")[0]
    state.move(lock, made[0].id, [change(first, DeviceEvent.BEGIN), failed(staged(first))])
    state.record_facts([KnownDevice("d0", {}, "", 1.0)])
    assert state.prune(30, 0) == 0
    clock.now += 31 * DAY
    assert state.prune(30, 3) == 1  # the newest three stay
    assert state.stored_release("r0") is None
    assert sql(where, "SELECT * FROM findings") == sql(where, "SELECT * FROM transitions") == []
    assert state.prune(30, 0) == 1
    assert {r.id for r in state.rollouts("lab")} == {made[1].id, made[3].id}
    assert [state.stored_release(f"r{n}") is not None for n in range(4)] == [False, True, False, True]
    assert state.audit()[-1].action == "pruned"
    assert (state.check_audit(), list(state.known())) == ("", ["d0"])


def test_what_runs_somewhere_stays(state: State, clock: Clock) -> None:
    lock = state.acquire("lab", ELSEWHERE, 1e9)
    one = state.create(lock, rollout(), rows(1, "r1"), [release("r1")], {})
    begun = change(rows(1, "r1")[0], DeviceEvent.BEGIN)
    same = change(begun.after, DeviceEvent.SAME)
    state.move(lock, one.id, [begun, replace(same, confirmed=confirmed(rollout_id=one.id))])
    state.advance(lock, one, RolloutEvent.ABORT, replace(one, state=RolloutState.ABORTED))
    state.create(lock, rollout(), [], [], {})
    clock.now += 31 * DAY
    assert state.prune(30, 1) == 1
    assert state.stored_release("r1") == release("r1")
    assert state.confirmed()["d0", "cls"].release == "r1"


def test_ten_thousand_rows(state: State) -> None:
    many = rows(10_000)
    lock = state.acquire("lab", ELSEWHERE)
    begin = time.monotonic()
    made = state.create(lock, rollout(), many, [], {})
    assert len(state.rows(made.id)) == 10_000
    for row in many[:50]:
        state.move(lock, made.id, [change(row, DeviceEvent.BEGIN)])
    state.move(lock, made.id, [change(row, DeviceEvent.SKIP) for row in many[50:]])
    assert time.monotonic() - begin < 20  # a busy machine; alone it is about 2


def test_content_that_was_changed_by_hand_is_a_sentence(state: State, where: str) -> None:
    _, made, _ = started(state)
    sql(where, "UPDATE rollout_rows SET state = 'dancing' WHERE device = 'd1'")
    with pytest.raises(StateError, match="changed by hand"):
        state.rows(made.id)
