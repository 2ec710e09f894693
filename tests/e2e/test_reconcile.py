"""Reconcile on real devices: new ones get the release, drift is found for what it is, and repaired when asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.operations.reconcile import reconcile

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import (
    current,
    latest,
    link,
    litefleet,
    new_release,
    options,
    quiet,
    rollout,
    snapshots,
    states,
)
from tests.fakes.embedded_inventory import inventory_yaml

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


async def look(job: Project, repair: bool = False, deep: bool = False) -> RunReport:
    """Run `litefleet reconcile`."""
    return await reconcile(options(job), quiet, repair=repair, deep=deep)


def found(report: RunReport) -> dict[str, list[str]]:
    """The codes of each device's findings."""
    return {o.device: [f.code for f in o.findings] for o in report.outcomes}


async def test_a_device_that_joins_gets_the_release(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        entries = yaml.safe_load(inventory_yaml(devices))["devices"]
        job.inventory(yaml.safe_dump({"devices": {"a": entries["a"]}}, width=1000))
        await rollout(job)
        first = latest(job).id
        assert current(devices)["b"] == ""
        job.inventory(inventory_yaml(devices))
        report = await look(job)
        assert report.exit_code == 0, report.to_dict()
        assert current(devices)["b"] == current(devices)["a"] != ""
        assert (latest(job).id, str(latest(job).state)) == (first, "done")
        assert states(job) == {"a": "confirmed", "b": "confirmed"}


async def test_a_clean_fleet_is_left_alone(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        before = snapshots(devices)
        report = await look(job, repair=True, deep=True)
        assert report.exit_code == 0
        assert [(o.verdict, o.unchanged) for o in report.outcomes] == [(Verdict.VERIFIED, True)] * 2
        assert snapshots(devices) == before


async def test_a_damaged_file_is_found_by_a_deep_look_and_sent_again(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job, root = project(devices), devices.devices["a"].root
        artifact = (await rollout(job)).outcomes[0].artifact
        blob = root / "blobs" / artifact
        whole = blob.read_bytes()
        blob.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
        assert found(await look(job)) == {"a": [], "b": []}  # its size is right
        report = await look(job, deep=True)
        assert (report.exit_code, found(report)) == (1, {"a": ["LF602"], "b": []})
        assert artifact[:12] in report.outcomes[0].sentence
        assert blob.read_bytes() != whole  # looking repairs nothing
        repaired = await look(job, deep=True, repair=True)
        assert repaired.exit_code == 0, repaired.to_dict()
        assert blob.read_bytes() == whole
        assert (latest(job).kind, states(job)) == ("reconcile", {"a": "confirmed"})
        assert found(await look(job, deep=True)) == {"a": [], "b": []}


async def test_a_changed_link_and_a_removed_file_are_distinguished(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b", "c") as devices:
        job = project(devices)
        await rollout(job)
        old = current(devices)["a"]
        new_release(job, 3)
        new = {o.device: o.release for o in (await rollout(job)).outcomes}
        roots = {name: device.root for name, device in devices.devices.items()}
        _point(roots["a"], old)
        (roots["b"] / "models/cls/current").unlink()
        golden = max(roots["c"].glob("blobs/*"), key=lambda p: p.stat().st_mtime)
        golden.unlink()
        output = await litefleet(job, "reconcile")
        assert output.returncode == 1, output.stderr
        for words in ("LF601", "LF602", f"runs as {old[:12]}", "runs as nothing"):
            assert words in output.stdout, output.stdout
        assert current(devices) == {"a": old, "b": "", "c": new["c"]}
        repaired = await look(job, repair=True)
        assert repaired.exit_code == 0, repaired.to_dict()
        assert current(devices) == new
        assert golden.exists()
        assert found(await look(job, deep=True)) == {"a": [], "b": [], "c": []}


async def test_a_runtime_that_lost_a_file_is_brought_again(
    tmp_path: Path, project: Projects, lite_python: Path
) -> None:
    spec = DeviceSpec("a", kind="sshd", python=str(lite_python.resolve()))
    async with EmbeddedFleet(tmp_path / "devices", [spec]) as devices:
        job, root = project(devices), devices.devices["a"].root
        job.config(runtimes={"x86_64": {"paddlelite": "2.13rc0"}})
        await rollout(job)
        (runtime,) = (p for p in (root / "runtimes").iterdir() if p.is_dir())
        (runtime / "paddlelite/lite.so").unlink()
        report = await look(job)
        assert (report.exit_code, found(report)) == (1, {"a": ["LF603"]})
        assert "paddlelite/lite.so" in report.outcomes[0].sentence
        repaired = await look(job, repair=True)
        assert repaired.exit_code == 0, repaired.to_dict()
        assert (runtime / "paddlelite/lite.so").exists()
        assert found(await look(job, deep=True)) == {"a": []}


@pytest.mark.parametrize("repair", [False, True])
async def test_a_device_that_is_away_is_said_to_be(fleet: Fleets, project: Projects, repair: bool) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices, connect=2)
        await rollout(job)
        await devices.kill("b")
        report = await look(job, repair=repair)
        assert report.exit_code == 1
        assert {o.device: o.verdict for o in report.outcomes} == {"a": Verdict.VERIFIED, "b": Verdict.UNREACHABLE}
        assert latest(job).kind == "rollout"  # being away is no drift
        assert link(devices.devices["b"].root) == link(devices.devices["a"].root)


def _point(root: Path, release: str) -> None:
    path = root / "models/cls/current"
    path.unlink()
    path.symlink_to(f"../../releases/{release}.json")
