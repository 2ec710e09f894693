"""The table in docs/rollouts.md by the command line, on real devices: the drawn commands of tests/sim on sshd processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest
import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import environment, link
from tests.sim.command_model import MODELS
from tests.sim.test_command_table import SIZE, Commands, Done, Operator, run_drawn

Result = TypeVar("Result")
EXAMPLES = int(os.environ.get("LITEFLEET_TEST_SEEDS", "2"))


class RealCommandLine:
    """Types `litefleet` on a fleet of sshd processes; as tests.sim.command_line.CommandLine."""

    def __init__(self, fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
        self.names = [f"dev-{number:05d}" for number in range(SIZE)]
        self.log: list[str] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._fleet = fleet(*self.names)
        self._wait_for(self._fleet.__aenter__())
        self._job = project(self._fleet, connect=2)
        self._devices = yaml.safe_load((self._job.folder / "fleet.yaml").read_text())["devices"]
        model = yaml.safe_load((self._job.folder / "litefleet.yaml").read_text())["models"]["cls"]
        self._model, self._versions = model, {"": ""}
        self.configure({}, "1")

    def _wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def configure(self, policy: dict[str, Any], version: str = "") -> None:
        """Write litefleet.yaml; a version of `cls` asks for as many threads."""
        cls = {**self._model, "engine": {"threads": int(version or "1")}}
        usual = {"gates": "off", "waves": ["100%"], "retry": {"first": "1s", "longest": "1s"}}
        self._job.config(models={"cls": cls, "det": self._model}, rollout={**usual, **policy})

    def inventory(self, names: Sequence[str]) -> None:
        self._job.inventory(yaml.safe_dump({"devices": {name: self._devices[name] for name in names}}))

    def type(self, *words: str) -> Done:
        argv = [sys.executable, "-m", "litefleet_controller", *words, "-c", str(self._job.folder / "litefleet.yaml")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=environment())
        self.log.append(f"litefleet {' '.join(words)}: {done.returncode}")
        assert done.returncode in range(5), (self.log, done.stderr)
        assert "Traceback" not in done.stderr, (self.log, done.stderr)
        return Done(done.returncode, done.stderr + done.stdout)

    def away(self, number: int) -> None:
        self._wait_for(self._fleet.kill(self.names[number]))

    def back(self, number: int) -> None:
        self._wait_for(self._fleet.restart(self.names[number]))

    def let_time_pass(self) -> None:
        time.sleep(1.2)

    def runs(self) -> dict[tuple[int, str], str]:
        """The version that each device runs, by its own disk."""
        return {(n, m): self._version(n, m) for n in range(SIZE) for m in MODELS}

    def _version(self, number: int, model: str) -> str:
        root = self._fleet.devices[self.names[number]].root
        release = link(root, model)
        if release not in self._versions:
            manifest = json.loads((root / "releases" / f"{release}.json").read_text())
            self._versions[release] = "1" if model == "det" else str(manifest["engine"]["threads"])
        return self._versions[release]

    def rollouts(self) -> list[tuple[str, str, str]]:
        shown = json.loads(self.type("status", "--all", "--json").text)
        return [(r["id"], r["kind"], r["state"]) for r in shown["rollouts"]]

    def leave(self) -> None:
        print("; ".join(self.log))
        self._wait_for(self._fleet.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        for folder in (self._fleet.base, self._job.folder):  # the next example begins with new devices
            shutil.rmtree(folder)


@pytest.mark.lab
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_table(fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
    class Real(Commands):
        fresh = staticmethod(lambda: Operator(RealCommandLine(fleet, project)))
        states = ("running", "paused", "approve", "success", "rollback")
        differences = ("", "limit", "models", "settings", "release", "back", "removed")

        def teardown(self) -> None:
            if hasattr(self, "one"):
                self.one.line.leave()

    drawn = run_drawn(Real, EXAMPLES, steps=8)
    assert any(state != "nothing" for _, state, _ in drawn)
