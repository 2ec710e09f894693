"""Going back on real devices: one device, a wave, the fleet; nothing travels, and what can't be done is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing

import pytest
from litefleet_controller.common.errors import UsageError
from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.operations import Target, open_state, roll_back
from litefleet_controller.operations.rollback import meant, plan_rollback

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import current, latest, litefleet, new_release, options, quiet, rollout, states

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


async def back(job: Project, to: str = "previous", limit: str = "", rollout_id: str = "", wave: int = 0) -> RunReport:
    """Run `litefleet rollback`."""
    return await roll_back(options(job, limit), quiet, Target(to, rollout_id, wave))


async def test_one_device_goes_back_and_forth_and_to_nothing(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        old = current(devices)["a"]
        new_release(job, 3)
        await rollout(job)
        new, second = current(devices)["a"], latest(job).id
        assert new != old

        report = await back(job, limit="a")
        assert report.exit_code == 0, report.to_dict()
        assert current(devices) == {"a": old, "b": new}
        assert [(o.device, o.release, o.activated) for o in report.outcomes] == [("a", old, True)]
        assert report.outcomes[0].sent_bytes < 5_000
        assert report.outcomes[0].sentence == f"went back to {report.outcomes[0].version} ({old[:12]})"
        assert states(job, second) == {"a": "rolled-back", "b": "confirmed"}
        assert (latest(job).kind, str(latest(job).state)) == ("rollback", "done")

        version = version_of(job, new)
        for named in (version, version[:-2]):  # as `litefleet devices` shows it, or so much that it is the only one
            if named != version:
                await back(job, to=old[:12], limit="a")
            assert (await back(job, to=named, limit="a")).exit_code == 0
            assert current(devices) == {"a": new, "b": new}
        with pytest.raises(UsageError, match=r"begins several versions; choose one of: \S+, "):
            await back(job, to=version[:6], limit="a")
        assert (await back(job, to=new[:12], limit="a")).exit_code == 0
        assert current(devices) == {"a": new, "b": new}

        for sentence in ("went back to nothing", "runs nothing, as before"):
            report = await back(job, to="nothing", limit="b")
            assert (report.exit_code, report.outcomes[0].sentence) == (0, sentence)
        assert current(devices) == {"a": new, "b": ""}

        refused = await back(job, to="deadbeef", limit="a")
        assert refused.exit_code == 1
        assert [f.code for f in refused.outcomes[0].findings] == ["LF613"]
        assert "deadbeef" in refused.outcomes[0].sentence
        assert current(devices) == {"a": new, "b": ""}


async def test_a_wave_and_then_the_fleet(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b", "c") as devices:
        job = project(devices)
        await rollout(job)
        old = current(devices)["a"]
        new_release(job, 3)
        job.policy(waves=[1, "100%"])
        await rollout(job)
        new, second = current(devices)["a"], latest(job).id

        assert (await back(job, rollout_id=second, wave=2)).exit_code == 0
        assert current(devices) == {"a": new, "b": old, "c": old}
        assert states(job, second) == {"a": "confirmed", "b": "rolled-back", "c": "rolled-back"}
        assert (await back(job, rollout_id=second)).exit_code == 0  # what is left of it
        assert current(devices) == {"a": old, "b": old, "c": old}
        assert set(states(job, second).values()) == {"rolled-back"}

        assert (await back(job, to=new[:8])).exit_code == 0  # the fleet, to a release that every device keeps
        assert set(current(devices).values()) == {new}


async def test_first_release_has_nothing_before_it(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        await rollout(job)
        runs = current(devices)
        preview = await asyncio.to_thread(plan_rollback, options(job), Target())
        assert "→ stays: nothing ran there before it (--to nothing switches it off), 1 device\n" in preview.text()
        assert [row["to"] for row in preview.to_dict()["devices"]] == [""]  # type: ignore[attr-defined]
        report = await back(job)
        assert report.exit_code == 1
        assert report.outcomes[0].findings[0].code == "LF613"
        assert "has no previous release" in report.outcomes[0].sentence
        assert current(devices) == runs


async def test_nothing_is_taken_back_while_a_rollout_is_under_way(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices, connect=2)
        await devices.kill("b")
        await rollout(job)  # stays open: b is queued
        runs = current(devices)
        output = await litefleet(job, "rollback", "--to", "nothing", "--yes")
        assert output.returncode == 3
        assert f"{latest(job).id} is open: a rollout is under way" in output.stderr
        assert "Traceback" not in output.stderr
        assert current(devices) == runs


def version_of(job: Project, release: str) -> str:
    """Return the version of a stored release."""
    with closing(open_state(load_config(job.folder / "litefleet.yaml"))) as state:
        return state.versions()[release]


@pytest.mark.parametrize("to", ["", "-1", "../../etc"])
async def test_a_target_that_can_be_none_is_refused_before_anything(to: str, project: Projects) -> None:
    job = project()
    with pytest.raises(UsageError, match="write previous, nothing, a version as"):
        await back(job, to=to)
    assert not (job.folder / ".litefleet").exists()


@pytest.mark.parametrize(
    ("to", "stored", "found"),
    [
        ("previous", [], "previous"),
        ("20261128", ["2026"], "20261128"),
        ("2026", ["2026", "2026-11"], "2026"),
        ("2026-11-27", ["2026-11-27-3fa9c1", "2026-11-28-3fa9c1"], "2026-11-27-3fa9c1"),
        (
            "2026-11",
            ["2026-11-27-3fa9c1", "2026-11-28-3fa9c1"],
            "begins several versions; choose one of: 2026-11-27-3fa9c1, ",
        ),
        ("latest", ["2.1"], "names no stored version; choose one of: 2.1."),
        ("2.1", [], "choose one of: none."),
    ],
)
def test_what_a_target_means_among_the_stored_versions(to: str, stored: list[str], found: str) -> None:
    if " " not in found:
        assert meant(to, stored) == found
        return
    with pytest.raises(UsageError) as refused:
        meant(to, stored)
    assert found in str(refused.value)
