"""On real devices and by the command line: a damaged, older or second state changes nothing until a person decides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.operations.plan import plan_rollout
from litefleet_controller.operations.reconcile import reconcile
from litefleet_controller.operations.rollback import Target, roll_back
from litefleet_controller.operations.rollout import start_rollout
from litefleet_controller.state import StateOlder

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import audit, current, latest, litefleet, new_release, options, quiet, rollout, rows

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


async def test_a_damaged_and_an_older_database(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        path = job.folder / ".litefleet" / "state.db"
        yesterday = path.read_bytes()
        new_release(job, 3)
        await rollout(job)
        new, today = current(devices), path.read_bytes()

        path.write_bytes(b"")
        said = await litefleet(job, "reconcile", "--repair", "--json")
        assert "state.db is empty (0 bytes).  state.db.id beside it says what it held: fleet" in said.stderr
        assert (said.returncode, json.loads(said.stdout)["exit_code"]) == (1, 1)
        said = await litefleet(job, "audit", "--check")
        assert (said.returncode, "is empty (0 bytes)" in said.stderr) == (1, True)
        assert (path.read_bytes(), current(devices)) == (b"", new)

        path.write_bytes(yesterday)
        with pytest.raises(StateOlder, match=r"is older than state\.db\.id beside it"):
            await reconcile(options(job), quiet, repair=True)
        said = await litefleet(job, "status", "--json")
        assert (said.returncode, bool(json.loads(said.stdout)["older"])) == (0, True)

        Path(f"{path}.id").unlink()  # the whole folder is yesterday's: only the devices know
        said = await litefleet(job, "reconcile", "--repair", "--json")
        assert (said.returncode, json.loads(said.stdout)["exit_code"], current(devices)) == (3, 3, new), said.stderr
        assert "LF630 a, b: a was last switched under number" in said.stderr
        for act in (rollout(job), roll_back(options(job), quiet, Target())):
            with pytest.raises(StateOlder, match="LF630 a, b"):
                await act
        planned = await plan_rollout(options(job), quiet)
        assert ({str(row.state) for row in planned.rows}, current(devices)) == ({"blocked"}, new)

        said = await litefleet(job, "state", "adopt")
        assert (said.returncode, "add --yes, or --dry-run" in said.stderr) == (2, True)
        said = await litefleet(job, "state", "adopt", "--yes", "--json")
        assert said.returncode == 0, said.stderr
        assert audit(job)[-1].action == "state adopted"
        assert (await reconcile(options(job), quiet, repair=True)).exit_code == 0
        assert current(devices) == new
        path.write_bytes(today)  # and now that copy is the older one
        with pytest.raises(StateOlder):
            await reconcile(options(job), quiet)


async def test_a_second_controller_and_a_renamed_device(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        first, old = latest(job), current(devices)
        inventory = yaml.safe_load((job.folder / "fleet.yaml").read_text())["devices"]
        renamed = {"a": inventory["a"], "hall": inventory["b"]}
        job.inventory(yaml.safe_dump({"devices": renamed}, sort_keys=False))
        said = await litefleet(job, "reconcile")
        assert (said.returncode, "b is now hall" in said.stderr) == (0, True), said.stderr
        assert [row.device for row in rows(job, first.id)] == ["a", "hall"]

        laptop = Project(shutil.copytree(job.folder, job.folder.with_name("laptop")))
        for file in (laptop.folder / ".litefleet").glob("state.db*"):
            file.unlink()
        new_release(laptop, 3)
        said = await litefleet(laptop, "rollout", "--json")
        assert (said.returncode, current(devices)) == (3, old), said.stderr
        assert "last switched by another state" in json.loads(said.stdout)["error"]["message"]
        assert (await start_rollout(options(laptop), quiet, take_over=True)).exit_code == 0
        new = current(devices)
        assert all(new[name] != old[name] for name in old)
        new_release(job, 4)
        with pytest.raises(StateOlder, match="last switched by another state"):
            await rollout(job)
        assert current(devices) == new
