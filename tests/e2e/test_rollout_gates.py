"""Gates with real devices: what a bad release costs, what a person is told, and that nobody else is touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import abort, plan_rollout
from litefleet_controller.operations.reconcile import reconcile
from litefleet_controller.operations.resume import resume

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import (
    bad_release,
    current,
    edit_proof,
    latest,
    litefleet,
    new_release,
    options,
    quiet,
    rollout,
    rows,
    snapshots,
    states,
)
from tests.fakes.embedded_inventory import inventory_yaml

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]
OPEN: dict[str, object] = {"canary": {}, "wave": {}, "total": {}, "cluster": {}, "regression": {"count": None}}


async def test_a_canary_finds_a_bad_release_and_nobody_else_is_touched(fleet: Fleets, project: Projects) -> None:
    async with fleet("cam-1", "cam-2", "cam-3", "cam-4") as devices:
        job = project(devices)
        assert (await rollout(job)).exit_code == 0
        good, before = current(devices), snapshots(devices)
        bad_release(job, devices.devices["cam-1"].root)
        job.config(rollout={"waves": [1, "50%", "100%"]})

        ended = await litefleet(job, "rollout")
        assert ended.returncode == 3, ended.stderr
        assert "canary: 1 of 1 device in the first wave failed; the limit is 1: cam-1" in ended.stdout
        assert "LF403" in ended.stdout
        assert states(job) == {"cam-1": "failed", "cam-2": "pending", "cam-3": "pending", "cam-4": "pending"}
        assert current(devices) == good
        after = snapshots(devices)
        assert [name for name in after if after[name] != before[name]] == ["cam-1"]  # it has the new goldens, no more

        output = (await litefleet(job, "status")).stdout
        paused = latest(job)
        assert (str(paused.state), paused.behind) == ("paused", ("cam-1",))
        for words in ("paused", "canary: 1 of 1 device", "caused by cam-1", f"litefleet resume {paused.id}", "abort"):
            assert words in output, output
        assert "rollback" not in output  # nobody was switched on

        await resume(options(job), quiet, "", WaitPolicy.WAVES)  # forgiven: the next wave's gate stops it
        assert states(job) == {"cam-1": "failed", "cam-2": "failed", "cam-3": "pending", "cam-4": "pending"}
        assert "wave: 1 of 1 device in wave 2 failed" in latest(job).reason
        assert {r.device: r.forgiven for r in rows(job)}["cam-1"]

        assert abort(options(job), "") == f"{paused.id} is aborted"
        assert states(job) == {"cam-1": "failed", "cam-2": "failed", "cam-3": "skipped", "cam-4": "skipped"}
        assert current(devices) == good
        assert {n: s for n, s in snapshots(devices).items() if n in ("cam-3", "cam-4")} == {
            n: before[n] for n in ("cam-3", "cam-4")
        }


@pytest.mark.long  # with simulated devices: tests/sim/test_simulated_fleet.py
async def test_devices_that_fail_alike_stop_a_rollout_after_the_second(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b", "c", "d", "e") as devices:
        job = project(devices)
        await rollout(job)
        good = current(devices)
        bad_release(job, devices.devices["a"].root)
        job.policy(parallel=1, gates={**OPEN, "cluster": {"count": 2}})
        report = await rollout(job)
        assert report.exit_code == 3
        assert "cluster: 2 devices with" in latest(job).reason
        assert "failed with LF403 (outputs-off); the limit is 2: a, b" in latest(job).reason
        assert states(job) == {"a": "failed", "b": "failed", "c": "pending", "d": "pending", "e": "pending"}
        assert current(devices) == good


async def test_a_slower_release_is_not_switched_on_and_pauses(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        old = current(devices)
        _remembered(devices, "a", "latency_ms", {"min": 0.01})  # however busy this machine was then
        _slower_release(job)
        job.policy(parallel=1, gates={**OPEN, "regression": {"latency_floor_ms": 0, "memory": None}})
        report = await rollout(job)
        assert report.exit_code == 3
        (ended,) = report.outcomes
        assert (ended.verdict, [f.code for f in ended.findings], ended.activated) == (Verdict.SLOW, ["LF413"], False)
        assert "measured again in turn: +" in ended.sentence
        assert (
            latest(job).reason
            == "regression: 1 device is slower or larger than with the release before; the limit is 1: a"
        )
        assert states(job) == {"a": "failed", "b": "pending"}
        assert current(devices) == old


async def test_what_only_one_measurement_shows_stops_nothing(fleet: Fleets, project: Projects) -> None:
    """As on a device that was idle at the first verification and busy at the second: the bench of both finds no difference."""
    async with fleet("a") as devices:
        job = project(devices)
        await rollout(job)
        _remembered(devices, "a", "latency_ms", {"min": 0.01})
        _remembered(devices, "a", "peak_rss_bytes", 2**20)
        new_release(job, 3)
        job.policy(parallel=1, gates={**OPEN, "regression": {"latency_floor_ms": 0}})
        report = await rollout(job)
        assert report.exit_code == 0, report.to_dict()
        assert states(job) == {"a": "confirmed"}
        (ended,) = report.outcomes
        assert "measure again" in ended.steps
        assert ended.detail.count("measured again in turn: ") == ended.detail.count("which is no regression") == 2


async def test_a_gate_takes_back_what_its_rollout_has_switched_on(fleet: Fleets, project: Projects) -> None:
    """Also when the controller dies between the gate and the rollback: the next `reconcile` does it."""
    async with fleet("a", "b", "c") as devices:
        job = project(devices)
        await rollout(job)
        old = current(devices)
        (devices.devices["b"].root / "left-over").write_bytes(bytes(8 << 20))
        policy = {"parallel": 1, "keep": {"quota_mb": 8}}
        for then in ("rollback", "abort"):
            new_release(job, 3)
            job.policy(**policy, gates={**OPEN, "total": {"count": 1, "then": then}})
            report = await rollout(job)
            stopped = latest(job, "rollout")
            assert (report.exit_code, str(stopped.state)) == (3, "aborted")
            if then == "abort":
                assert {n for n in old if current(devices)[n] != old[n]} == {"a"}
                with closing(sqlite3.connect(job.folder / ".litefleet" / "state.db")) as database, database:
                    database.execute("UPDATE rollouts SET request = 'rollback' WHERE id = ?", (stopped.id,))
                await reconcile(options(job), quiet)
            else:
                assert report.rollout["rollback"]["state"] == "done"
                assert {o.device: o.sentence for o in report.outcomes}["a"].startswith("went back to ")
            assert current(devices) == old
            assert states(job, stopped.id) == {"a": "rolled-back", "b": "failed", "c": "skipped"}
            reverted = latest(job)
            assert (reverted.kind, str(reverted.state), reverted.parent) == ("rollback", "done", stopped.id)


@pytest.mark.long  # with simulated devices: tests/sim/test_simulated_fleet.py
async def test_a_waves_share_of_failures_stops_it_and_leaves_the_rest(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b", "c", "d", "e") as devices:
        job = project(devices)
        await rollout(job)
        old = current(devices)
        for name in ("a", "d", "e"):  # these were slow before: for them it is no regression
            _remembered(devices, name, "latency_ms", {"min": 1e4})
        for name in ("b", "c"):
            _remembered(devices, name, "latency_ms", {"min": 0.01})
        _slower_release(job)
        regression = {"latency_floor_ms": 0, "memory": None, "count": None}
        job.policy(waves=[1, "100%"], parallel=1, gates={**OPEN, "wave": {"share": "30%"}, "regression": regression})
        report = await rollout(job)
        assert report.exit_code == 3
        assert latest(job).reason == "wave: 2 of 4 devices in wave 2 failed, more than 30%: b, c"
        assert states(job) == {"a": "confirmed", "b": "failed", "c": "failed", "d": "pending", "e": "pending"}
        assert {n for n in old if current(devices)[n] != old[n]} == {"a"}


async def test_the_canary_wave_has_one_device_of_every_kind(
    tmp_path: Path, project: Projects, lite_python: Path
) -> None:
    specs = [DeviceSpec(name, kind="sshd", python=str(lite_python)) for name in ("a", "b", "c")]
    bare = DeviceSpec("d", kind="sshd", python=str(lite_python.resolve()), settings={"runtime": "wheels"})
    async with EmbeddedFleet(tmp_path / "devices", [*specs, bare]) as devices:
        job = project(devices)
        job.config(runtimes={"x86_64": "system", "wheels": {"paddlelite": "2.13rc0"}})
        job.inventory(inventory_yaml(devices) + "groups: {lab: {devices: []}}\n")
        job.policy(waves=["lab", 1, "100%"])  # a group that has no device yet is no wave
        plan = await plan_rollout(options(job), quiet)
        assert [p.row.device for p in plan.in_wave(0)] == ["a", "d"]
        assert len({p.row.stratum for p in plan.in_wave(0)}) == 2
        assert (await rollout(job)).exit_code == 0
        assert {r.device: r.wave for r in rows(job)} == {"a": 0, "d": 0, "b": 1, "c": 1}
        (runtime,) = (p for p in (devices.devices["d"].root / "runtimes").iterdir() if p.is_dir())
        assert runtime.name == {r.device: r.runtime for r in rows(job)}["d"]


def _slower_release(job: Project) -> None:
    """Make the next release one whose inputs are eight times as wide: it takes half as much memory again, too."""
    models = yaml.safe_load((job.folder / "litefleet.yaml").read_text())["models"]
    models["cls"]["inputs"]["x"] = [1, 3, 48, 1536]
    job.config(models=models)


def _remembered(devices: EmbeddedFleet, name: str, key: str, value: object) -> None:
    """Let a device remember another measurement of the release that runs there."""

    def change(record: dict[str, Any]) -> None:
        record["measurements"][key] = value

    edit_proof(devices.devices[name].root, current(devices)[name], change)
