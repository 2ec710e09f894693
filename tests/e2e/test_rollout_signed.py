"""Signed releases on real devices, with real keys: what a device refuses once it trusts somebody, and how trust moves on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.agent_client import Request, RequestRejected
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.release import Release
from litefleet_controller.devices.visit import DeviceSession, open_session
from litefleet_controller.operations import Target, open_state, roll_back, spread_trust, write_for
from litefleet_controller.operations.reconcile import reconcile
from litefleet_controller.project.project import open_project
from litefleet_controller.signing.signer import Signer

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import audit, current, latest, link, new_release, options, quiet, rollout
from tests.fakes.ssh_keys import keygen

IN_2099 = 4_070_908_800  # seconds since the epoch
Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


def sign(job: Project, key: str, *trusted: str, expires: str = "90d") -> None:
    """Let a project sign with `key` and trust these keys; they are made where needed."""
    for name in {key, *trusted}:
        if not (job.folder / name).exists():
            keygen(job.folder / name)
    lines = [f'{name} namespaces="litefleet-*" {_public(job.folder / name)}\n' for name in trusted]
    (job.folder / "allowed_signers").write_text("".join(lines))
    job.config(fleet="shop", signing={"key": key, "allowed_signers": "allowed_signers", "expires_after": expires})


async def test_a_device_that_trusts_somebody_takes_nothing_else(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        sign(job, "key", "key")
        assert (await rollout(job)).exit_code == 0
        runs = current(devices)
        trusted = (job.folder / "allowed_signers").read_text()
        assert (devices.devices["a"].root / "trust/allowed_signers").read_text() == trusted

        new_release(job, 3)
        job.config(signing=None)  # somebody who has the devices' login, and not the key
        report = await rollout(job, limit="a")
        assert _told(report.outcomes) == {"a": (Verdict.REFUSED, "LF609")}, report.to_dict()
        sign(job, "stranger", "stranger")
        report = await rollout(job, limit="a")
        assert report.outcomes[0].findings[0].code == "LF610", report.to_dict()
        assert current(devices) == runs

        sign(job, "key", "key")
        assert (await rollout(job)).exit_code == 0
        assert len({*current(devices).values(), *runs.values()}) == 2


async def test_another_proof_and_a_repair_need_no_new_decision(fleet: Fleets, project: Projects) -> None:
    """The daily proof sends no seal; a repair after a way back, long after the seal expired, is sealed anew."""
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        sign(job, "key", "key", expires="1s")
        await rollout(job)
        first = link(root)
        assert [(o.verdict, o.sentence) for o in (await job.run("verify")).outcomes] == [
            (Verdict.VERIFIED, "outputs match the reference")
        ]
        sign(job, "key", "key")
        new_release(job, 3)
        assert (await rollout(job)).exit_code == 0
        await roll_back(options(job), quiet, Target())
        assert link(root) == first
        artifact = json.loads((root / "releases" / f"{first}.json").read_text())["model"]["nb"]
        (root / "blobs" / artifact).unlink()
        await asyncio.sleep(1.1)  # the first seal is over
        report = await reconcile(options(job), quiet, repair=True)
        assert (report.exit_code, link(root)) == (0, first), report.to_dict()
        assert (root / "blobs" / artifact).exists()


async def test_a_controller_whose_clock_stands_in_2099_locks_nobody_out(
    fleet: Fleets, project: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        sign(job, "key", "key")
        assert (await rollout(job)).exit_code == 0
        runs, seal = current(devices), Signer.seal

        async def ahead(self: Signer, release: str, model: str, of: str, number: int, now: float) -> dict[str, object]:
            return await seal(self, release, model, of, IN_2099, IN_2099)

        new_release(job, 3)
        with monkeypatch.context() as clock:
            clock.setattr(Signer, "seal", ahead)
            report = await rollout(job)
        assert _told(report.outcomes) == {"a": (Verdict.REFUSED, "LF607")}, report.to_dict()
        assert "days ahead of this device's clock" in report.outcomes[0].sentence
        assert current(devices) == runs
        assert (await rollout(job, supersede=True)).exit_code == 0  # the clock is right again
        assert current(devices) != runs


async def test_old_foreign_and_expired_seals_are_refused(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        sign(job, "key", "key")
        await rollout(job)
        first = await _kept(job, link(root))
        new_release(job, 3)
        await rollout(job)
        runs = link(root)
        assert runs != first.id
        assert first.signed is not None
        assert await _push(job, first, first.signed) == "LF606"

        number = latest(job).number + 1
        assert await _push(job, first, await _seal(job, first, "other", number, time.time())) == "LF608"
        long_ago = time.time() - 400 * 86400
        assert await _push(job, first, await _seal(job, first, "shop", number, long_ago)) == "LF607"
        assert link(root) == runs
        assert await _push(job, first, await _seal(job, first, "shop", number, time.time())) == ""


async def test_trust_moves_from_one_key_to_the_next(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        sign(job, "old", "old")
        await rollout(job)
        sign(job, "new", "new")  # too fast: the device has never heard of this key
        refused = await spread_trust(options(job), quiet)
        assert refused.exit_code == 1
        assert [f.code for f in refused.outcomes[0].findings] == ["LF610"]
        assert "old " in (root / "trust/allowed_signers").read_text()

        for key, trusted in (("old", ("old", "new")), ("new", ("new",))):
            sign(job, key, *trusted)
            report = await spread_trust(options(job), quiet)
            assert report.exit_code == 0, report.to_dict()
            assert (root / "trust/allowed_signers").read_text() == (job.folder / "allowed_signers").read_text()
        new_release(job, 3)
        assert (await rollout(job)).exit_code == 0
        runs = link(root)
        sign(job, "old", "old")
        new_release(job, 4)
        report = await rollout(job)
        assert _told(report.outcomes) == {"a": (Verdict.REFUSED, "LF610")}, report.to_dict()
        assert link(root) == runs


async def test_what_was_carried_there_is_known_after_the_next_contact(
    fleet: Fleets, project: Projects, lite_python: Path
) -> None:
    async with fleet("a") as devices:
        job, root = project(devices), devices.devices["a"].root
        sign(job, "key", "key")
        await rollout(job)
        new_release(job, 3)
        stick = job.folder / "stick.lfb"
        made = await write_for(options(job), quiet, stick, [])
        await devices.kill("a")  # no network reaches it
        argv = [lite_python, made.agent, "install", stick, "--root", root]
        done = await asyncio.to_thread(_run, argv, devices.devices["a"].place.home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert link(root) == made.releases[0]
        assert len(list((root / "reports").glob("*.json"))) == 1

        await devices.restart("a")
        report = await reconcile(options(job), quiet)
        assert report.exit_code == 0, report.to_dict()
        assert [(o.release, o.verdict) for o in report.outcomes] == [(made.releases[0], Verdict.VERIFIED)]
        assert not list((root / "reports").glob("*.json"))
        assert "installed from a file" in [entry.action for entry in audit(job)]
        assert (await rollout(job)).outcomes[0].unchanged


def _told(outcomes: tuple[DeviceOutcome, ...]) -> dict[str, tuple[Verdict, str]]:
    return {o.device: (o.verdict, o.findings[0].code) for o in outcomes}


async def _kept(job: Project, release: str) -> Release:
    state = open_state(load_config(job.folder / "litefleet.yaml"))
    try:
        kept = state.stored_release(release)
    finally:
        state.close()
    assert kept is not None
    return kept


async def _seal(job: Project, kept: Release, fleet: str, number: int, issued: float) -> Mapping[str, Any]:
    signing = load_config(job.folder / "litefleet.yaml").signing
    assert signing is not None
    return await Signer(signing).seal(kept.id, kept.model, fleet, number, issued)


async def _push(job: Project, kept: Release, signed: Mapping[str, Any]) -> str:
    """Send one release under a seal to the device `a`; return the code of its refusal, "" when it was taken."""
    project = open_project(options(job))
    answers: list[str] = []

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        try:
            await session.ask(Request("release", {"manifest": kept.manifest, "sealed": signed}))
            answers.append("")
        except RequestRejected as error:
            answers.append(error.found.code)
        done.append(session.outcome("cls", []))

    (outcome,) = await open_session(project.session_factory(QuietProgress()), project.devices[0], ["cls"], work)
    assert answers, outcome.to_dict()
    return answers[0]


def _public(key: Path) -> str:
    return " ".join(key.with_name(f"{key.name}.pub").read_text().split()[:2])


def _run(argv: list[Any], home: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C"}
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=env, timeout=100, check=False)
