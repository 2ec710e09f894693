"""Engine settings from litefleet.yaml to a device's Paddle-Lite and back: asked for, taken or not, and part of the release."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.reports.terminal import to_table

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import litefleet


def ask(job: Project, block: str) -> None:
    """Write the model's `engine:` into the configuration, in place of an earlier one."""
    path = job.folder / "litefleet.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("    engine:")]
    lines.insert(lines.index("  cls:") + 1, f"    engine: {block}")
    path.write_text("\n".join(lines) + "\n")


async def test_settings_reach_the_device_and_change_the_release(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        ask(job, "{threads: 2, aarch64: {power_mode: low}}")
        (first,) = (await job.run()).outcomes
        assert first.verdict is Verdict.VERIFIED, first.to_dict()
        root = devices.devices["a"].root
        assert json.loads((root / "models/cls/current").read_text())["engine"] == {"threads": 2}  # it is no aarch64
        (setting,) = first.measurements["settings"]
        taken = {"binding": "not-taken", "native": "taken"}[first.measurements["engine"]]
        assert (setting["name"], setting["asked"], setting["state"]) == ("threads", "2", taken)

        ask(job, "{threads: 2, power_mode: high, nnadapter: {devices: [rockchip_npu], model_cache: true}}")
        report = await job.run()
        (second,) = report.outcomes
        assert second.verdict is Verdict.VERIFIED
        assert second.release != first.release
        assert second.artifact == first.artifact
        assert "LF433" in [found.code for found in second.findings]
        shown = to_table(report, 200)
        assert "Engine settings" in shown
        assert "power mode LITE_POWER_HIGH: not taken (this build does not take it" in shown
        assert os.listdir(root / "caches") == [second.release]

        ask(job, "{opencl: {tune: normal, binary_cache: true}}")
        before = sorted(path.name for path in (root / "blobs").iterdir())
        planned = await litefleet(job, "plan", "--json")
        (device,) = json.loads(planned.stdout)["devices"]
        assert device["what"] == "blocked", planned.stdout
        (found,) = [one for one in device["findings"] if one["severity"] == "error"]
        assert found["code"] == "LF103"
        assert found["seen"].startswith("The release has settings for OpenCL (`engine: {opencl: ...}`), and ")
        assert sorted(path.name for path in (root / "blobs").iterdir()) == before
