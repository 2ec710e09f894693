"""`prepare_next` on real sshds: the next wave has its files while the first one is tried, and runs what it ran."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import approve
from litefleet_controller.operations.resume import resume

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import (
    audit,
    bad_release,
    current,
    environment,
    latest,
    link,
    options,
    quiet,
    rollout,
    rows,
    states,
    within,
)

SECOND = ("b", "c")


def blobs(root: Path) -> set[str]:
    """Return the files that a device's store holds."""
    return {path.name for path in (root / "blobs").iterdir() if not path.name.startswith(".")}


def prepared(job: Project) -> list[dict[str, Any]]:
    """Return what the audit log has of preparations, the oldest first."""
    entries = [entry for entry in audit(job) if entry.action == "prepare"]
    return [dict(entry.what) for entry in sorted(entries, key=lambda entry: entry.seq)]


def soaks(job: Project, wave: int) -> bool:
    """Whether the latest rollout waits after a wave (from 0)."""
    return latest(job).soak_until > 0 and latest(job).wave == wave


def other_goldens(job: Project, seed: int, cases: int = 2) -> None:
    """Make the next release one with other reference files: 110 kB each."""
    models = yaml.safe_load((job.folder / "litefleet.yaml").read_text())["models"]
    models["cls"]["golden"] = {"engine": "paddlelite", "cases": cases, "seed": seed}
    job.config(models=models)


async def test_the_next_wave_holds_its_files_first_and_a_stop_or_a_killed_controller_changes_nothing_there(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a", *SECOND) as devices:
        job, roots = project(devices), {name: device.root for name, device in devices.devices.items()}
        await rollout(job)
        before, held = current(devices), {name: blobs(root) for name, root in roots.items()}

        job.config(
            verify={"runs": 40, "warmup": 0, "time_limit_s": 60}
        )  # the canary's proof takes longer than the files
        bad_release(job, roots["a"])
        job.policy(waves=[1, "100%"], gates={"canary": {"count": 1}}, prepare_next=True)
        assert (await rollout(job)).exit_code == 3
        assert (str(latest(job).state), states(job)) == ("paused", {"a": "failed", "b": "pending", "c": "pending"})
        (entry,) = prepared(job)
        assert (entry["prepared_wave"], entry["prepared"], entry["not_prepared"]) == (2, 2, {}), entry
        wrong = {name: blobs(roots[name]) - held[name] for name in SECOND}
        assert all(wrong.values()), wrong
        assert current(devices) == before
        for name in SECOND:
            assert [path.stem for path in (roots[name] / "releases").iterdir()] == [before[name]]

        job.config(verify={"runs": 2, "warmup": 0, "time_limit_s": 60})
        other_goldens(job, 5)
        job.policy(waves=[1, "100%"], soak="3s", prepare_next=True)
        going = asyncio.create_task(rollout(job, supersede=True))
        await within(60, lambda: len(rows(job)) == 3 and soaks(job, 0))
        assert current(devices)["a"] != before["a"]
        await within(30, lambda: len(prepared(job)) == 2 or latest(job).wave > 0)
        assert {name: current(devices)[name] for name in SECOND} == {name: before[name] for name in SECOND}
        ahead = {name: blobs(roots[name]) for name in SECOND}
        report = await going
        assert report.exit_code == 0
        assert [entry["prepared"] for entry in prepared(job)] == [2, 2]
        sent = sum(entry["bytes"] for entry in prepared(job)[1:])
        for outcome in report.outcomes:
            if outcome.device in SECOND:
                manifest = json.loads((roots[outcome.device] / "models/cls/current").read_text())
                assert set(manifest["golden"]) <= ahead[outcome.device]
                assert outcome.sent_bytes < sent / 4, outcome.to_dict()
        for name in SECOND:
            assert not wrong[name] & blobs(roots[name]), "the files of the rollout that was stopped are still there"
            assert link(roots[name], name="previous") == before[name]
            assert held[name] <= blobs(roots[name]), "the previous release lost its files"

        # a controller that is killed while it sends ahead
        before = current(devices)
        other_goldens(job, 7, cases=3)
        job.config(bandwidth={"fleet": "4M"})
        job.policy(waves=[1, "100%"], prepare_next="always", approve=True)
        words = [sys.executable, "-m", "litefleet_controller", "rollout", "-c", str(job.folder / "litefleet.yaml")]
        process = await asyncio.create_subprocess_exec(*words, stdout=-3, stderr=-3, env=environment())
        try:
            await within(90, lambda: any(p.name.startswith(".tmp-part") for p in (roots["b"] / "blobs").iterdir()))
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert {name: current(devices)[name] for name in SECOND} == {name: before[name] for name in SECOND}
        assert {state for name, state in states(job).items() if name in SECOND} == {"pending"}
        job.config(bandwidth=None)
        if str(latest(job).state) == "running":  # it was killed before the canary was confirmed
            assert (await resume(options(job), quiet, "", WaitPolicy.WAVES)).exit_code == 3
        assert (await approve(options(job), quiet, "", WaitPolicy.WAVES)).exit_code == 0
        assert set(states(job).values()) == {"confirmed"}
