"""The table in docs/rollouts.md by the command line, on real devices: the stateful test of tests/sim with `litefleet` itself."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.rollout import RolloutEvent

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import current, environment, new_release
from tests.sim.operator_commands import Done
from tests.sim.test_rollout_rules_machine import SIZE, RolloutRules

Result = TypeVar("Result")
EXAMPLES = int(os.environ.get("LITEFLEET_TEST_SEEDS", "2"))
STEPS = 12


class CommandLine:
    """Types `litefleet` on a fleet of sshd processes; as tests.sim.operator_commands.Operator."""

    def __init__(self, fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
        self.names = [f"d{number}" for number in range(SIZE)]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._fleet = fleet(*self.names)
        self._wait_for(self._fleet.__aenter__())
        self._job = project(self._fleet, connect=2)
        self._job.policy(retry={"first": "1s", "longest": "1s"})
        self._versions: dict[str, str] = {"": "-"}
        self._log: list[str] = []
        assert self.rollout("1").code == 0, self._log

    def _wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def _type(self, *words: str) -> Done:
        argv = [sys.executable, "-m", "litefleet_controller", *words, "-c", str(self._job.folder / "litefleet.yaml")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=environment())
        self._log.append(f"litefleet {' '.join(words)}: {done.returncode}")
        assert done.returncode in range(5), (self._log, done.stderr)
        assert "Traceback" not in done.stderr, (self._log, done.stderr)
        return Done(done.returncode, done.stderr + done.stdout)

    def rollout(self, version: str, limit: str = "", supersede: bool = False) -> Done:
        new_release(self._job, 1 + int(version))
        return self._type("rollout", *(["--limit", limit] if limit else []), *(["--supersede"] if supersede else []))

    def rollback(self, limit: str = "") -> Done:
        return self._type("rollback", "--yes", *(["--limit", limit] if limit else []))

    def step(self, command: str) -> Done:
        return self._type(command)

    def reconcile(self) -> Done:
        return self._type("reconcile")

    def end(self, event: RolloutEvent) -> None:
        assert self._type(str(event), self.latest).code == 0

    def let_time_pass(self) -> None:
        time.sleep(1.2)

    def away(self, number: int) -> None:
        self._wait_for(self._fleet.kill(self.names[number]))

    def back(self, number: int) -> None:
        self._wait_for(self._fleet.restart(self.names[number]))

    def leave(self) -> None:
        print("; ".join(self._log))
        self._wait_for(self._fleet.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        for folder in (self._fleet.base, self._job.folder):  # the next example begins with new devices
            shutil.rmtree(folder)

    def _status(self) -> dict[str, Any]:
        return dict(json.loads(self._type("status", "--json").text))

    @property
    def runs(self) -> str:
        """The version that each device runs, by its own disk."""
        found = current(self._fleet)
        for name, release in found.items():
            if release not in self._versions:
                manifest = json.loads((self._fleet.devices[name].root / "releases" / f"{release}.json").read_text())
                self._versions[release] = str(int(manifest["verify"]["runs"]) - 1)
        return "".join(self._versions[found[name]] for name in self.names)

    @property
    def latest(self) -> str:
        return str(self._status()["rollout"]["id"])

    def open_rollouts(self) -> list[str]:
        """By `litefleet status`: only the latest rollout can be open."""
        about = self._status()["rollout"]
        return [] if about["state"] in ("done", "aborted", "superseded") else [about["id"]]


@pytest.mark.lab
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_table(fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
    class Rules(RolloutRules):
        def operator(self, where: Path) -> Any:
            return CommandLine(fleet, project)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Rules,
        settings=settings(
            max_examples=EXAMPLES,
            derandomize=True,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
