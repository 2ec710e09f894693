"""doctor judges a device's free space as `plan` does where the state has its release, and only as possible where it has not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.facts import Disk, Facts, Package, PythonFacts
from litefleet_agent.facts.libraries import WATCHED
from litefleet_agent.findings import Certainty, Verdict
from litefleet_controller.devices.deliver import kind_of
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.release import Release
from litefleet_controller.doctor.device_checks import judge_device
from litefleet_controller.doctor.devices import Probed, _judge_space, _recipes
from litefleet_controller.project import Options
from litefleet_controller.project.project import Project, open_project, open_state
from litefleet_controller.rollout_engine.fleet_survey import ProbeResult, _plan_one
from litefleet_inventory import Device

from tests.controller.support.state_values import ELSEWHERE, rollout

OWN = Package("2.13rc0", "/opt/paddlelite")
PI = Facts(
    machine="aarch64",
    arch="aarch64",
    bits=64,
    libraries=WATCHED,
    python=PythonFacts("/usr/bin/python3", "3.11.2", "cpython", "cp311", 64),
    paddlelite=OWN,
    disk=Disk(10**9, 10**8),
    writable=True,
)
HELD = {"root": "/opt/litefleet", "current": {"other": "a" * 64}}


class Supply:
    """Makes the same release for every device."""

    def __init__(self, release: Release) -> None:
        self._release = release

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        return self._release


@pytest.fixture
def project(tmp_path: Path, models: dict[str, Path]) -> Project:
    """A project of one device and one model."""
    (tmp_path / "fleet.yaml").write_text("devices: {cam: {host: 192.0.2.1}}\n")
    (tmp_path / "litefleet.yaml").write_text(f"inventory: fleet.yaml\nmodels: {{cls: {{source: {models['cls']}}}}}\n")
    return open_project(Options(tmp_path / "litefleet.yaml"))


@pytest.fixture
def stored(project: Project, tmp_path: Path) -> Callable[..., Any]:
    """Return a maker of the project's release with one file of `size` bytes, stored by a rollout."""

    async def make(size: int, **changes: Any) -> Release:
        blob = tmp_path / "blob"
        with blob.open("wb") as file:
            file.truncate(size)
        recipe = (await _recipes(project))["cls"]
        made = Release(
            id="c" * 64, model="cls", kind=kind_of(PI), artifact="d" * 64, blobs={"d" * 64: blob}, recipe=recipe
        )
        made = replace(made, **changes)
        with closing(open_state(project.config)) as state:
            lock = state.acquire(project.config.fleet, ELSEWHERE)
            state.create(lock, rollout(project.config.fleet), [], [made], {})
            state.release(lock)
        return made

    return make


async def space(project: Project, hello: dict[str, Any], facts: Facts = PI) -> Any:
    probed = Probed("cam", facts, DeviceOutcome("cam", "", Verdict.VERIFIED, ()), {})
    (judged,) = await _judge_space(project, [probed], {"cam": hello})
    return judged.space


@pytest.mark.parametrize("size", [1000, 2 * 10**8])
@pytest.mark.parametrize("hello", [{"root": "/opt/litefleet"}, HELD])
async def test_plan_and_doctor_say_the_same_of_a_release_that_is_known(
    size: int, hello: dict[str, Any], project: Project, stored: Any
) -> None:
    release = await stored(size)
    found = await space(project, hello)
    probe = ProbeResult(project.devices[0], hello, PI, seen_at=1.0)
    planned, _ = await _plan_one(probe, "cls", Supply(release), 0)
    assert found == planned.findings
    assert [f.code for f in found] == ["LF312"] * (size > PI.disk.free)
    assert all((f.certainty is Certainty.POSSIBLE) == (hello is HELD) for f in found)
    _, said = judge_device(project.config, project.devices[0], PI, found)
    assert [f for f in said if f.code == "LF312"] == list(found)


async def test_without_its_release_too_little_space_is_only_possible(project: Project, stored: Any) -> None:
    assert await space(project, {}) is None
    assert not (project.config.store / "state.db").exists()
    await stored(2 * 10**8, recipe="of another configuration")
    assert await space(project, {}) is None
    await stored(2 * 10**8, id="e" * 64, special=True)
    assert await space(project, {}) is None
    release = await stored(2 * 10**8, id="f" * 64)
    assert [f.code for f in await space(project, {})] == ["LF312"]
    assert await space(project, {}, PI._replace(disk=Disk(0, 0))) == ()  # it reported no disk
    assert await space(project, {}, PI._replace(python=PI.python._replace(tag="cp39"))) is None
    (next(iter(release.blobs.values()))).unlink()
    assert await space(project, {}) is None

    x86 = PI._replace(machine="x86_64", arch="x86_64", paddlelite=Package())
    _, said = judge_device(project.config, project.devices[0], x86)
    (guessed,) = (f for f in said if f.code == "LF312")
    assert guessed.certainty is Certainty.POSSIBLE


async def test_a_state_that_cannot_be_read_does_not_stop_doctor(project: Project) -> None:
    project.config.store.mkdir()
    (project.config.store / "state.db").write_text("not a database, and longer than its header would be" * 10)
    assert await space(project, {}) is None
