"""A real controller, killed with SIGKILL right before and right after each commit of a rollout, on real devices."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from litefleet_agent.releases.journal import Journal
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.rollout import RolloutState

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import audit, current, environment, latest, litefleet, new_release, rollout, rows

DRIVER = Path(__file__).with_name("crash_at_commit.py")
CANARY = [
    ("planned", "start"),
    ("pending", "begin"),
    ("proven", "switch"),  # in one commit with ("staging", "prove")
    ("switching", "lease"),
]
MOMENTS = [
    *((moment, when) for moment in CANARY for when in ("before", "after")),
    (("leased", "confirm"), "before"),  # the device has confirmed, and says so to the next controller: a is "unchanged"
    (("wave", "advance"), "before"),
    (("wave", "advance"), "after"),
    (("leased", "confirm"), "after"),
    (("running", "finish"), "before"),
    (("running", "finish"), "after"),
]


async def killed(job: Project, moment: tuple[str, str], when: str, command: str) -> None:
    """Run `litefleet rollout` or `resume` up to a moment, where it is gone."""
    words = [sys.executable, str(DRIVER), *moment, when, command, "-c", str(job.folder / "litefleet.yaml")]
    done = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert done.returncode == -signal.SIGKILL, (moment, when, command, done.stdout, done.stderr)


def switched_on(root: Path, release: str) -> int:
    """Return how often a device switched a release on."""
    return sum(operation.to == release for operation in Journal(str(root)).read().operations)


async def test_each_controller_dies_one_commit_later_and_the_last_one_finishes(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        job.policy(waves=[1, "100%"])
        await rollout(job)
        before = current(devices)
        new_release(job, 3)
        for number, (moment, when) in enumerate(MOMENTS):
            await killed(job, moment, when, "resume" if number % 4 else "rollout")
            release = rows(job)[0].release
            for row in rows(job):
                assert current(devices)[row.device] in {before[row.device], release}, (moment, when)
                if row.state.well:
                    assert current(devices)[row.device] == release, (moment, when)
        assert latest(job).state is RolloutState.DONE
        last = await litefleet(job, "rollout")
        assert last.returncode == 0, last.stderr
        assert [str(row.state) for row in rows(job)] == ["unchanged", "confirmed"]
        assert set(current(devices).values()) == {release}
        assert [switched_on(device.root, release) for device in devices.devices.values()] == [1, 1]
        assert [entry.action for entry in audit(job)].count("taken over") == len(MOMENTS)
        checked = await litefleet(job, "audit", "--check")
        assert checked.returncode == 0, checked.stderr
