"""What people do to a rollout that runs: pause, abort, approve, look, start it twice.  And a plan, which does nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import approve, plan_rollout
from litefleet_controller.operations.resume import resume

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import (
    audit,
    current,
    latest,
    link,
    litefleet,
    new_release,
    options,
    quiet,
    rollout,
    snapshot,
    states,
    within,
)
from tests.postgres import running

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


def soaks(job: Project) -> bool:
    """Whether the latest rollout waits between two waves."""
    try:
        return latest(job).soak_until > 0
    except IndexError:
        return False


async def test_pause_a_second_controller_and_abort_from_other_processes(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        job.policy(waves=[1, "100%"], soak="1h")
        running_one = asyncio.create_task(rollout(job))
        await within(20, lambda: soaks(job))
        second = await litefleet(job, "rollout")
        assert second.returncode == 1
        assert f"process {os.getpid()}" in second.stderr, second.stderr
        assert "Traceback" not in second.stderr
        requested_action = await litefleet(job, "pause")
        assert (requested_action.returncode, "will pause it" in requested_action.stderr) == (0, True), (
            requested_action.stderr
        )
        report = await asyncio.wait_for(running_one, 20)
        assert report.exit_code == 3
        assert latest(job).reason == "pause was asked for by an operator"
        assert states(job) == {"a": "confirmed", "b": "pending"}

        going_on = asyncio.create_task(resume(options(job), quiet, "", WaitPolicy.WAVES))
        await within(20, lambda: str(latest(job).state) == "running")
        assert (await litefleet(job, "abort")).returncode == 0
        report = await asyncio.wait_for(going_on, 20)
        assert report.exit_code == 3
        assert (str(latest(job).state), states(job)) == ("aborted", {"a": "confirmed", "b": "skipped"})
        assert link(devices.devices["a"].root) != ""
        assert current(devices)["b"] == ""
        actions = [entry.action for entry in audit(job)]
        assert {"pause", "resume", "abort"} <= set(actions), actions


async def test_a_person_is_asked_after_the_first_wave(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b", "c") as devices:
        job = project(devices)
        job.policy(waves=[1, "100%"], approve=[1])
        report = await rollout(job)
        assert report.exit_code == 3
        assert (str(latest(job).state), states(job)) == ("waiting", {"a": "confirmed", "b": "pending", "c": "pending"})
        assert (current(devices)["b"], current(devices)["c"]) == ("", "")
        again = await litefleet(job, "rollout")
        assert again.returncode == 3
        assert f"litefleet approve {latest(job).id}" in again.stderr, again.stderr
        assert (await approve(options(job), quiet, "", WaitPolicy.WAVES)).exit_code == 0
        assert set(states(job).values()) == {"confirmed"}
        assert len(set(current(devices).values())) == 1


async def test_a_device_that_changed_during_the_soak_stops_the_rollout(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job, root = project(devices), devices.devices["a"].root
        await rollout(job)
        old = current(devices)
        new_release(job, 3)
        job.policy(waves=[1, "100%"], soak="3s", gates={"canary": {"count": 1}})
        going = asyncio.create_task(rollout(job))
        await within(20, lambda: soaks(job))
        assert link(root) != old["a"]
        (root / "models/cls/current").unlink()
        (root / "models/cls/current").symlink_to(f"../../releases/{old['a']}.json")
        report = await asyncio.wait_for(going, 30)
        assert report.exit_code == 3
        assert (str(latest(job).state), states(job)) == ("paused", {"a": "failed", "b": "pending"})
        assert latest(job).behind == ("a",)
        assert [f.code for o in report.outcomes if o.device == "a" for f in o.findings] == ["LF601"]
        assert current(devices) == old  # b was never begun


async def test_a_plan_changes_nothing_and_says_what_a_rollout_then_does(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        homes = {name: device.place.home for name, device in devices.devices.items()}
        before = {name: snapshot(home) for name, home in homes.items()}
        planned = await litefleet(job, "plan", "--json", "--fail-on", "change")
        dry = await litefleet(job, "rollout", "--dry-run", "--json")
        assert (planned.returncode, dry.returncode) == (1, 0), planned.stderr + dry.stderr
        assert {name: snapshot(home) for name, home in homes.items()} == before
        first, second = json.loads(planned.stdout), json.loads(dry.stdout)
        for plan in (first, second):
            plan.pop("created_at")
            for device in plan["devices"]:
                del device["seen_at"], device["facts"]  # the time, and how much of the disk is free
        assert first == second

        reported = await plan_rollout(options(job), quiet)
        expected = {p.row.device: p.bytes_to_send for p in reported.devices}
        report = await rollout(job)
        for outcome in report.outcomes:
            agent = sum(p.stat().st_size for p in _agents(devices, outcome.device))
            sent = outcome.sent_bytes
            assert expected[outcome.device] <= sent <= expected[outcome.device] * 1.1 + agent, outcome.to_dict()
        after = {name: snapshot(home) for name, home in homes.items()}
        reported = await plan_rollout(options(job), quiet)
        assert [p.effect for p in reported.devices] == ["unchanged", "unchanged"]
        assert reported.bytes_total == 0
        assert {name: snapshot(home) for name, home in homes.items()} == after


def _agents(devices: EmbeddedFleet, name: str) -> list[Path]:
    return [p for p in (devices.devices[name].root / "agent").iterdir() if not p.is_symlink()]


@pytest.fixture
def postgres() -> Iterator[str]:
    """A server's URL."""
    with running() as url:
        yield url


async def test_the_same_with_postgresql(fleet: Fleets, project: Projects, postgres: str) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        job.config(state=postgres)
        job.policy(waves=[1, "100%"], approve=[1])
        assert (await rollout(job)).exit_code == 3
        output = (await litefleet(job, "status")).stdout
        assert "waiting" in output, output
        assert not (job.folder / ".litefleet/state.db").exists()
        assert (await approve(options(job), quiet, "", WaitPolicy.WAVES)).exit_code == 0
        assert (str(latest(job).state), set(states(job).values())) == ("done", {"confirmed"})
        assert len(set(current(devices).values())) == 1
        assert audit(job)
