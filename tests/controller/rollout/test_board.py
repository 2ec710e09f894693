"""What is to be done next, decision by decision."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from litefleet_controller.rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutEvent, RolloutState, Wave
from litefleet_controller.rollout.board import (
    Advance,
    Ask,
    Begin,
    Board,
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

D = DeviceState
NOW = 1_795_000_000.0  # 2026-11-18T11:06:40Z, a Wednesday


def row(number: int, wave: int = 0, state: DeviceState = D.PENDING, part: str = "A53", **more: object) -> DeviceRow:
    return DeviceRow(f"cam-{number}", "cls", wave, number, state, part=part, libc="glibc 2.36", **more)


def offline(number: int, wave: int = 0, try_at: float = NOW + 60, since: float = NOW - 60, **more: object) -> DeviceRow:
    return row(number, wave, D.OFFLINE, offline_since=since, next_try_at=try_at, attempts=1, **more)


def board(
    *rows: DeviceRow, wave: int = 0, soak_until: float = 0.0, looked: int = 0, approved: int = 0, **policy: object
) -> Board:
    policy.setdefault("stratify", False)  # where one of a kind comes first, the test says so
    policy.setdefault("success", 0)  # the same for what a wave must have
    waves = tuple(Wave(sum(r.wave == w for r in rows), str(w)) for w in range(max(r.wave for r in rows) + 1))
    rollout = Rollout("r-1", "f", "rollout", RolloutState.RUNNING, Policy(**policy), waves, NOW, "ann@desk")
    return Board(replace(rollout, wave=wave, soak_until=soak_until, looked=looked, approved=approved), rows)


def change(on: Board, device: str, **more: object) -> None:
    for one in on.rows_of(device):
        on.put(replace(one, **more))


# --- beginning


def test_devices_of_this_wave_begin_in_order_and_no_more_than_are_free():
    it = board(row(3), row(1), row(2), row(4, 1))
    assert it.next(NOW, 2) == Begin(("cam-1", "cam-2"))
    assert it.next(NOW, 2) == Begin(("cam-1", "cam-2"))  # asked again, answered again
    change(it, "cam-1", state=D.STAGING)
    assert it.next(NOW, 9) == Begin(("cam-2", "cam-3"))
    assert it.next(NOW, 0) == Wait(None, "as many devices are at work as may be at once")


def test_the_next_wave_waits_for_what_is_in_flight_but_not_for_what_is_offline():
    it = board(row(1, 0, D.LEASED), offline(2), row(3, 1))
    assert it.next(NOW, 9) == Wait(NOW - 60 + 30 * 86400, "devices are at work")
    change(it, "cam-1", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Advance(1)
    it.put_rollout(replace(it.rollout, wave=1))
    assert it.next(NOW, 9) == Begin(("cam-3",))


def test_a_device_with_two_models_is_begun_once_and_done_when_both_are():
    it = board(row(1), replace(row(1), model="det"), row(2, 1))
    assert it.next(NOW, 9) == Begin(("cam-1",))
    it.put(replace(it.row("cam-1", "cls"), state=D.CONFIRMED))
    it.put(replace(it.row("cam-1", "det"), state=D.STAGING))
    assert it.next(NOW, 9) == Wait(None, "devices are at work")
    it.put(replace(it.row("cam-1", "det"), state=D.CONFIRMED))
    assert it.next(NOW, 9) == Advance(1)


def test_only_so_many_at_once_behind_a_jump_host():
    rows = [row(n, jump="gate" if n < 5 else "") for n in range(1, 7)]
    it = board(*rows, row(7, jump="other"), per_jump_host=2)
    assert it.next(NOW, 9) == Begin(("cam-1", "cam-2", "cam-5", "cam-6", "cam-7"))
    for n in (1, 2, 5, 6, 7):
        change(it, f"cam-{n}", state=D.STAGING)
    assert it.next(NOW, 9) == Wait(None, "2 devices are at work behind each jump host that others wait for")
    change(it, "cam-2", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Begin(("cam-3",))


def test_pending_and_offline_devices_share_a_jump_hosts_limit():
    it = board(row(1, jump="gate"), offline(2, try_at=NOW, jump="gate"), offline(3, try_at=NOW), per_jump_host=1)
    assert it.next(NOW, 9) == Begin(("cam-1", "cam-3"))


def test_only_so_many_in_a_minute():
    it = board(*(row(n) for n in range(1, 6)), per_minute=2)
    assert it.next(NOW, 9) == Begin(("cam-1", "cam-2"))
    for n, at in ((1, NOW), (2, NOW + 10)):
        change(it, f"cam-{n}", state=D.STAGING)
        it.begun(f"cam-{n}", at)
    assert it.next(NOW + 11, 9) == Wait(NOW + 60, "2 devices were begun within a minute")
    assert it.next(NOW + 60, 9) == Begin(("cam-3",))


def test_nothing_begins_outside_the_windows():
    it = board(row(1), windows=("22:00-05:00",), timezone="UTC")
    opens = NOW - NOW % 86400 + 22 * 3600
    assert it.next(NOW, 9) == Wait(opens, "outside the windows 22:00-05:00")
    assert it.next(opens, 9) == Begin(("cam-1",))


def test_offline_devices_of_this_wave_and_earlier_ones_are_tried_when_due():
    it = board(offline(1, 0, NOW + 5), row(2, 1), offline(3, 2, NOW), wave=1)
    assert it.next(NOW, 9) == Begin(("cam-2",))
    assert it.next(NOW + 5, 9) == Begin(("cam-2", "cam-1"))
    change(it, "cam-2", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Advance(2)
    it.put_rollout(replace(it.rollout, wave=2))
    assert it.next(NOW, 9) == Begin(("cam-3",))


def test_offline_devices_do_not_keep_a_wave_from_settling():
    it = board(row(1, 0, D.STAGING), offline(2, try_at=NOW), row(3, 1))
    assert isinstance(it.next(NOW, 9), Wait)  # trying cam-2 now would hold the wave up once more
    change(it, "cam-1", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Advance(1)


def test_a_failed_device_that_is_tried_again_begins_though_its_wave_is_past():
    it = board(row(1, 0, D.CONFIRMED), row(2, 0), row(3, 1), wave=1)
    assert it.next(NOW, 9) == Begin(("cam-2", "cam-3"))


# --- gates and giving up


def test_a_gate_stops_before_anything_begins():
    it = board(row(1, 0, D.FAILED, codes=("LF401",), attempts=1), row(2))
    sentence = "1 of 2 devices in the first wave failed; the limit is 1: cam-1"
    assert it.next(NOW, 9) == Stop(RolloutEvent.PAUSE, "canary", sentence, ("cam-1",))
    change(it, "cam-1", forgiven=True)
    assert it.next(NOW, 9) == Begin(("cam-2",))


def test_a_gate_fires_in_the_middle_of_a_wave():
    gates = {"cluster": {"count": 2}, "wave": {}, "total": {}}
    it = board(row(1, 0, D.CONFIRMED), *(row(n, 1) for n in range(2, 40)), wave=1, gates=gates)
    change(it, "cam-2", state=D.FAILED, codes=("LF401",))
    assert isinstance(it.next(NOW, 1), Begin)
    change(it, "cam-9", state=D.FAILED, codes=("LF401",))
    decision = it.next(NOW, 1)
    assert isinstance(decision, Stop)
    assert (decision.gate, decision.devices) == ("cluster", ("cam-2", "cam-9"))


def test_a_device_that_stays_away_is_given_up():
    it = board(offline(1, since=NOW - 100), offline(2, since=NOW - 50), retry={"give_up_after": "100s"})
    assert it.next(NOW - 1, 9) == OfflineOnly(NOW)
    assert it.next(NOW, 9) == GiveUp(("cam-1",))
    change(it, "cam-1", state=D.FAILED, codes=("LF615",))
    assert it.next(NOW, 9) == OfflineOnly(NOW + 50)
    assert it.next(NOW + 60, 9) == GiveUp(("cam-2",))


def test_a_device_whose_turn_never_came_is_not_given_up():
    it = board(row(1), offline(2, 1, since=NOW - 900), retry={"give_up_after": "100s"})
    assert it.next(NOW, 9) == Begin(("cam-1",))


# --- between waves


def test_after_a_wave_come_soak_look_approval_and_the_next_wave():
    it = board(
        row(1, 0, D.CONFIRMED), row(2, 0, D.UNCHANGED, attempts=1), row(3, 1), row(4, 1), soak="10m", approve=True
    )
    assert it.next(NOW, 9) == Soak(NOW + 600)
    it.put_rollout(replace(it.rollout, soak_until=NOW + 600))
    assert it.next(NOW, 9) == Wait(NOW + 600, "the wave soaks")
    assert it.next(NOW + 600, 9) == RecheckWave(("cam-1",))
    it.put_rollout(replace(it.rollout, looked=1))
    sentence = "wave 1 of 2 is done: 1 confirmed, 1 unchanged; wave 2, 2 devices, waits for approval"
    assert it.next(NOW + 600, 9) == Ask(0, sentence)
    it.put_rollout(replace(it.rollout, state=RolloutState.WAITING))
    assert it.next(NOW + 600, 9) == Wait(None, "the rollout is waiting")
    it.put_rollout(replace(it.rollout, state=RolloutState.RUNNING, approved=1))
    assert it.next(NOW + 600, 9) == Advance(1)
    it.put_rollout(replace(it.rollout, wave=1, soak_until=0.0))
    assert it.next(NOW + 600, 9) == Begin(("cam-3", "cam-4"))
    for n in (3, 4):
        change(it, f"cam-{n}", state=D.CONFIRMED)
    assert it.next(NOW + 600, 9) == Finish()


def test_while_a_wave_soaks_offline_devices_are_tried_and_then_no_more():
    rows = row(1, 0, D.CONFIRMED), offline(2, try_at=NOW + 30), offline(3, try_at=NOW + 40), row(4, 1)
    it = board(*rows, soak="1m", soak_until=NOW + 60)
    assert it.next(NOW, 9) == Wait(NOW + 30, "the wave soaks")
    assert it.next(NOW + 30, 9) == Begin(("cam-2",))
    change(it, "cam-2", state=D.STAGING)
    assert it.next(NOW + 50, 9) == Begin(("cam-3",))
    assert isinstance(it.next(NOW + 60, 9), Wait)
    change(it, "cam-2", state=D.CONFIRMED)
    assert it.next(NOW + 60, 9) == RecheckWave(("cam-1", "cam-2"))


def test_approval_after_some_waves_only():
    it = board(row(1, 0, D.CONFIRMED), row(2, 1, D.CONFIRMED), row(3, 2), approve=(2,))
    assert it.next(NOW, 9) == Advance(1)
    it.put_rollout(replace(it.rollout, wave=1))
    assert isinstance(it.next(NOW, 9), Ask)


def test_no_soak_when_the_later_waves_have_nothing_to_do():
    it = board(row(1, 0, D.CONFIRMED), row(2, 1, D.BLOCKED), soak="10m", approve=True)
    assert it.next(NOW, 9) == Finish()


def test_only_offline_devices_are_left():
    it = board(row(1, 0, D.CONFIRMED), offline(2, 1, NOW + 99), offline(3, 0, NOW + 50), wave=1)
    assert it.next(NOW, 9) == OfflineOnly(NOW + 50)
    assert it.next(NOW + 50, 9) == Begin(("cam-3",))
    change(it, "cam-3", state=D.STAGING)
    assert it.next(NOW + 50, 9) == Wait(NOW + 99, "devices are at work")


def test_offline_devices_wait_for_the_window_too():
    it = board(offline(1, try_at=NOW + 50), windows=("22:00-05:00",))
    opens = NOW - NOW % 86400 + 22 * 3600
    assert it.next(NOW, 9) == OfflineOnly(opens)
    assert it.next(NOW + 50, 9) == Wait(opens, "outside the windows 22:00-05:00")


@pytest.mark.parametrize("state", [s for s in RolloutState if s is not RolloutState.RUNNING])
def test_a_rollout_that_does_not_run_has_nothing_to_do(state):
    it = board(row(1))
    it.put_rollout(replace(it.rollout, state=state))
    assert it.next(NOW, 9) == Wait(None, f"the rollout is {state}")


# --- promotion


def test_when_no_canary_of_a_kind_can_be_reached_another_takes_its_place():
    it = board(
        row(1, 0, D.CONFIRMED),
        offline(2, part="A72"),
        row(3, 1),
        offline(4, 1, part="A72"),
        row(5, 1, part="A72"),
        stratify=True,
    )
    moved = row(5, 0, part="A72")
    why = "no A72/glibc 2.36 in the first wave could be tried: cam-5 joins it"
    assert it.next(NOW, 9) == Promote((moved,), why)
    it.put(moved)
    assert it.next(NOW, 9) == Begin(("cam-5",))
    change(it, "cam-5", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Advance(1)


def test_a_kind_that_was_judged_needs_no_other():
    waiting = row(3, 1, part="A72")
    for judged in (row(2, 0, D.FAILED, "A72", forgiven=True), row(2, 1, D.UNCHANGED, "A72")):
        assert board(row(1, 0, D.CONFIRMED), judged, waiting, stratify=True).next(NOW, 9) == Advance(1)
    given_up = row(2, 0, D.FAILED, "A72", codes=("LF615",))
    assert isinstance(board(row(1, 0, D.CONFIRMED), given_up, waiting, stratify=True).next(NOW, 9), Promote)
    assert board(row(1, 0, D.CONFIRMED), given_up, waiting, stratify=False).next(NOW, 9) == Advance(1)


def test_a_device_moves_with_all_its_models_and_one_may_stand_for_several_kinds():
    two = row(2, 1, part="A72"), replace(row(2, 1, part="A72", runtime="r2"), model="det")
    it = board(offline(1), *two, row(3, 1, part="A72"), row(4, 1), stratify=True)
    decision = it.next(NOW, 9)
    assert isinstance(decision, Promote)
    assert [(r.device, r.model, r.wave) for r in decision.rows] == [
        ("cam-2", "cls", 0),
        ("cam-2", "det", 0),
        ("cam-4", "cls", 0),
    ]


# --- evidence before spread


def test_one_device_of_each_kind_is_tried_before_its_others_within_a_wave():
    it = board(*(row(n) for n in (1, 2, 3)), *(row(n, part="A72") for n in (4, 5)), stratify=True)
    assert it.next(NOW, 9) == Begin(("cam-1", "cam-4"))
    for n in (1, 4):
        change(it, f"cam-{n}", state=D.STAGING)
    assert it.next(NOW, 9) == Wait(None, "one device of each kind is tried before its others")
    change(it, "cam-4", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Begin(("cam-5",))
    change(it, "cam-1", state=D.CONFIRMED)
    assert it.next(NOW, 9) == Begin(("cam-2", "cam-3", "cam-5"))


def test_a_board_made_again_from_the_stored_rows_decides_the_same():
    rows = row(1), row(2, part="A72"), row(3, part="A76"), row(4, part="A72")
    it = board(*rows, stratify=True)
    change(it, "cam-2", state=D.SKIPPED)
    assert it.next(NOW, 9) == Board(it.rollout, it.rows()).next(NOW, 9) == Begin(("cam-1", "cam-3", "cam-4"))

    it = board(row(1, jump="north"), row(2, part="A72", jump="north"), stratify=True, per_jump_host=1)
    change(it, "cam-1", state=D.STAGING)
    assert it.next(NOW, 9) == Board(it.rollout, it.rows()).next(NOW, 9)
    assert it.next(NOW, 9).why == "1 devices are at work behind each jump host that others wait for"


def test_of_a_fleet_that_comes_back_one_device_is_tried_first():
    it = board(*(offline(n, int(n > 1), NOW) for n in range(1, 9)), wave=1, stratify=True, success=0.5)
    decision = it.next(NOW, 9)
    assert decision == Begin(("cam-1",))
    change(it, "cam-1", state=D.STAGING)
    assert isinstance(it.next(NOW, 9), Wait)
    change(it, "cam-1", state=D.FAILED, codes=("LF401",))
    assert isinstance(it.next(NOW, 9), Stop)
    change(it, "cam-1", state=D.CONFIRMED, codes=())
    assert it.next(NOW, 9) == Begin(tuple(f"cam-{n}" for n in range(2, 9)))


def test_the_first_of_a_kind_in_a_later_wave_counts_as_a_canary():
    it = board(row(1, 0, D.CONFIRMED), row(2, 1, part="A72"), row(3, 1, part="A72"), wave=1, stratify=True)
    moved = row(2, 0, part="A72")
    assert it.next(NOW, 9) == Promote(
        (moved,), "no device of its kind has been tried: cam-2 is tried first, as a canary"
    )
    it.put(moved)
    assert it.next(NOW, 9) == Begin(("cam-2",))
    change(it, "cam-2", state=D.FAILED, codes=("LF401",))
    decision = it.next(NOW, 9)
    assert isinstance(decision, Stop)
    assert decision.gate == "canary"


def test_a_trial_that_is_lost_is_followed_by_the_next_of_its_kind():
    it = board(row(1), row(2), stratify=True)
    assert it.next(NOW, 9) == Begin(("cam-1",))
    change(it, "cam-1", state=D.STAGING)
    change(it, "cam-1", state=D.OFFLINE, offline_since=NOW, next_try_at=NOW + 60)
    assert it.next(NOW, 9) == Begin(("cam-2",))


def test_a_failure_that_is_tried_again_is_no_evidence():
    it = board(row(1, 0, D.FAILED, forgiven=True), row(2), row(3), stratify=True)
    assert it.next(NOW, 9) == Begin(("cam-2", "cam-3"))
    change(it, "cam-1", state=D.PENDING, forgiven=False)
    assert it.next(NOW, 9) == Begin(("cam-1",))


def test_no_wave_begins_before_enough_of_the_one_before_it_succeeded():
    away = [offline(n, 0, NOW + n) for n in (2, 3, 4, 5)]
    it = board(row(1, 0, D.CONFIRMED), *away, row(6, 1), row(7, 1), success=0.5)
    why = (
        "1 of 5 devices in wave 1 succeeded, and 50% are needed before the next wave: "
        "cam-2, cam-3, cam-4, cam-5 did not"
    )
    assert it.next(NOW, 9) == OfflineOnly(NOW + 2, why)
    assert it.lacks_success()
    assert it.next(NOW + 3, 9) == Begin(("cam-2", "cam-3"))
    change(it, "cam-2", state=D.CONFIRMED)
    change(it, "cam-3", state=D.STAGING)
    assert isinstance(it.next(NOW + 3, 9), Wait)
    change(it, "cam-3", state=D.CONFIRMED)
    assert it.next(NOW + 3, 9) == Advance(1)
    assert not it.lacks_success()


def test_a_person_may_go_on_without_that_success_and_failures_stop_for_one():
    rows = [row(1, 0, D.CONFIRMED), offline(2), offline(3), row(4, 1)]
    assert isinstance(board(*rows, success=0.5).next(NOW, 9), OfflineOnly)
    assert board(*rows, success=0.5, approved=1).next(NOW, 9) == Advance(1)
    open_gates = {"canary": {}, "wave": {}, "total": {}}
    failed = [row(n, 0, D.FAILED, codes=("LF401",)) for n in (2, 3)]
    decision = board(row(1, 0, D.CONFIRMED), *failed, row(4, 1), success=0.5, gates=open_gates).next(NOW, 9)
    assert isinstance(decision, Stop)
    assert (decision.gate, decision.event, decision.devices) == ("success", RolloutEvent.PAUSE, ("cam-2", "cam-3"))
    forgiven = [replace(r, forgiven=True) for r in failed]
    assert board(row(1, 0, D.CONFIRMED), *forgiven, row(4, 1), success=0.5, gates=open_gates).next(NOW, 9) == Advance(1)
    assert board(row(1, 0, D.CONFIRMED), *failed, row(4, 1), success=0.5, gates="off").next(NOW, 9) == Advance(1)


def test_a_skipped_device_counts_in_nothing():
    it = board(row(1, 0, D.CONFIRMED), row(2, 0, D.SKIPPED), row(3, 0, D.SKIPPED), row(4, 1), success=1)
    assert it.next(NOW, 9) == Advance(1)
    assert it.tallies.waves[0].size == 1


def test_a_soak_that_a_wrong_clock_began_begins_anew():
    it = board(row(1, 0, D.CONFIRMED), row(2, 1), soak="20s", soak_until=NOW + 3 * 86400)
    assert it.next(NOW, 9) == Soak(NOW + 20)


# --- the rest


def test_counts_by_state_and_wave():
    it = board(row(1), row(2, 0, D.CONFIRMED), row(3, 1), row(4, 1, D.BLOCKED))
    assert it.counts() == {D.PENDING: 2, D.CONFIRMED: 1, D.BLOCKED: 1}
    assert it.counts(1) == {D.PENDING: 1, D.BLOCKED: 1}
    assert it.counts(7) == {}
    change(it, "cam-3", wave=0, state=D.STAGING)
    assert it.counts(0) == {D.PENDING: 1, D.STAGING: 1, D.CONFIRMED: 1}
    assert [r.device for r in it.rows()] == ["cam-1", "cam-2", "cam-3", "cam-4"]
    assert it.row("cam-9", "cls") is None
    assert it.rows_of("cam-9") == ()


def test_retries_come_later_each_time_and_not_together():
    policy = Policy(retry={"first": "30s", "longest": "10m"})
    waits = [retry_at(offline(1), policy, NOW) - NOW]
    waits += [retry_at(replace(offline(1), attempts=n), policy, NOW) - NOW for n in (2, 3, 6, 50, 10**9)]
    assert [round(wait / waits[0], 6) for wait in waits] == [1, 2, 4, 20, 20, 20]
    firsts = {retry_at(offline(n), policy, NOW) - NOW for n in range(200)}
    assert len(firsts) == 200
    assert 24 <= min(firsts) < 26
    assert 34 < max(firsts) <= 36
    assert retry_at(offline(1), policy, NOW) == retry_at(offline(1), policy, NOW)
    assert retry_at(offline(1), Policy(retry={"first": 0}), NOW) > NOW


def test_ten_thousand_devices_take_no_search_for_each_step():
    rows = (row(n, n % 3, jump=f"gate-{n % 50}") for n in range(10_000))
    it = board(*rows, wave=2, per_minute=20_000, stratify=True, success=0.5)
    started, steps = time.process_time(), 0
    while isinstance(decision := it.next(NOW, 2), Begin):
        for name in decision.devices:
            change(it, name, state=D.STAGING, attempts=1)
            it.begun(name, NOW)
            change(it, name, state=D.CONFIRMED)
            steps += 1
    assert decision == Finish()
    assert steps == 10_000
    assert time.process_time() - started < 15  # a scan of all rows at each step takes minutes


def test_a_soak_that_a_fast_clock_began_takes_at_most_one_more_soak():
    """The controller's clock was three days ahead when the soak of 20 s began, and is right now."""
    it = board(row(1, 0, D.CONFIRMED), row(2, 1), soak="20s", soak_until=NOW + 3 * 86400 + 20)
    assert it.next(NOW, 9) == Soak(NOW + 20)
    it.put_rollout(replace(it.rollout, soak_until=NOW + 20))
    assert it.next(NOW + 19, 9) == Wait(NOW + 20, "the wave soaks")
    assert isinstance(it.next(NOW + 20, 9), RecheckWave)
