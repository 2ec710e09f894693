"""Controllers that die at the worst moment: a device never stays with a release that nobody confirmed, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import retry
from litefleet_controller.operations.resume import resume

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import (
    audit,
    current,
    environment,
    latest,
    link,
    new_release,
    options,
    quiet,
    rollout,
    states,
    within,
)

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


async def test_a_release_that_nobody_confirms_goes_back_by_itself(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        job.policy(lease=10)
        await rollout(job)
        old = link(root)
        new_release(job, 3)
        new = await _die_after_the_switch(job, root, old)
        assert states(job)["a"] == "switching"
        await within(20, lambda: link(root) == old)  # nothing and nobody speaks to the device
        report = await rollout(job)
        assert report.exit_code == 0, report.to_dict()
        assert "LF614" in _codes(report)
        assert (link(root), states(job)) == (new, {"a": "confirmed"})
        assert str(latest(job).state) == "done"


async def test_the_first_release_goes_back_to_nothing(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        job.policy(lease=10)
        new = await _die_after_the_switch(job, root, "")
        await within(20, lambda: not (root / "models/cls/current").is_symlink())
        report = await resume(options(job), quiet, "", WaitPolicy.WAVES)
        assert report.exit_code == 0, report.to_dict()
        assert "LF614" in _codes(report)
        assert (link(root), states(job)) == (new, {"a": "confirmed"})


async def test_what_a_dead_controller_switched_on_is_confirmed_by_the_next(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job, root = project(devices), devices.devices["a"].root
        job.policy(parallel=1)  # and a lease of ten minutes
        await rollout(job)
        new_release(job, 3)
        new = await _die_after_the_switch(job, root, link(root))
        report = await rollout(job)
        assert report.exit_code == 0, report.to_dict()
        assert "LF614" not in _codes(report)
        assert current(devices) == {"a": new, "b": new}
        assert states(job) == {"a": "confirmed", "b": "confirmed"}
        assert [e.action for e in audit(job)].count("rollout created") == 2  # it was gone on with


async def test_a_controller_that_stands_still_tells_the_truth_when_it_continues(
    fleet: Fleets, project: Projects
) -> None:
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        job.policy(lease=10)
        await rollout(job)
        old = link(root)
        new_release(job, 3)
        async with _controller(job) as controller:
            await asyncio.to_thread(_hold_back, job, controller, root, old, signal.SIGSTOP)
            new = link(root)
            await within(20, lambda: link(root) == old)  # its session is open, and it stands still
            controller.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(controller.wait, 60) == 1
        output = (job.folder / "controller.log").read_text()
        assert "nobody confirmed it within 10 s" in output, output
        assert (link(root), states(job)) == (old, {"a": "failed"})
        again = await retry(options(job), quiet, "", WaitPolicy.WAVES)
        assert again.exit_code == 0, again.to_dict()
        assert (link(root), states(job)) == (new, {"a": "confirmed"})


@asynccontextmanager
async def _controller(job: Project) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run `litefleet rollout`; it is killed afterwards."""
    command = [sys.executable, "-m", "litefleet_controller", "rollout", "-c", str(job.folder / "litefleet.yaml")]
    with (job.folder / "controller.log").open("w") as log:
        controller = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
        try:
            yield controller
        finally:
            controller.kill()
            controller.wait(10)


async def _die_after_the_switch(job: Project, root: Path, old: str) -> str:
    """Run a controller, kill it when a device has switched and before that is written down, and return the new release."""
    async with _controller(job) as controller:
        await asyncio.to_thread(_hold_back, job, controller, root, old, signal.SIGKILL)
    return link(root)


def _hold_back(job: Project, controller: subprocess.Popen[bytes], root: Path, old: str, sent: signal.Signals) -> None:
    """Keep the state from being written once the device was told to switch; send the controller a signal when it has."""
    database = job.folder / ".litefleet/state.db"
    end = time.monotonic() + 100
    while not database.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    state = sqlite3.connect(database, timeout=5, isolation_level=None)
    try:
        while not _one(state, "SELECT count(*) FROM rollout_rows WHERE state = 'switching'"):
            assert controller.poll() is None, "the controller ended early"
            assert time.monotonic() < end, "the controller never told the device to switch"
            time.sleep(0.002)
        state.execute("BEGIN IMMEDIATE")
        stands = _one(state, "SELECT count(*) FROM rollout_rows WHERE state = 'switching'")
        assert stands == 1, "the switch was written down before the test could hold it back"
        while link(root) == old:
            assert time.monotonic() < end, "the device never switched"
            time.sleep(0.01)
        time.sleep(0.2)  # for the device's answer to be on its way
        controller.send_signal(sent)
        if sent == signal.SIGKILL:
            controller.wait(10)
        state.execute("ROLLBACK")
    finally:
        state.close()


def _one(state: sqlite3.Connection, query: str) -> int:
    try:
        return int(state.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # not made yet, or being written to
        return 0


def _codes(report: RunReport) -> list[str]:
    return [f.code for o in report.outcomes for f in o.findings]
