"""Advice for real devices: asked now, from a kept report, and from memory; with real conversions and real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.advise.advise import AdviceRequest, advise
from litefleet_controller.advise.kinds import Origin
from litefleet_controller.advise.option_benchmarks import benchmark_options
from litefleet_controller.advise.summary import Advice
from litefleet_controller.advise.variants import PlacementStatus
from litefleet_controller.common.errors import UsageError
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import to_json
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.project import Options
from litefleet_controller.project.project import open_project
from litefleet_controller.reports.advice_text import advice_text

from tests.e2e.conftest import Project


async def advised(project: Project, *reports: Path, limit: str = "", accept: bool = False) -> Advice:
    options = Options(project.folder / "litefleet.yaml", None, limit, (), accept)
    return await advise(AdviceRequest(options, reports), lambda total: QuietProgress())


async def test_before_and_after_a_rollout(fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
    async with fleet("cam-1", "cam-2") as devices:
        here = project(devices)
        first = await advised(here, accept=True)
        assert [(f.file.label, f.devices) for f in first.files] == [("x86", ("cam-1", "cam-2"))]
        assert {(p.status, p.device_report.origin) for p in first.placements} == {(PlacementStatus.READY, Origin.PROBE)}
        assert "no verification on this part yet" in advice_text(first, 140)
        rolled = await here.run()
        assert {o.artifact for o in rolled.outcomes} == {first.files[0].file.sha256}  # what a rollout sends
        (proof,) = (await advised(here)).kinds[0].proofs
        assert (proof.model, proof.label, proof.devices) == ("cls", "x86", 2)
    away = await advised(here)  # the fleet is gone: its last facts are remembered
    assert {(p.status, p.device_report.origin) for p in away.placements} == {(PlacementStatus.READY, Origin.STATE)}
    assert "the state database" in advice_text(away, 140)


async def test_from_a_kept_report(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], tmp_path: Path
) -> None:
    async with fleet("cam-1", "cam-2") as devices:
        here = project(devices)
        report = await here.run("probe", limit="cam-1", accept=True)
    kept = tmp_path / "probe.json"
    kept.write_text(to_json(report))
    found = await advised(here, kept)
    origins = {p.device: (p.device_report.origin, p.status) for p in found.placements}
    assert origins == {
        "cam-1": (Origin.REPORT, PlacementStatus.READY),
        "cam-2": (Origin.NONE, PlacementStatus.UNKNOWN),
    }
    assert found.exit_code == 1


async def test_arm_devices_by_a_report_share_one_file(project: Callable[..., Project], tmp_path: Path) -> None:
    here = project()
    here.inventory("devices:\n  pi4: {host: 192.0.2.1}\n  pi3: {host: 192.0.2.2}\n")
    boards = {"pi4": ("aarch64", 64, ["Cortex-A72"]), "pi3": ("armv7l", 32, ["Cortex-A53"])}
    outcomes = [
        {
            **{"device": name, "model": "", "verdict": "verified", "findings": [], "measurements": {}, "steps": {}},
            **{"release": "", "artifact": "", "activated": False, "unchanged": False, "sent_bytes": 0},
            **{"round_trips": 0, "detail": ""},
            "facts": {"machine": "aarch64", "arch": arch, "bits": bits, "cpu": {"parts": parts}},
        }
        for name, (arch, bits, parts) in boards.items()
    ]
    report = {"command": "probe", "started_at": "2026-11-20T10:00:00Z", "seconds": 1.0, "devices": outcomes}
    kept = tmp_path / "probe.json"
    kept.write_text(json.dumps(report))
    found = await advised(here, kept)
    assert [(f.file.label, f.devices, f.arches) for f in found.files] == [
        ("arm", ("pi4", "pi3"), ("aarch64", "armv7l"))
    ]
    assert {p.status for p in found.placements} == {PlacementStatus.NO_RUNTIME}  # no ARM wheel is published
    small = next(o for o in found.kinds[0].options if o.name == "int8 weights")
    assert small.evidence[0].text.startswith("converted now: cls ")


async def test_a_file_that_is_no_report(project: Callable[..., Project], tmp_path: Path) -> None:
    here = project()
    here.inventory("devices:\n  pi4: {host: 192.0.2.1}\n")
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[1, 2]")
    with pytest.raises(UsageError, match="is not a litefleet report"):
        await advised(here, wrong)


async def test_int8_on_x86_is_shown_to_be_wrong(project: Callable[..., Project]) -> None:
    here = project()
    here.inventory("devices:\n  desk: {host: 192.0.2.1}\n")
    opened = open_project(Options(here.folder / "litefleet.yaml"))
    release_builder, output = opened.release_builder(QuietProgress()), list[str]()
    try:
        found = await benchmark_options(
            opened.config, opened.models, release_builder, output.append, output.append, ("2.13rc0",)
        )
    finally:
        await release_builder.close()
    by_option = {trial.option: trial for trial in found}
    assert by_option["plain"].verdict == "verified"
    assert by_option["plain"].load_ms is not None
    assert (by_option["int8"].verdict, by_option["int8"].code) == ("wrong", "LF404")
    assert by_option["int8"].max_abs is None
    assert 0 < by_option["int8"].size < by_option["int16"].size < by_option["plain"].size
