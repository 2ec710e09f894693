"""The audit log: what was tampered with is found, and the database itself refuses the plain ways of doing it."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from litefleet_controller.state import State

from tests.controller.support.state_values import ELSEWHERE, sql

REFUSED = (sqlite3.IntegrityError, psycopg.errors.RaiseException)


def filled(state: State) -> None:
    for n in range(5):
        state.log(f"u{n}@host", f"action {n}", {"n": n, "deep": {"x": [1.5, None, "\x00ä\ud800"]}, 3: ("a",)})


def without_guards(where: str, *statements: str) -> None:
    """Do what somebody does who may change the tables themselves."""
    if "://" in where:
        sql(where, "ALTER TABLE audit DISABLE TRIGGER ALL", *statements)
    else:
        sql(where, "DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete", *statements)


def test_the_chain_holds(state: State) -> None:
    assert state.check_audit() == ""
    filled(state)
    entries = state.audit(3)
    assert [e.seq for e in entries] == [3, 4, 5]
    assert entries[1].previous == entries[0].hash
    assert entries[2].what == {"n": 4, "deep": {"x": [1.5, None, "\x00ä\ud800"]}, "3": ["a"]}
    assert state.check_audit() == ""


def test_the_database_refuses_changes(state: State, where: str) -> None:
    filled(state)
    for statement in ("UPDATE audit SET who = 'x'", "DELETE FROM audit WHERE seq = 5"):
        with pytest.raises(REFUSED, match="append-only"):
            sql(where, statement)
    assert (state.check_audit(), len(state.audit())) == ("", 5)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE audit SET who = 'x@y' WHERE seq = 2"], "entry 2 .* was changed"),
        (["UPDATE audit SET what = 'no json' WHERE seq = 3"], "entry 3 .* was changed"),
        (["UPDATE audit SET at = at + 1 WHERE seq = 1"], "entry 1 .* was changed"),
        (["DELETE FROM audit WHERE seq = 3"], "lacks entry 3: the next one is 4"),
        (["DELETE FROM audit WHERE seq = 1"], "lacks entry 1"),
        (
            [
                "UPDATE audit SET seq = 99 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 99",
            ],
            "entry 2 .* was changed",
        ),
    ],
    ids=["who", "what", "when", "gone", "first gone", "swapped"],
)
def test_tampering_is_found(state: State, where: str, statements: list[str], said: str) -> None:
    filled(state)
    without_guards(where, *statements)
    with pytest.raises(AssertionError, match=said):
        assert not state.check_audit(), state.check_audit()


def test_an_entry_written_anew_with_a_good_hash_breaks_the_chain(state: State, where: str, tmp_path: object) -> None:
    filled(state)
    forged = State.open(f"{tmp_path}/forged.db")
    forged.log("u0@host", "action 0", {})
    first = forged.audit()[0]
    forged.close()
    without_guards(
        where,
        f"UPDATE audit SET at = {first.at!r}, what = '{{}}', hash = '{first.hash}' WHERE seq = 1",
    )
    assert "entry 2 (action 1, by u1@host) does not follow the one before it" in state.check_audit()


def test_taking_over_is_logged(state: State, clock: object) -> None:
    state.acquire("lab", ELSEWHERE, ttl_s=-1.0)
    state.acquire("lab", ELSEWHERE)
    entry = state.audit()[-1]
    assert (entry.action, entry.who, entry.what["from"]) == ("taken over", "ops@other-host", str(ELSEWHERE))
