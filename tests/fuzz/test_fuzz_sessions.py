"""Sessions: a device that answers anything to a controller, and a controller that asks anything of a device."""

from __future__ import annotations

import json
import logging
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.protocol import BlockingStream, FrameDecoder, ProtocolError, encode
from litefleet_agent.releases.lease import Clock
from litefleet_agent.session.server import Session, _ConnectionClosed
from litefleet_agent.session.watch import Watch
from litefleet_controller.rollout import DeviceState

from tests.agent.support.release_fixtures import opened, proven
from tests.fuzz.harness import Reader, Values, fuzz
from tests.fuzz.mutate import mutated_value
from tests.sim.engine_harness import copy_state
from tests.sim.fleet_run import FleetRun
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import make_fleet
from tests.sim.sim_wire import Request

A = "a" * 64
FLEETS = int(float(os.environ.get("LITEFLEET_FUZZ_S", "0.6")) * 20)
SEED = int(os.environ.get("LITEFLEET_TEST_SEED", "20261128"))
REQUESTS: list[dict[str, Any]] = [
    {"op": "hello"}, {"op": "sandbox"}, {"op": "check", "deep": True}, {"op": "history", "history": "0" * 16, "since": 0},
    {"op": "room", "bytes": 1, "keep": 3, "pinned": [A], "quota": None, "wanted": [A], "runtime": "system"},
    {"op": "release", "manifest": {"schema": 1, "model": {"name": "cls", "nb": A}, "golden": [A], "runtime": "system",
     "verify": {}}, "sealed": {"seal": {"schema": 1}, "signature": "x"}, "again": True},
    {"op": "runtime", "key": "r", "sha256": A}, {"op": "confirm", "release": A}, {"op": "activate", "release": A, "lease_s": 5},
    {"op": "rollback", "model": "cls", "to": "previous"}, {"op": "verify", "release": A}, {"op": "collected", "ids": ["x"]},
    {"op": "trust", "allowed_signers": "ops ssh-ed25519 AAAA", "signature": ""}, {"op": "repair"}, {"event": "alive"},
    {"op": "infer", "model": "nothing", "requests": [{"inputs": []}]}, {"op": "bench", "model": "nothing", "seconds": 1},
]  # fmt: skip


class Hostile:
    """Replaces a simulated device's answers: one in three says something else."""

    def __init__(self, device: SimDevice, dice: random.Random) -> None:
        self._answer, self._dice = device.answer, dice
        self.said: list[Any] = []

    def __call__(self, request: Request, session: object, version: str) -> Any:
        answer = json.loads(json.dumps(self._answer(request, session, version)))
        if self._dice.random() < 0.35:
            changed = mutated_value(self._dice, (answer,))
            answer = changed if isinstance(changed, dict) else answer
            self.said.append(answer)
        return answer


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    FleetRun(make_fleet(1), folder).leave()
    return folder / "state.db"


def test_a_device_that_answers_anything(template: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A rollout over a device that lies and one that does not: no error of the controller, and the second gets its release."""
    said = 0
    for number in range(FLEETS):
        seed = f"{SEED} {number}"
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            copy_state(template, Path(folder))
            fleet = make_fleet(2, f"fuzz {seed}", kinds=("pi4",))
            liar, good = fleet.devices
            hostile = Hostile(fleet.devices[liar], random.Random(seed))
            fleet.devices[liar].answer = hostile  # type: ignore[method-assign]
            run = FleetRun(fleet, Path(folder), gates="off", waves=["100%"], stratify=False, success=0)
            run.roll_out()
            errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
            assert not errors, (seed, errors[0].getMessage(), errors[0].exc_info, hostile.said)
            assert good in run.names(DeviceState.CONFIRMED), (seed, hostile.said)
            json.dumps([outcome.to_dict() for outcome in run.engine.outcomes.values()] if run.engine else [])
            run.leave()
            said += len(hostile.said)
    assert said > FLEETS / 2


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[bytes], None]:
    """Return a device that serves a controller's bytes and checks its own answers."""
    store = opened(tmp_path / "root", Clock())
    for note in ("1", "2"):
        proven(store, note)
    store.unlock()
    given, answered = tmp_path / "given", tmp_path / "answered"
    session = Session(str(tmp_path / "root"), A, BlockingStream(0, 1), Watch(BlockingStream(0, 1)))

    def of(data: bytes) -> None:
        given.write_bytes(data)
        with given.open("rb") as reader, answered.open("wb") as writer:
            session._stream = BlockingStream(reader.fileno(), writer.fileno())
            session._watch = Watch(session._stream)
            try:
                session.run()
            except _ConnectionClosed:
                pass
            finally:
                session._store.unlock()
        decoder = FrameDecoder()
        decoder.feed(answered.read_bytes())
        while (header := decoder.next_header()) is not None:
            assert "event" in header or "result" in header or header["error"]["message"], header
            decoder.drop_body()

    return of


def test_a_controller_that_asks_anything(serve: Callable[[bytes], None]) -> None:
    frames = tuple(encode({**request, "id": 1}, 3) + b"abc" for request in REQUESTS)
    fuzz(Reader("session's frames", frames, serve, (ProtocolError,), (b"LFF1", b'"op":', b"[" * 3000), limit_s=3))


def test_a_controller_whose_requests_have_any_values(serve: Callable[[bytes], None]) -> None:
    def values(request: Any) -> None:
        serve(encode({**request, "id": 1} if isinstance(request, dict) else {"op": request}))

    samples = tuple(request for request in REQUESTS if "op" in request)
    fuzz(Values("session's requests", samples, values, (), limit_s=3, limit_bytes=128 << 20))
