"""The line to a real sshd, cut at random bytes of a whole rollout, both ways: old or new and whole, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import open_state, start_rollout
from litefleet_controller.project import Options
from litefleet_controller.rollout import DeviceState

from tests.e2e.conftest import Project
from tests.e2e.cutting_proxy import CuttingProxy
from tests.e2e.test_faults import through, whole_blobs_only

SEED = int(os.environ.get("LITEFLEET_TEST_SEED", "20261123"))
UNDER_WAY = (
    512 << 10
)  # bytes that the server has not passed on when the line is cut: twice the window, once at a busy device
FRESH = 4  # every so manieth round begins with an empty device, so that the model's own file travels


class Rounds:
    """One device behind a proxy; each round rolls another release out over a line that breaks."""

    def __init__(self, job: Project, proxy: CuttingProxy, root: Path, seed: int) -> None:
        self._job, self._proxy, self._root = job, proxy, root
        self._dice = random.Random(f"cuts {seed}")
        self._runs = 1
        self._bytes: dict[bool, int] = {}  # of a whole rollout, by whether the device was empty

    async def measure(self) -> None:
        """Learn how many bytes a whole rollout has: to an empty device, and to one that has the files."""
        for fresh in (True, False):
            await self._roll_out(WaitPolicy.WAVES, fresh, None)
            self._bytes[fresh] = self._proxy.passed
            assert self._current() == await self._confirmed()

    async def one(self, number: int) -> str:
        """Cut one rollout, check the device, roll out to the end; return what the cut came to."""
        fresh = number % FRESH == 0
        before = "" if fresh else self._current()
        cut = self._dice.randrange(self._bytes[fresh])
        first = await self._roll_out(WaitPolicy.WAVES, fresh, cut)
        about = f"round {number}, cut after {cut} of {self._bytes[fresh]} bytes: {first.to_dict()}"
        broken = self._current()
        assert whole_blobs_only(self._root), about
        assert first.outcomes[0].verdict in (Verdict.VERIFIED, Verdict.UNREACHABLE), about
        release = await self._to_the_end(about)
        assert broken in (before, release), about
        assert before != release, about
        return "nothing" if first.outcomes[0].verdict is Verdict.VERIFIED else ("new" if broken == release else "old")

    async def _to_the_end(self, about: str) -> str:
        report = await self._roll_out(WaitPolicy.ALL)
        assert report.outcomes[0].verdict is Verdict.VERIFIED, (about, report.to_dict())
        release = self._current()
        assert release == await self._confirmed() == report.outcomes[0].release, about
        assert not list(self._root.rglob(".tmp-*")), about
        return release

    async def _roll_out(self, wait_policy: WaitPolicy, fresh: bool | None = None, cut: int | None = None) -> RunReport:
        if fresh is not None:
            self._runs += 1
            self._job.config(verify={"runs": self._runs, "warmup": 0, "time_limit_s": 60})
            if fresh:
                shutil.rmtree(self._root, ignore_errors=True)
        self._proxy.passed, self._proxy.cut_after = 0, cut
        return await start_rollout(
            Options(self._job.folder / "litefleet.yaml"), lambda total: QuietProgress(), wait_policy
        )

    def _current(self) -> str:
        link = self._root / "models" / "cls" / "current"
        return Path(os.readlink(link)).stem if link.is_symlink() else ""

    async def _confirmed(self) -> str:
        """Return what the state says that the device runs, once nothing of the latest rollout is left to do."""
        config = load_config(self._job.folder / "litefleet.yaml")
        with closing(await asyncio.to_thread(open_state, config)) as state:
            rows = state.rows(state.rollouts(config.fleet, 1)[0].id)
            assert {row.state for row in rows} <= {DeviceState.CONFIRMED, DeviceState.UNCHANGED}, rows
            return state.confirmed()[("a", "cls")].release


async def _cut(fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], rounds: int) -> dict[str, int]:
    async with fleet("a") as devices, CuttingProxy(devices.devices["a"].port, counts="both") as proxy:
        job = project(devices)
        job.inventory(through(devices, proxy.port))
        job.policy(retry={"first": "1s"})
        all_of_them = Rounds(job, proxy, devices.devices["a"].root, SEED)
        await all_of_them.measure()
        came_to: dict[str, int] = {}
        for number in range(rounds):
            found = await all_of_them.one(number)
            came_to[found] = came_to.get(found, 0) + 1
    return came_to


async def test_twelve_random_cuts(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], record_property: Any
) -> None:
    came_to = await _cut(fleet, project, 12)
    record_property("came_to", came_to)
    assert sum(came_to.values()) == 12
    assert came_to.get("old", 0) > 0, came_to


@pytest.mark.lab
@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_two_hundred_random_cuts(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], record_property: Any
) -> None:
    came_to = await _cut(fleet, project, 200)
    print(came_to)
    record_property("came_to", came_to)
    assert sum(came_to.values()) == 200
    assert came_to.get("old", 0) > 0, came_to


async def test_a_transfer_that_is_cut_sends_each_byte_once(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], record_property: Any
) -> None:
    """Three cuts in the model's file: what passes in all is at most 5 % more than the files, and what was under way at a cut."""
    dice = random.Random(f"parts {SEED}")
    async with fleet("a") as devices, CuttingProxy(devices.devices["a"].port) as proxy:
        job = project(devices, model="rec")
        job.inventory(through(devices, proxy.port))
        cuts = sorted(dice.randrange(500_000, 11_000_000) for _ in range(3))
        for cut in cuts:
            proxy.cut_after = cut
            report = await job.run()
            assert report.outcomes[0].verdict is Verdict.UNREACHABLE, report.to_dict()
        proxy.cut_after = None
        (outcome,) = (await job.run()).outcomes
        assert outcome.verdict is Verdict.VERIFIED, outcome.to_dict()
        blobs = devices.devices["a"].root / "blobs"
        files = sum(path.stat().st_size for path in blobs.iterdir())
        record_property("sent", f"{proxy.passed} bytes for files of {files}, cut after {cuts}")
        assert proxy.passed < 1.05 * files + len(cuts) * UNDER_WAY, (proxy.passed, files, cuts)
        assert not list(blobs.glob(".tmp-*"))
