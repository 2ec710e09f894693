"""The simulated device's switch against the agent's own, on the same requests: both must say and be the same."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.releases import activation as real
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.store import Store

from tests.sim.sim_device import SimDevice
from tests.sim.sim_wire import Request
from tests.sim.virtual_loop import VirtualClock

MODELS = ("cls", "det")


class BoundClock(Clock):
    """The agent's clock, bound to the virtual one."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.boots = 1

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def boottime(self) -> float:
        return 1000 + self._clock.elapsed

    def wall(self) -> float:
        return self._clock.now()


class Pair:
    """A store as the agent keeps it, and a simulated device, that are asked the same."""

    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        self.bound = BoundClock(self.clock)
        self.store = Store(str(root), self.bound)
        self.sim = SimDevice("dev", self.clock)
        self.store.lock()
        self.releases = [self._release(model, number) for model in MODELS for number in range(3)]

    def _release(self, model: str, number: int) -> str:
        data = f"{model} {number}".encode()
        sha = hashlib.sha256(data).hexdigest()
        self.store.put(sha, len(data), [data])
        self._simulated("put", data, sha256=sha)
        manifest = {"model": {"name": model, "nb": sha}, "golden": [sha], "runtime": "system", "verify": {}}
        release = self.store.write_release(manifest)
        assert self._simulated("release", manifest=manifest)["release"] == release
        if number < 2:  # the last one is kept, but not proven
            self._simulated("verify", release=release)
            self.store.record_verification(release, "f", at=self.clock.now())
        return release

    def _simulated(self, op: str, body: bytes = b"", **fields: Any) -> dict[str, Any]:
        answer = self.sim.answer(Request({"op": op, "id": 1, **fields}, body), self, "agent")
        if "error" in answer:
            raise AgentError(answer["error"]["message"], answer["error"]["code"])
        result: dict[str, Any] = answer["result"]
        return result

    def step(self, dice: random.Random) -> str:
        """Ask both one thing and return what it was."""
        release, model = dice.choice(self.releases), dice.choice(MODELS)
        to, lease_s = dice.choice(["previous", "previous", "nothing", *self.releases]), dice.choice([0, 30, 60])
        kind = dice.choice(["activate", "activate", "confirm", "rollback", "later", "restart"])
        if kind == "activate":
            done = said(lambda: list(real.activate(self.store, release, lease_s)))
            answer = said(lambda: self._simulated("activate", release=release, lease_s=lease_s))
            assert done == (answer if isinstance(answer, str) else [answer["changed"], answer["lease_remaining_s"]])
        elif kind == "confirm":
            done = said(lambda: real.confirm(self.store, release))
            assert done == said(lambda: self._simulated("confirm", release=release) or None)
        elif kind == "rollback":
            done = said(lambda: real.rollback(self.store, model, to)._asdict())
            assert done == said(lambda: self._simulated("rollback", model=model, to=to))
        else:
            done = self._time(kind, dice)
        return f"{kind} {release[:6]} lease {lease_s} or {model} to {to[:8]}: {done}"

    def _time(self, kind: str, dice: random.Random) -> str:
        self.clock.advance(dice.choice([1, 29, 31]))
        if kind == "restart":
            self.bound.boots += 1
            self.sim.switch.restart(self.clock.elapsed)
        real.recover(self.store)
        self.sim.settle()
        return f"{self.clock.elapsed}"

    def links(self) -> list[Any]:
        """Return both sides' links and leases."""
        slots = [self.sim.switch.slot(model) for model in MODELS]
        leases = real.open_leases(self.store)
        theirs = [
            (self.store.link(m, "current"), self.store.link(m, "previous"), leases[m].to if m in leases else "")
            for m in MODELS
        ]
        return [theirs, [(s.current, s.previous, s.lease.release if s.lease else "") for s in slots]]


def said(call: Callable[[], object]) -> Any:
    """Return what a call gives, or the code of its error."""
    try:
        return call()
    except AgentError as error:
        return error.code


@pytest.mark.parametrize("seed", range(12))
def test_both_switches_say_and_are_the_same(seed: int, tmp_path: Path) -> None:
    dice, pair, story = random.Random(seed), Pair(tmp_path), list[str]()
    for _ in range(60):
        story.append(pair.step(dice))
        theirs, ours = pair.links()
        assert theirs == ours, "\n".join(story)
    pair.store.unlock()
    assert len({line.split(" ")[0] for line in story}) == 5
