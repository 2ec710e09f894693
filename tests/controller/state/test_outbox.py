"""The outbox: what is to be told is stored with what happens, is delivered by one process at a time, and is never lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.rollout import DeviceEvent, DeviceState, Rollout, RolloutEvent, RolloutState
from litefleet_controller.state import Conflict, RowChange, ServiceStatus, State, Subscription
from litefleet_controller.state.outbox import CLAIM_S, EVENTS, GATHER_S, Outbox

from tests.controller.support.state_values import ELSEWHERE, Clock, rollout, rows

ALL = Subscription("lab", "chat", frozenset(EVENTS))
TOLD = (ALL, Subscription("lab", "desk", frozenset({"approval-wanted"})), Subscription("other", "x", frozenset(EVENTS)))


@pytest.fixture
def told(where: str, clock: Clock) -> Iterator[State]:
    opened = State.open(where, clock, told=TOLD)
    yield opened
    opened.close()


def running(state: State, count: int = 3) -> Rollout:
    lock = state.acquire("lab", ELSEWHERE)
    made = state.create(lock, rollout(), rows(count), [], {})
    after = replace(made, state=RolloutState.RUNNING)
    state.advance(lock, made, RolloutEvent.START, after)
    return after


def events(outbox: Outbox, state: str = "waiting") -> list[tuple[str, str]]:
    return [(n.receiver, n.event) for n in outbox.notices(state)]


def lose(state: State, before: Rollout, device: str, code: str = "LF501") -> None:
    """Begin a session with a device, which is then lost."""
    lock = state.acquire("lab", ELSEWHERE)
    row = next(r for r in state.rows(before.id) if r.device == device)
    begun = replace(row, state=DeviceState.STAGING, attempts=row.attempts + 1)
    state.move(lock, before.id, [RowChange(row, DeviceEvent.BEGIN, begun)])
    outcome = DeviceOutcome(device, "cls", Verdict.UNREACHABLE, (finding(code, "no route"),))
    gone = replace(begun, state=DeviceState.OFFLINE, offline_since=5.0, codes=(code,), sentence="no route to it")
    state.move(lock, before.id, [RowChange(begun, DeviceEvent.LOSE, gone, outcome)])


def test_a_rollouts_moves_are_stored_for_those_who_are_told(told: State, clock: Clock) -> None:
    outbox, under_way = told.outbox("lab"), running(told)
    assert outbox.notices() == ()  # a start is told to nobody
    lock = told.acquire("lab", ELSEWHERE)
    waits = replace(under_way, state=RolloutState.WAITING, reason="wave 1 of 2 is done")
    told.advance(lock, under_way, RolloutEvent.ASK, waits)
    assert events(outbox) == [("chat", "approval-wanted"), ("desk", "approval-wanted")]
    notice = outbox.notices()[0]
    assert notice.content["rollout"] == {
        "id": under_way.id,
        "kind": "rollout",
        "state": "waiting",
        "wave": 1,
        "waves": 2,
        "models": ["cls", "det"],
        "by": "ann@desk",
        "reason": "wave 1 of 2 is done",
        "rows": {"pending": 3},
    }
    assert notice.at == clock.now
    assert len({n.id for n in outbox.notices()}) == 2
    stopped = replace(waits, state=RolloutState.PAUSED, reason="2 of 3 failed", behind=("d1", "d2"))
    told.advance(lock, waits, RolloutEvent.PAUSE, stopped)
    assert outbox.notices()[-1].content["devices"] == [{"name": "d1"}, {"name": "d2"}]
    assert told.outbox("other").notices() == ()


def test_what_is_rolled_back_is_told_to_nobody(told: State) -> None:
    under_way, lock = running(told), told.acquire("lab", ELSEWHERE)
    row = told.rows(under_way.id)[0]
    wrong = RowChange(
        replace(row, state=DeviceState.STAGING), DeviceEvent.PROVE, replace(row, state=DeviceState.PROVEN)
    )
    with pytest.raises(Conflict):
        told.advance(lock, under_way, RolloutEvent.PAUSE, replace(under_way, state=RolloutState.PAUSED), [wrong])
    assert told.outbox("lab").notices() == ()


def test_lost_devices_are_gathered_into_one_notice(told: State, clock: Clock) -> None:
    outbox, under_way = told.outbox("lab"), running(told)
    lose(told, under_way, "d0")
    lose(told, under_way, "d1")
    lose(told, under_way, "d2", "LF508")  # it is busy: it is there
    lose(told, under_way, "d1")  # again, in the same spell
    (notice,) = outbox.notices()
    assert [d["name"] for d in notice.content["devices"]] == ["d0", "d1"]  # type: ignore[attr-defined]
    assert notice.content["devices"][0] == {"name": "d0", "code": "LF501", "reason": "no route to it"}  # type: ignore[index]
    assert outbox.claim("chat") is None  # it gathers for half a minute
    clock.now += GATHER_S
    claimed = outbox.claim("chat")
    assert claimed is not None
    lose(told, running(told, 2), "d1")  # another rollout: a notice of its own
    assert len(outbox.notices()) == 2
    assert outbox.claim("chat") is None
    assert outbox.claim("chat", gathered=True) is not None  # a command ends: it does not wait for more


def test_drift_is_told_when_it_changes(told: State) -> None:
    outbox = told.outbox("lab")
    for drift in (0, 2, 2, "x", True, None, 3):
        told.record_history(ServiceStatus("d1", "aa", 0, {"drift": drift}, 1.0))
    told.record_history(ServiceStatus("d2", "aa", 0, {"drift": 1 << 60}, 1.0))
    (notice,) = outbox.notices()
    assert (notice.event, notice.rollout) == ("drift", "")
    assert notice.content["devices"] == [{"name": "d1", "findings": 2}, {"name": "d2", "findings": 1_000_000}]


def test_a_notice_is_claimed_by_one_and_by_another_one_after_its_death(told: State, clock: Clock) -> None:
    outbox, under_way = told.outbox("lab"), running(told)
    lock = told.acquire("lab", ELSEWHERE)
    told.advance(lock, under_way, RolloutEvent.FINISH, replace(under_way, state=RolloutState.DONE))
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(outbox.claim("chat"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = next(n for n in found if n is not None)
    assert found.count(None) == 3
    clock.now += CLAIM_S + 1
    second = outbox.claim("chat")
    assert second is not None
    assert second.id == first.id  # type: ignore[attr-defined]
    outbox.failed(second, "status 503", 10.0)
    outbox.delivered(first)  # type: ignore[arg-type]  # it was slow, and is no longer the one that delivers
    assert outbox.claim("chat") is None
    clock.now += 11
    third = outbox.claim("chat")
    assert third is not None
    assert (third.attempts, third.error) == (1, "status 503")
    outbox.failed(third, "status 503", None)
    assert events(outbox, "dead") == [("chat", "finished")]
    assert outbox.counts() == {("chat", "dead"): 1}
    assert outbox.retry(["n-other"]) == 0
    assert outbox.retry() == 1
    again = outbox.claim("chat")
    assert again is not None
    outbox.delivered(again)
    assert events(outbox, "delivered") == [("chat", "finished")]


def test_the_outbox_is_bounded(told: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litefleet_controller.state.outbox._MOST_KEPT", {"waiting": 3, "dead": 1, "delivered": 1})
    outbox = told.outbox("lab")
    for _ in range(5):
        under_way = running(told, 1)
        lock = told.acquire("lab", ELSEWHERE)
        told.advance(lock, under_way, RolloutEvent.FINISH, replace(under_way, state=RolloutState.DONE))
    outbox.trim("chat")
    assert outbox.counts() == {("chat", "waiting"): 3, ("chat", "dead"): 1}
    assert "more than 3 notices" in outbox.notices("dead")[0].error
