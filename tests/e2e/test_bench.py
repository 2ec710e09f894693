"""`litefleet bench` against real OpenSSH devices with real Paddle-Lite: one device, two releases, two on one machine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.bench.bench import run_bench
from litefleet_controller.bench.choice import BenchChoice
from litefleet_controller.bench.figures import figures_of
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import Interrupted, RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.project import Options
from litefleet_controller.project.run_fleet import read_report

from tests.e2e.conftest import Project

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]
ROOT = Path(__file__).parents[2]


async def bench(
    job: Project, at_once: int = 4, limit: str = "", models: tuple[str, ...] = (), **chosen: object
) -> RunReport:
    options = Options(job.folder / "litefleet.yaml", limit=limit, models=models)
    choice = BenchChoice(**{"seconds": 2.0, "workers": (1,), **chosen})  # type: ignore[arg-type]
    return await run_bench(options, choice, at_once, lambda total: QuietProgress())


def files(folder: Path) -> dict[str, int]:
    """Return when each file was written; locks, and the bytecode that a start keeps for the next one, aside."""
    aside = ("lock", ".bytecode")
    return {str(p): p.lstat().st_mtime_ns for p in folder.rglob("*") if not p.name.endswith(aside) and not p.is_dir()}


def benching(root: Path) -> list[str]:
    """Return the processes that are being measured on the device whose folder this is: its own agent started them."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if b"litefleet_agent.bench import worker_main" in words and bytes(root) in words:
            found.append(name)
    return found


async def test_one_device_is_measured_and_nothing_on_it_changes(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        (rolled,) = (await job.run()).outcomes
        before = files(devices.devices["a"].root)
        report = await bench(job, workers=(1, 2))
        assert files(devices.devices["a"].root) == before
    (outcome,) = report.outcomes
    assert (outcome.verdict, report.exit_code) == (Verdict.VERIFIED, 0), outcome.to_dict()
    assert outcome.release == rolled.release
    assert outcome.sent_bytes < 5_000
    figures = figures_of(outcome)
    assert figures is not None
    assert figures.first is not None
    assert figures.first.right is True
    assert figures.first.warm is not None
    assert figures.first.warm.runs > 20
    assert len(figures.first.cold.again) >= 1
    assert [(cell.workers, cell.runs_per_s is not None) for cell in figures.cells] == [(1, True), (2, True)]
    (kept,) = (job.folder / ".litefleet" / "reports").glob("*-bench.json")
    assert figures_of(read_report(kept).outcomes[0]) == figures


async def test_two_releases_are_compared_on_the_device(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        (first,) = (await job.run()).outcomes
        job.config(verify={"runs": 3, "warmup": 1, "time_limit_s": 60})
        (second,) = (await job.run()).outcomes
        assert first.release != second.release
        report = await bench(job, against="previous")
        other = await bench(job, release=first.release[:12], models=("cls",))
    figures = figures_of(report.outcomes[0])
    assert figures is not None
    assert [reported.release for reported in figures.releases] == [second.release, first.release]
    assert all(reported.right for reported in figures.releases)
    assert figures.comparison is not None
    assert figures.comparison.pairs >= 6
    assert other.outcomes[0].release == first.release


async def test_devices_that_share_a_machine_wait_for_each_other(fleet: Fleets, project: Projects) -> None:
    """The embedded fleet is one machine: each device's own kernel says so."""
    async with fleet("a", "b") as devices:
        job = project(devices)
        await job.run()
        report = await bench(job)
    assert [o.verdict for o in report.outcomes] == [Verdict.VERIFIED] * 2
    waited = sorted(outcome.steps["wait for its turn"] for outcome in report.outcomes)
    measured = min(outcome.steps["measure"] for outcome in report.outcomes)
    assert waited[1] > 0.5 * measured > waited[0]


async def test_what_does_not_run_there_is_reported(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        report = await bench(job)
        assert (report.outcomes[0].findings[0].code, report.exit_code) == ("LF619", 1)
        await job.run()
        report = await bench(job, against="previous")
    assert report.outcomes[0].findings[0].code == "LF613"
    assert "cls has no previous release on this device" in report.outcomes[0].sentence


async def test_after_ctrl_c_nothing_runs_on(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        await job.run()
        root = devices.devices["a"].root
        task = asyncio.create_task(bench(job, seconds=600.0))
        async with asyncio.timeout(60):
            while not benching(root):
                await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(Interrupted):
            await task
        async with asyncio.timeout(30):
            while benching(root):
                await asyncio.sleep(0.1)


async def test_the_command_writes_its_page_and_its_picture(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        await job.run()
        done = await litefleet(job, "--json --seconds 1 --workers 1 --html bench.html --svg bench.svg")
        assert done.returncode == 0, done.stderr
        reported = json.loads(done.stdout)
        assert (reported["command"], reported["counts"]) == ("bench", {"verified": 1})
        assert reported["devices"][0]["measurements"]["bench"]["releases"][0]["right"] is True
        ElementTree.parse(job.folder / "bench.svg")
        assert "<h2>Bench</h2>" in (job.folder / "bench.html").read_text()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("--threads x", "is not a list of numbers"),
        ("--seconds 0", "`seconds` must be a number from 1 to 86400"),
        ("--at-once 0", "at-once"),
        ("--against yesterday", "is not a release id"),
        ("-m det", "no model 'det' in litefleet.yaml"),
    ],
)
async def test_wrong_use_is_a_sentence_and_exit_code_2(project: Projects, wrong: str, words: str) -> None:
    job = project()
    job.inventory("devices: {a: {host: 127.0.0.1, port: 1}}\n")
    done = await litefleet(job, wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


async def litefleet(job: Project, words: str) -> subprocess.CompletedProcess[str]:
    """Run `litefleet bench` with these words in the project's folder."""
    argv = [sys.executable, "-m", "litefleet_controller", "bench", *words.split()]
    paths = os.pathsep.join(str(ROOT / part) for part in ("agent", "inventory", "controller"))
    more = {"cwd": job.folder, "env": {**os.environ, "PYTHONPATH": paths}, "capture_output": True, "text": True}
    return await asyncio.to_thread(subprocess.run, argv, check=False, timeout=120, **more)
