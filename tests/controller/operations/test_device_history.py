"""A device's history is taken over at a look: a real agent's files, a real state, and devices that make things up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from litefleet_agent.facts import Facts
from litefleet_agent.releases.store import Store
from litefleet_agent.service.history import History
from litefleet_agent.service.status_file import service_status
from litefleet_agent.session.requests import OPERATIONS, Session
from litefleet_controller.devices.agent_client import Request, RequestRejected
from litefleet_controller.operations.device_history import sync_history
from litefleet_controller.state import State


class RolloutContext:
    def __init__(self, state: State) -> None:
        self.state = state
        moments = itertools.count(1000)
        self.clock = SimpleNamespace(now=lambda: float(next(moments)))

    async def write(self, call: Any, *args: Any) -> Any:
        return call(*args)

    read = write


class Here:
    """A visit that is answered by the agent's own code, or by what a test gives it."""

    def __init__(self, root: Path, hello: dict[str, Any] | None = None, page: Any = None) -> None:
        self.device = SimpleNamespace(name="d1")
        self.hello = hello if hello is not None else service_status(str(root))
        self.session = Session(Store(str(root)), Facts(), "v1")
        self.page = page
        self.asked = 0

    async def ask(self, request: Request) -> list[Any]:
        self.asked += 1
        if self.page is not None:
            return [self.page]
        return [OPERATIONS["history"](self.session, {"id": 7, **request.fields})]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state.db")
    yield opened
    opened.close()


async def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path, state: State) -> None:
    root, context = tmp_path / "root", RolloutContext(state)
    history = History(str(root), 1 << 24)
    for number in range(1200):
        history.add("health", f"m{number}", text="x")
    history.close()
    device_session = Here(root)
    await sync_history(context, device_session)
    assert device_session.asked == 3
    assert [e.number for e in state.history_entries(limit=5000)] == list(range(1, 1201))
    assert state.services()["d1"].number == 1200
    again = Here(root)
    await sync_history(context, again)
    assert again.asked == 0  # a look costs no round trip more where nothing is new
    history.add("stopped")
    history.close()
    await sync_history(context, Here(root))
    assert [(e.number, e.kind) for e in state.history_entries(limit=1)] == [(1201, "stopped")]


async def test_a_new_history_is_read_from_its_start(tmp_path: Path, state: State) -> None:
    context = RolloutContext(state)
    for name, count in (("first", 5), ("second", 2)):
        history = History(str(tmp_path / name), 1 << 20)
        for number in range(count):
            history.add("health", f"{name}{number}")
        history.close()
        await sync_history(context, Here(tmp_path / name))
    assert [e.model for e in state.history_entries()][5:] == ["second0", "second1"]
    assert state.services()["d1"].number == 2


@pytest.mark.parametrize(
    "hello",
    [
        {},
        {"history": 5},
        {"history": {"id": "", "newest": 3}},
        {"history": {"id": "../x", "newest": 3}},
        {"history": {"id": ["a"], "newest": 3}},
    ],
)
async def test_without_a_service_nothing_is_stored(tmp_path: Path, state: State, hello: dict[str, Any]) -> None:
    device_session = Here(tmp_path, hello)
    await sync_history(RolloutContext(state), device_session)
    assert (state.services(), device_session.asked) == ({}, 0)


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"id": "bb", "entries": [{"n": 1}]},
        {"id": "aa", "entries": "x"},
        {"id": "aa", "entries": [None, 5, {}, {"n": 0}, {"n": True}, {"n": "1"}, {"n": 1e9}, {"n": 1 << 60}]},
    ],
)
async def test_what_makes_no_sense_is_passed_over(tmp_path: Path, state: State, page: Any) -> None:
    device_session = Here(tmp_path, {"history": {"id": "aa", "newest": 9}, "service": "x"}, page)
    await sync_history(RolloutContext(state), device_session)
    assert (state.history_entries(), device_session.asked) == ((), 1)
    assert state.services()["d1"].status == {}


async def test_odd_values_are_kept_harmless_and_a_liar_gets_no_endless_attention(tmp_path: Path, state: State) -> None:
    odd = {"n": 1, "at": float("nan"), "kind": 5, "model": "m" * 5000, "release": None}
    device_session = Here(tmp_path, {"history": {"id": "aa", "newest": 1 << 40}}, {"id": "aa", "entries": [odd]})
    await sync_history(RolloutContext(state), device_session)
    (kept,) = state.history_entries()
    assert (kept.at, kept.kind, len(kept.model), kept.release) == (0.0, "", 128, "")
    assert device_session.asked == 2  # the second page brought nothing new


async def test_an_agent_that_refuses(tmp_path: Path, state: State) -> None:
    class Old(Here):
        async def ask(self, request: Request) -> list[Any]:
            raise RequestRejected(request, "bad-request", "unknown request")

    await sync_history(RolloutContext(state), Old(tmp_path, {"history": {"id": "aa", "newest": 3}}))
    assert state.services()["d1"].number == 0
