"""Sessions, users, failed logins and updates, in themselves."""

import asyncio
import json
import os

import pytest
from litefleet_controller.common.errors import LitefleetError, UsageError
from litefleet_controller.serve import live as live_module
from litefleet_controller.serve.auth import Person, Role
from litefleet_controller.serve.auth.attempts import Attempts, LoginLog
from litefleet_controller.serve.auth.sessions import IDLE_S, LONGEST_S, MOST, MOST_OF_ONE, Sessions
from litefleet_controller.serve.auth.users import Users
from litefleet_controller.serve.live import Live, Update, as_event, number_after
from starlette.exceptions import HTTPException


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_sessions_end_by_time_and_are_bounded():
    clock = Clock()
    sessions = Sessions(clock)
    cookie = sessions.begin(Person("a", Role.VIEW))
    clock.now += IDLE_S - 1
    assert sessions.find(cookie) is not None
    clock.now += IDLE_S + 1
    assert sessions.find(cookie) is None
    cookie, began = sessions.begin(Person("a", Role.VIEW)), clock.now
    while clock.now < began + LONGEST_S:
        assert sessions.find(cookie) is not None
        clock.now += IDLE_S / 2
    clock.now += 1
    assert sessions.find(cookie) is None
    first = sessions.begin(Person("a", Role.VIEW))
    for _ in range(MOST_OF_ONE):
        sessions.begin(Person("a", Role.VIEW))
    assert sessions.find(first) is None
    for number in range(MOST + 10):
        sessions.begin(Person(f"p{number}", Role.VIEW))
    assert len(sessions) == MOST


def test_the_file_of_users_has_hashes_and_is_the_operators_alone(tmp_path):
    users = Users(tmp_path / "users.json")
    token = users.add("bob", Role.OPERATE)
    assert token not in users.path.read_text()
    assert users.path.stat().st_mode & 0o777 == 0o600
    person, key = users.of_token(token)
    assert (person.name, person.role) == ("bob", Role.OPERATE)
    assert users.of_key(key) == person
    assert users.of_token(key) is None  # who has read the file cannot log in
    again = users.add("bob", Role.VIEW)
    assert users.of_token(token) is None
    assert users.of_token(again)[0].role is Role.VIEW
    with pytest.raises(UsageError, match="no user's name"):
        users.add("bob\nroot", Role.VIEW)
    with pytest.raises(UsageError, match="It has: bob"):
        users.remove("eve")
    users.path.chmod(0o640)
    os.utime(users.path, ns=(1, 1))
    with pytest.raises(UsageError, match="chmod 600"):
        users.all()
    users.path.chmod(0o600)
    users.path.write_text(json.dumps({"schema": 1, "users": [{"name": "x", "role": "root"}]}))
    with pytest.raises(UsageError, match=r"users\.0\.role"):
        users.all()


def test_failed_logins_are_remembered_in_bounded_memory():
    clock = Clock()
    attempts = Attempts(clock)
    for number in range(10_000):
        attempts.failed(f"2001:db8:{number % 65536:x}::1")
    assert len(attempts._failed) == 4096
    clock.now += 3600
    for _ in range(5):
        attempts.failed("2001:db8::1")
    assert attempts.wait_s("2001:db8::ffff") > 0  # the same network
    assert attempts.wait_s("2001:db8:1::1") == 0
    clock.now += 30
    assert attempts.wait_s("2001:db8::1") == 0


def test_an_audit_log_that_cannot_be_written_keeps_nobody_out():
    clock, entries = Clock(), []
    log = LoginLog(clock)

    def fails(who, action, what):
        raise LitefleetError("busy")

    log.write = fails
    log.note("a", "logged in", {})
    log.write = lambda *entry: entries.append(entry)
    for _ in range(100):
        log.refused("unknown at 192.0.2.1", "login refused", {})
    assert len(entries) == 20
    clock.now += 10
    log.refused("unknown at 192.0.2.1", "login refused", {})
    assert entries[-1][2] == {"left_out": 80}


async def test_many_follow_one_reader_and_get_the_newest():
    live, value = Live(every_s=0.01), ["a"]

    async def first_and_last():
        found = []
        async for update in live.follow("r-1", lambda: value[0], lambda: value[0]):
            found.append(update.data)
            if update.data == "z":
                return found
        return found

    tasks = [asyncio.create_task(first_and_last()) for _ in range(50)]
    while live.subscribers < 50:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    value[0] = "z"
    for found in await asyncio.wait_for(asyncio.gather(*tasks), 30):
        assert found in (["a", "z"], ["z"])
    assert live.subscribers == 0
    assert live.reads == 2


async def test_a_stream_says_what_is_wrong_goes_on_and_ends_with_the_server():
    live, problem = Live(every_s=0.01), [True]

    def read():
        if problem:
            raise LitefleetError("the state database is busy")
        return "data"

    updates = live.follow("r-1", lambda: 1, read)
    assert (await anext(updates)).problem == "the state database is busy"
    problem.clear()
    assert (await anext(updates)).data == "data"
    live.close()
    with pytest.raises(StopAsyncIteration):
        await anext(updates)
    with pytest.raises(HTTPException):
        live.follow("r-1", lambda: 1, read)


async def test_streams_are_bounded(monkeypatch):
    monkeypatch.setattr(live_module, "MOST", 1)
    live = Live(every_s=0.01)
    updates = live.follow("r-1", lambda: 1, lambda: "x")
    await anext(updates)
    with pytest.raises(HTTPException):
        live.follow("r-1", lambda: 1, lambda: "x")
    await updates.aclose()
    assert live.subscribers == 0


def test_no_data_ends_an_event():
    event = as_event(Update(7, "a\n\nevent: x\rid: 9\r\nb"), "rollout")
    assert event == b"id: 7\nevent: rollout\ndata: a\ndata: \ndata: event: x\ndata: id: 9\ndata: b\n\n"
    assert as_event(Update(7)).startswith(b":")
    assert [number_after(text) for text in ("12", "", "x", "9" * 30, "-1")] == [12, 0, 0, 0, 0]
