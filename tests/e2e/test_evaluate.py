"""`litefleet evaluate` on real devices: a classifier's accuracy on labelled pictures, and variants that keep or lose it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import litefleet
import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.common.errors import UsageError
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import DeviceOutcome, Interrupted, RunReport
from litefleet_controller.devices.progress import Progress, QuietProgress
from litefleet_controller.evaluate import Accuracy, accuracy_of
from litefleet_controller.operations.evaluate import evaluate
from litefleet_controller.project import Options
from litefleet_controller.reports.accuracy_text import accuracy_text
from litefleet_controller.reports.html import to_html

from tests.accuracy_models import accuracy_models
from tests.e2e.conftest import Project

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


def with_data(job: Project, variant: str = "classifier", **golden: object) -> None:
    """Make the project's model a classifier with labelled pictures; its goldens are made by Paddle-Lite, which is faster."""
    made = accuracy_models()
    data = {"engine": "paddlelite", "dataset": str(made / "data" / "shapes"), "metric": "top1"}
    model = {"source": str(made / variant), "preprocess": {"mean": [0.5], "std": [0.5]}, "golden": {**data, **golden}}
    job.config(models={"shapes": model})


async def evaluated(job: Project, progress: Progress | None = None) -> RunReport:
    return await evaluate(Options(job.folder / "litefleet.yaml"), lambda total: progress or QuietProgress())


def accuracy(outcome: DeviceOutcome) -> Accuracy:
    figures = accuracy_of(outcome)
    assert figures is not None, outcome.findings
    return figures


async def test_variants_are_accepted_and_refused_by_what_they_lose(fleet: Fleets, project: Projects) -> None:
    float_model = {"reference": str(accuracy_models() / "classifier")}  # PaddlePaddle runs it once for all variants
    async with fleet("a") as devices:
        job = project(devices)
        with_data(job, drop=0.0, **float_model)
        report = await evaluated(job)
        assert report.exit_code == 0, [f.observed for o in report.outcomes for f in o.findings]
        good = accuracy(report.outcomes[0])
        assert (good.engine, good.samples, len(good.classes)) == ("PaddlePaddle 2.6.2 and classifier", 80, 4)
        assert good.reference == good.value > 0.85

        with_data(job, "classifier-2bit", drop=0.02, **float_model)
        report = await evaluated(job)
        lost, outcome = accuracy(report.outcomes[0]), report.outcomes[0]
        assert (report.exit_code, outcome.verdict) == (1, Verdict.WRONG)
        assert outcome.findings[0].code == "LF430"
        assert lost.reference == good.value > lost.value + 0.02
        assert lost.classes[0].lost == max(one.lost for one in lost.classes) > 0
        assert f"it drops by {good.value - lost.value:.4f}, and 0.02 is allowed; most in class" in outcome.sentence
        assert f"{lost.value:.4f} {good.value:.4f}" in " ".join(accuracy_text(report, 160).split())
        assert "<h2>Accuracy</h2>" in to_html(report)
        assert RunReport.from_dict(json.loads(json.dumps(report.to_dict()))).outcomes == report.outcomes

        rollout = await job.run()  # the device fails its proof: nothing is activated
        assert [(o.verdict, o.activated) for o in rollout.outcomes] == [(Verdict.WRONG, False)]
        assert rollout.outcomes[0].findings[0].code == "LF430"
        with_data(job, "classifier-2bit", min=0.1)
        rollout = await job.run()
        assert [(o.verdict, o.activated) for o in rollout.outcomes] == [(Verdict.VERIFIED, True)]
        assert accuracy(rollout.outcomes[0]).least == 0.1


class _Steps(QuietProgress):
    """Collects the steps of devices, and interrupts the run at one of them."""

    def __init__(self, stop_at: str = "") -> None:
        self.steps: list[str] = []
        self._stop_at, self._task = stop_at, asyncio.current_task()

    def device_step(self, device: str, step: str) -> None:
        self.steps.append(step)
        if self._stop_at and step == self._stop_at and self._task is not None:
            self._task.cancel()


async def test_a_measurement_that_was_cut_continues(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        with_data(job)
        stopped = _Steps("evaluate 1 of 80")
        with pytest.raises(Interrupted):
            await evaluated(job, stopped)
        assert "evaluate 0 of 80" in stopped.steps
        continued = _Steps()
        report = await evaluated(job, continued)
        assert report.exit_code == 0
        assert "evaluate 0 of 80" not in continued.steps
        assert "evaluate 1 of 80" in continued.steps
        assert accuracy(report.outcomes[0]).samples == 80
        again = await evaluated(job)  # measured anew, and the device has kept the inputs
        assert accuracy(again.outcomes[0]).value == accuracy(report.outcomes[0]).value
        print(f"sent: {report.outcomes[0].sent_bytes:,} bytes, then {again.outcomes[0].sent_bytes:,}")
        assert again.outcomes[0].sent_bytes < report.outcomes[0].sent_bytes / 4


def test_what_is_wrong_here_is_reported_before_a_device_is_met(project: Projects, tmp_path: Path) -> None:
    job = project()
    job.inventory("devices: {a: {host: 192.0.2.1}}\n")
    with pytest.raises(UsageError, match=r"cls has no data set: write `golden: {dataset: FOLDER, metric: top1}`"):
        litefleet.evaluate(litefleet.open_project(job.folder / "litefleet.yaml"))
    with_data(job, dataset=str(tmp_path / "none"))
    argv = [sys.executable, "-m", "litefleet_controller", "evaluate", "--json"]
    done = subprocess.run(argv, cwd=job.folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr
    reported = json.loads(done.stdout)["error"]["message"]
    assert "models.shapes.golden.dataset: " in reported
    assert "none is missing: name a folder, or a CSV file with the columns path and label" in reported
