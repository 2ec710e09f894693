"""On real devices and by the command line: an open rollout is never carried out by a command that asks for something else."""

from __future__ import annotations

import json
from collections.abc import Callable

import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import bad_release, current, latest, litefleet, new_release, rollout, states

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


async def interrupt_next(job: Project, devices: EmbeddedFleet) -> str:
    """Leave the next release's rollout open before any switch: all devices are away, and then back; return its id."""
    for name in devices.devices:
        await devices.kill(name)
    assert (await rollout(job)).exit_code == 1
    for name in devices.devices:
        await devices.restart(name)
    return latest(job).id


def for_another_processor(job: Project, devices: EmbeddedFleet) -> None:
    """Name a file in litefleet.yaml that no device of this fleet can take."""
    root = devices.devices["a"].root
    bad_release(job, root)
    config = yaml.safe_load((job.folder / "litefleet.yaml").read_text())
    manifest = json.loads((root / "models/cls/current").read_text())
    (job.folder / "other.nb").write_bytes((root / "blobs" / manifest["model"]["nb"]).read_bytes())
    model = {k: v for k, v in config["models"]["cls"].items() if k != "source"}
    job.config(models={"cls": {**model, "nb": {"aarch64": "other.nb"}}})


async def test_what_is_open_is_refused_and_named_and_nothing_is_switched(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b", "c") as devices:
        job = project(devices, connect=2)
        await rollout(job)
        old = current(devices)
        before = (job.folder / "litefleet.yaml").read_text()
        new_release(job, 3)
        opened = await interrupt_next(job, devices)
        wanted = (job.folder / "litefleet.yaml").read_text()

        (job.folder / "litefleet.yaml").write_text(before)  # put back to what all devices run
        output = await litefleet(job, "rollout")
        assert output.returncode == 3, output.stderr
        assert f"{opened} is open" in output.stderr
        assert f"litefleet resume {opened}" in output.stderr
        assert "litefleet rollout --supersede" in output.stderr
        assert current(devices) == old

        (job.folder / "litefleet.yaml").write_text(wanted)  # the same release, for one device
        output = await litefleet(job, "rollout", "--limit", "c")
        assert output.returncode == 3, output.stderr
        assert "--limit c" in output.stderr
        assert current(devices) == old

        for_another_processor(job, devices)  # no device can take it: the check of the files finds that first
        for words in ((), ("--supersede",)):
            output = await litefleet(job, "rollout", *words)
            assert output.returncode == 2, output.stderr
            assert "kernels are for x86; this device is aarch64" in output.stderr
        assert (latest(job).id, str(latest(job).state)) == (opened, "running")
        assert current(devices) == old

        (job.folder / "litefleet.yaml").write_text(wanted)
        assert (await litefleet(job, "rollout")).returncode == 0  # the same plan: it goes on
        assert (latest(job).id, str(latest(job).state)) == (opened, "done")
        assert all(release != old[name] for name, release in current(devices).items())


async def test_an_open_rollback_is_not_carried_out_by_a_rollout(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices, connect=2)
        await rollout(job)
        old = current(devices)
        new_release(job, 3)
        await rollout(job)
        new = current(devices)
        await devices.kill("b")
        output = await litefleet(job, "rollback")
        assert output.returncode == 2
        assert "--yes" in output.stderr
        shown = await litefleet(job, "rollback", "--dry-run", "--json")
        assert [d["to"] for d in json.loads(shown.stdout)["devices"]] == [old["a"], old["b"]]
        assert current(devices) == new
        assert (await litefleet(job, "rollback", "--yes")).returncode == 1
        opened = latest(job)
        await devices.restart("b")
        for words in (("rollout", "--limit", "b"), ("rollout",)):
            output = await litefleet(job, *words)
            assert output.returncode == 3, output.stderr
            assert f"{opened.id} is open: it is a rollback" in output.stderr
        assert current(devices) == {"a": old["a"], "b": new["b"]}
        assert (await litefleet(job, "resume", opened.id)).returncode == 0
        assert current(devices) == old


async def test_a_rollback_leaves_devices_alone_that_the_rollout_did_not_reach(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        new_release(job, 3)
        await rollout(job)
        second = current(devices)
        new_release(job, 4)
        job.policy(waves=[1, "100%"], approve=True)
        assert (await rollout(job)).exit_code == 3
        half = latest(job).id
        assert (await litefleet(job, "rollback", "--yes")).returncode == 0
        assert current(devices) == second
        assert states(job, half) == {"a": "rolled-back", "b": "skipped"}
        output = await litefleet(job, "approve", half)
        assert (output.returncode, current(devices)) == (2, second), output.stderr
