"""Entries of the audit log that no login waits for: kept first, moved by a thread, and lost by no kill."""

import sqlite3
import time
from contextlib import closing

import pytest
from litefleet_controller.common.errors import LitefleetError
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.auth.audit_queue import LATE_S, AuditQueue
from litefleet_controller.serve.journal import Journal

from tests.controller.serve.serving import client_of, service_in


@pytest.fixture
def service(tmp_path):
    made = service_in(tmp_path)
    yield made
    made.entries.close()
    made.opened.close()


def actions(service):
    with service.state() as state:
        return [entry.action for entry in state.audit()]


def waited_for(found, seconds=20.0):
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.05)
    return found()


def test_a_login_waits_for_no_other_writer_and_is_in_the_audit_log_afterwards(service, tmp_path):
    with service.state():
        pass  # the database is there
    token = service.auth.users.add("bob", Role.VIEW)
    client = client_of(service)
    with closing(sqlite3.connect(tmp_path / "store" / "state.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert client.post("/login", data={"token": token}).status_code == 303
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        assert client.get("/rollouts").status_code == 200
        assert time.monotonic() - began < 5  # 15 s, and twice, before
        assert actions(service) == []
        writer.execute("ROLLBACK")
    assert waited_for(lambda: len(actions(service)) == 2)
    assert actions(service) == ["logged in", "login refused"]
    assert service.jobs.journal.entries() == []


def test_an_entry_is_there_with_the_answer_when_nobody_else_writes(service):
    with service.state():
        pass  # making the database takes longer than an answer waits
    token = service.auth.users.add("bob", Role.VIEW)
    assert client_of(service).post("/login", data={"token": token}).status_code == 303
    assert actions(service) == ["logged in"]


def test_entries_that_a_killed_server_left_are_moved_by_the_next_one(tmp_path):
    journal, moved, busy = Journal(tmp_path / "serve.db", clock=lambda: 1000.0), [], [True]

    def write(who, action, what):
        if busy:
            raise LitefleetError("the state database is busy")
        moved.append((who, action, what))

    killed = AuditQueue(write, lambda: journal, clock=lambda: 1000.0)
    killed.add("bob", "logged in", {"address": "192.0.2.1"})
    killed.add("eve", "login refused", {})
    killed.close(0.1)
    assert moved == []
    busy.clear()
    following = AuditQueue(write, lambda: journal, clock=lambda: 1000.0 + LATE_S + 1)
    following.start()
    assert waited_for(lambda: len(moved) == 2)
    following.close()
    assert moved == [
        ("bob", "logged in", {"address": "192.0.2.1", "noted_at": 1000.0}),
        ("eve", "login refused", {"noted_at": 1000.0}),
    ]
    assert journal.entries() == []
    journal.close()


def test_without_a_journal_the_entry_is_written_at_once(tmp_path):
    (tmp_path / "serve.db").mkdir()
    moved = []
    AuditQueue(lambda *entry: moved.append(entry), lambda: Journal(tmp_path / "serve.db")).add("bob", "logged in", {})
    assert moved == [("bob", "logged in", {})]
