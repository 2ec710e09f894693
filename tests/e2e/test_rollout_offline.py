"""Devices that are away: queued, taken up again when they are back, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.reconcile import reconcile

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import current, latest, litefleet, options, quiet, rollout, rows, states, within

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]
SOON = {"first": "1s", "longest": "2s"}


async def test_a_device_that_is_away_is_queued_and_taken_up_by_the_next_rollout(
    fleet: Fleets, project: Projects
) -> None:
    async with fleet("a", "b", "c") as devices:
        job = project(devices, connect=2)
        job.policy(retry={"first": "60s"})
        await devices.kill("b")
        report = await rollout(job)
        assert report.exit_code == 1
        assert {o.device: o.verdict for o in report.outcomes} == {
            "a": Verdict.VERIFIED,
            "b": Verdict.UNREACHABLE,
            "c": Verdict.VERIFIED,
        }
        begun = latest(job)
        assert (str(begun.state), states(job)) == ("running", {"a": "confirmed", "b": "offline", "c": "confirmed"})
        output = (await litefleet(job, "status")).stdout
        assert "Offline" in output, output
        assert "b: for " in output, output
        assert "next try in " in output, output
        assert not (devices.devices["b"].root / "models").exists()

        await devices.restart("b")
        again = await rollout(job)  # it is not due for a minute, but it answers
        assert again.exit_code == 0, again.to_dict()
        done = latest(job)
        assert (done.id, str(done.state)) == (begun.id, "done")
        assert set(states(job).values()) == {"confirmed"}
        assert len(set(current(devices).values())) == 1
        attempts = {r.device: r.attempts for r in rows(job)}
        assert (attempts["a"], attempts["c"]) == (1, 1)  # nobody else was asked to do anything twice


async def test_reconcile_takes_up_a_device_that_is_due(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices, connect=2)
        job.policy(retry=SOON)
        await devices.kill("b")
        await rollout(job)
        await devices.restart("b")
        await within(5, lambda: {r.device: r for r in rows(job)}["b"].next_try_at < time.time())
        report = await reconcile(options(job), quiet)
        assert report.exit_code == 0, report.to_dict()
        assert str(latest(job).state) == "done"
        assert current(devices)["b"] == current(devices)["a"] != ""


async def test_a_watch_waits_until_the_device_is_back(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices, connect=2)
        job.policy(retry=SOON)
        await devices.kill("b")
        watching = asyncio.create_task(rollout(job, WaitPolicy.ALL))
        await within(20, lambda: _stands(job, {"a": "confirmed", "b": "offline"}))
        assert not watching.done()
        await devices.restart("b")
        report = await asyncio.wait_for(watching, 30)
        assert report.exit_code == 0, report.to_dict()
        assert str(latest(job).state) == "done"
        assert current(devices)["b"] == current(devices)["a"] != ""


def _stands(job: Project, expected: dict[str, str]) -> bool:
    try:
        return states(job) == expected
    except IndexError:
        return False  # no rollout yet
