"""What devices' histories become in the state, in SQLite and in PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from litefleet_controller.state import HistoryEntry, KnownDevice, ServiceStatus, State
from litefleet_controller.state.database import SCRIPTS, Database
from litefleet_controller.state.device_history import KEPT

from tests.controller.support.state_values import sql

STATUS = {"schema": 1, "health": "ok", "models": {"cls": {"release": "a" * 64}}}


def entries(first: int, last: int, device: str = "d1", history: str = "aa", at: float = 100.0) -> list[HistoryEntry]:
    return [
        HistoryEntry(device, history, n, at + n, "health", "cls", "r", {"n": n, "text": "\x00ü"}, at)
        for n in range(first, last + 1)
    ]


def test_the_latest_status_and_all_entries_once(state: State) -> None:
    assert state.services() == {}
    assert state.history_entries() == ()
    first = ServiceStatus("d1", "aa", 3, STATUS, 50.0)
    state.record_history(first, entries(1, 3))
    state.record_history(ServiceStatus("d2", "bb", 0, {}, 51.0))
    assert state.services() == {"d1": first, "d2": ServiceStatus("d2", "bb", 0, {}, 51.0)}
    again = ServiceStatus("d1", "aa", 5, {}, 60.0)
    state.record_history(again, entries(2, 5, at=200.0))  # two of them are known
    assert state.services()["d1"] == again
    assert [(e.number, e.taken_at) for e in state.history_entries()] == [
        (1, 100),
        (2, 100),
        (3, 100),
        (4, 200),
        (5, 200),
    ]
    assert state.history_entries()[0] == entries(1, 1)[0]
    assert state.history_entries()[0].entry["text"] == "\x00ü"


def test_another_history_begins_anew(state: State) -> None:
    state.record_history(ServiceStatus("d1", "aa", 2), entries(1, 2))
    state.record_history(ServiceStatus("d1", "bb", 1), entries(1, 1, history="bb", at=300.0))
    assert [(e.history, e.number) for e in state.history_entries()] == [("aa", 1), ("aa", 2), ("bb", 1)]


def test_entries_of_another_device_are_not_taken(state: State) -> None:
    state.record_history(
        ServiceStatus("d1", "aa", 2), [*entries(1, 1, "d2"), *entries(1, 1, history="bb"), *entries(2, 2)]
    )
    assert [e.number for e in state.history_entries()] == [2]


def test_chosen_by_device_time_and_number(state: State) -> None:
    for device in ("d1", "d2", "d3"):
        state.record_history(ServiceStatus(device, "aa", 4), entries(1, 4, device))
    assert {e.device for e in state.history_entries(["d1", "d3"])} == {"d1", "d3"}
    assert [e.number for e in state.history_entries(["d1"], since=103.0)] == [3, 4]
    assert [(e.device, e.number) for e in state.history_entries(limit=2)] == [("d3", 3), ("d3", 4)]


def test_the_oldest_of_many_go(state: State) -> None:
    state.record_history(ServiceStatus("d2", "aa", 1), entries(1, 1, "d2"))
    state.record_history(ServiceStatus("d1", "aa", KEPT), entries(1, KEPT))
    state.record_history(ServiceStatus("d1", "aa", KEPT + 5), entries(KEPT + 1, KEPT + 5, at=200.0))
    kept = [e.number for e in state.history_entries(["d1"], limit=10_000)]
    assert kept == list(range(6, KEPT + 6))
    assert len(state.history_entries(["d2"])) == 1


def test_a_database_of_the_first_schema_keeps_what_it_holds(new_schema: Callable[[], str], tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("v000[2-7]*"))
    for where in (str(tmp_path / "state.db"), new_schema()):
        old = State(Database.open(where, tmp_path / "scripts", "0001"), lambda: 1.0)
        known = KnownDevice("d1", {"arch": "x86_64"}, "f", 5.0)
        old.close()
        sql(
            where,
            "INSERT INTO devices (device, facts, fingerprint, seen_at) VALUES ('d1', '{\"arch\":\"x86_64\"}', 'f', 5.0)",
        )
        now = State.open(where)
        assert now.known() == {"d1": known}
        assert now.services() == {}
        now.record_history(ServiceStatus("d1", "aa", 1), entries(1, 1))
        assert len(now.history_entries()) == 1
        now.close()
