"""The state's identity: what grows it, what counts as another or a later state, and what moves with a renamed device."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.releases.journal import NOBODY, Told
from litefleet_controller.devices.identity import Identity, told_of
from litefleet_controller.rollout import DeviceEvent
from litefleet_controller.state import KnownDevice, State, StateOlder
from litefleet_controller.state.identity import Beside

from tests.controller.support.state_values import ELSEWHERE, Clock, change, confirmed, failed, staged, started

OURS = Identity("yard", "a" * 32, 7, {"b" * 32: 3})


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (NOBODY, ""),
        (Told("yard", "a" * 32, 7), ""),
        (Told("yard", "a" * 32, 8), "under number 8, and this state knows only 7: it is older"),
        (Told("yard", "b" * 32, 3), ""),
        (Told("yard", "b" * 32, 4), "under number 4, and this state knows only 3: it is older"),
        (Told("yard", "c" * 32, 1), "by another state, cccccccccccc (number 1)"),
        (Told("shop", "a" * 32, 7), "for fleet 'shop'"),
    ],
)
def test_what_a_state_may_change(told: Told, why: str) -> None:
    assert OURS.problem(told) == (f"last switched {why}" if why else "")
    assert [f.code for f in OURS.conflict({"told": told.to_dict()})] == (["LF630"] if why else [])


def test_an_agent_that_does_not_keep_it_is_sent_nothing_and_one_that_lies_is_named() -> None:
    assert OURS.order({}) == {}
    assert OURS.order({"told": {}}) == {"told": {"fleet": "yard", "state": "a" * 32, "number": 7}, "seen": {}}
    assert Identity("yard").order({"told": {}}) == {}
    with pytest.raises(AgentError, match="`told` does not fit"):
        told_of({"told": {"fleet": 1}})


def test_the_number_grows_with_each_session_and_nothing_else(state: State) -> None:
    lock, made, rows = started(state)
    first = state.identity("lab")
    assert (len(first.state), first.number) == (32, 0)
    begun = [change(row, DeviceEvent.BEGIN) for row in rows]
    assert state.move(lock, made.id, begun[:2]) == 1
    assert state.move(lock, made.id, [change(staged(rows[0]), DeviceEvent.LOSE)]) == 0
    assert state.move(lock, made.id, begun[2:]) == 2
    assert state.identity("lab") == Identity("lab", first.state, 2)
    assert state.identity("shop") == Identity("shop")


def test_adopting_gives_a_new_id_and_remembers_the_old_one(state: State) -> None:
    lock = state.acquire("lab", ELSEWHERE)
    state.confirm([confirmed("d0"), confirmed("d1")])
    old = state.identity("lab")
    known = [KnownDevice("d0", {}, "f", 5.0, "SHA256:x"), KnownDevice("d2", {}, "f", 5.0)]
    new = state.adopt(lock, [confirmed("d0", "r2")], known, True, "ann@desk", {"why": "lost"})
    assert new.state not in ("", old.state)
    assert (new.number, new.past) == (1, {old.state: 0})
    assert {key: c.release for key, c in state.confirmed().items()} == {("d0", "cls"): "r2", ("d1", "cls"): "r1"}
    assert state.known()["d0"].host_key == "SHA256:x"
    assert (state.audit()[-1].who, state.audit()[-1].action) == ("ann@desk", "state adopted")


def test_all_that_is_stored_moves_with_a_renamed_device(state: State) -> None:
    lock, made, rows = started(state)
    state.move(lock, made.id, [change(rows[0], DeviceEvent.BEGIN)])
    state.move(lock, made.id, [failed(staged(rows[0]))])
    state.record_facts([KnownDevice("d0", {"x": 1}, "f", 1.0, "SHA256:x")])
    state.confirm([confirmed("d0")])
    outcome = state.outcomes(made.id)[0]
    state.rename(lock, {"d0": "hall-7"}, "ann@desk")
    assert [row.device for row in state.rows(made.id)] == ["hall-7", "d1", "d2"]
    assert [m.device for m in state.history(made.id)] == ["hall-7"] * 2
    assert state.outcomes(made.id) == (outcome,)
    assert set(state.known()) == {"hall-7"}
    assert set(state.confirmed()) == {("hall-7", "cls")}
    assert state.audit()[-1].what["to"] == "hall-7"
    assert state.check_audit() == ""


def test_the_file_beside_names_a_later_copy_and_the_last_entry_of_the_log(where: str, tmp_path: Path) -> None:
    note = tmp_path / "note.id"
    state = State.open(where, Clock(), beside=note)
    lock, made, rows = started(state)
    assert not note.exists()
    state.move(lock, made.id, [change(rows[0], DeviceEvent.BEGIN)])
    state.release(lock)
    noted = Beside(note).read()["lab"]
    assert (noted.told.number, noted.audit[0]) == (1, 1)
    assert state.behind("lab") == ""
    later = noted.__class__(noted.told._replace(number=2), (9, "f" * 64), noted.at)
    Beside(note).write("lab", later)
    assert "names fleet 'lab' with number 2 and 9 audit entries" in state.behind("lab")
    with pytest.raises(StateOlder, match="the database has number 1"):
        state.acquire("lab", ELSEWHERE)
    assert "ends at entry 1, and the file beside the database names entry 9" in state.check_audit()
    state.acquire("lab", ELSEWHERE, adopting=True)
    note.write_text("garbage")
    assert (state.behind("lab"), state.check_audit()) == ("", "")
    state.close()
