"""The main job against real OpenSSH devices: first contact, nothing left to do, proof again, and wrong files."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices import bootstrap
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.code_packs import CodePacks

from tests.e2e.conftest import Project


async def test_a_rollout_proves_and_switches_on_then_costs_one_round_trip(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        first = await job.run()
        assert [o.verdict for o in first.outcomes] == [Verdict.VERIFIED] * 2, first.to_dict()
        for outcome in first.outcomes:
            root = devices.devices[outcome.device].root
            current = os.readlink(root / "models/cls/current")
            assert Path(current).name == f"{outcome.release}.json"
            manifest = json.loads((root / "models/cls/current").read_text())
            assert manifest["model"]["nb"] == outcome.artifact
            assert outcome.activated
            output = outcome.measurements["outputs"][0]
            assert output["max_abs"] < 1e-4
            assert (output["compare"], output["why"]) == ("topk", "probabilities of classes (softmax)")
            assert manifest["outputs"] == {output["name"]: {"compare": "topk"}}
            assert "engine" not in manifest  # ids of releases that ask nothing stay what they were
            assert outcome.sent_bytes > 500_000
            assert (root / "agent" / f"{agent_archive().sha256}.pyz").read_bytes() == agent_archive().data

        second = await job.run()
        for outcome in second.outcomes:
            assert outcome.verdict is Verdict.VERIFIED
            assert outcome.unchanged
            assert outcome.round_trips == 1
            assert outcome.sent_bytes < 5_000

        again = await job.run("verify")
        assert [(o.verdict, o.unchanged, o.activated) for o in again.outcomes] == [(Verdict.VERIFIED, False, False)] * 2
        assert all(o.sent_bytes < 6_000 for o in again.outcomes)


async def test_a_device_that_gets_bytecode_compiles_nothing_in_a_whole_rollout(
    fleet: Callable[..., EmbeddedFleet],
    project: Callable[..., Project],
    lite_python: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(bootstrap, "keeper", functools.partial(bootstrap.keeper, fast_s=60.0))
    archive = agent_archive()
    packs = CodePacks(archive.data, archive.sha256, tmp_path / "packs", lambda version: [lite_python])
    show = "import sys, importlib.util as u; print(sys.implementation.cache_tag, u.MAGIC_NUMBER.hex())"
    words = subprocess.run([lite_python, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    while not (made := packs.of(words)):
        await asyncio.sleep(0.1)
    monkeypatch.setattr(CodePacks, "of", lambda self, interpreter: made)
    async with fleet("a") as devices:
        (outcome,) = (await project(devices).run()).outcomes
        assert outcome.activated, outcome.to_dict()
        agents = devices.devices["a"].root / "agent"
        kept = agents / f"{archive.sha256}.{words.split()[0]}.bytecode"
        assert kept.read_bytes() == zlib.decompress(made), "a module that is compiled is added"


async def test_what_was_deleted_or_damaged_on_a_device_is_sent_again(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("deleted", "damaged", "manifest", "whole") as devices:
        job = project(devices)
        release = {o.device: o.release for o in (await job.run()).outcomes}
        roots = {name: device.root for name, device in devices.devices.items()}
        manifests = {name: roots[name] / f"releases/{release[name]}.json" for name in roots}
        models = {n: roots[n] / "blobs" / json.loads(manifests[n].read_text())["model"]["nb"] for n in roots}
        whole = models["damaged"].read_bytes()
        models["deleted"].unlink()
        models["damaged"].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        manifests["manifest"].unlink()

        outcomes = {o.device: o for o in (await job.run()).outcomes}
        assert {name: o.verdict for name, o in outcomes.items()} == dict.fromkeys(roots, Verdict.VERIFIED)
        assert {name for name, o in outcomes.items() if o.unchanged} == {"whole"}
        assert {name for name, o in outcomes.items() if o.sent_bytes > 400_000} == {"deleted", "damaged"}
        assert [path.read_bytes() == whole for path in models.values()] == [True] * 4
        assert json.loads(manifests["manifest"].read_text())["model"]["name"] == "cls"
        assert all(o.unchanged for o in (await job.run()).outcomes)


@pytest.mark.usefixtures("no_bytecode")
async def test_the_seed_case_is_refused_before_a_byte_of_it_travels(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], nb_files: Callable[..., Path]
) -> None:
    wrong = nb_files("cls", "arm,x86")
    async with fleet("seed", artifact=str(wrong)) as devices:
        report = await project(devices).run()
    outcome = report.outcomes[0]
    assert outcome.verdict is Verdict.REFUSED
    assert outcome.findings[0].code == "LF101"
    assert outcome.sentence == "99 of 104 kernels are for arm; this device is x86_64."
    assert outcome.sent_bytes < len(agent_archive().data) + 30_000  # the agent's own file, not the model
    assert not (devices.devices["seed"].root / "blobs").exists()
    assert report.exit_code == 1


async def test_probe_changes_nothing_but_the_agents_own_file(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a", arch="aarch64") as devices:
        report = await project(devices).run("probe")
        root = devices.devices["a"].root
        assert sorted(p.name for p in root.iterdir()) == ["agent"]
    outcome = report.outcomes[0]
    assert outcome.facts["arch"] == "x86_64"
    assert [f.code for f in outcome.findings] == ["LF314"]  # the inventory expected another architecture


async def test_a_device_without_python_still_tells_what_sh_can(tmp_path: Path, project: Callable[..., Project]) -> None:
    from litefleet_controller.demo import DeviceSpec

    bare = DeviceSpec("bare", without_python=True, settings={"python": "own"})
    async with EmbeddedFleet(tmp_path / "devices", [bare]) as devices:
        report = await project(devices).run()
    outcome = report.outcomes[0]
    assert outcome.verdict is Verdict.UNSUPPORTED
    assert outcome.findings[0].code == "LF301"
    assert outcome.facts["sh"]["machine"] == os.uname().machine
    assert outcome.facts["sh"]["libc"] == "glibc"
