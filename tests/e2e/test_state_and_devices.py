"""On real devices and by the command line: a damaged, older or second state changes nothing until a person decides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import audit, current, latest, litefleet, new_release, rollout, rows

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
        for words in (("status",), ("audit", "--check"), ("rollout",), ("reconcile", "--repair", "--json")):
            said = await litefleet(job, *words)
            assert said.returncode == 1, said.stdout
            assert "state.db is empty (0 bytes).  state.db.id beside it says what it held: fleet" in said.stderr
            assert "--json" not in words or json.loads(said.stdout)["exit_code"] == 1
        assert (path.read_bytes(), current(devices)) == (b"", new)

        path.write_bytes(yesterday)
        said = await litefleet(job, "reconcile", "--repair")
        assert (said.returncode, current(devices)) == (3, new), said.stderr
        assert "is older than state.db.id beside it" in said.stderr
        said = await litefleet(job, "status", "--json")
        assert (said.returncode, bool(json.loads(said.stdout)["older"])) == (0, True)
        said = await litefleet(job, "audit", "--check")
        assert (said.returncode, "the rest is missing" in said.stderr) == (1, True), said.stderr

        Path(f"{path}.id").unlink()  # the whole folder is yesterday's: only the devices know
        for words in (("reconcile",), ("reconcile", "--repair", "--json"), ("rollout",), ("rollback", "--yes")):
            said = await litefleet(job, *words)
            assert (said.returncode, current(devices)) == (3, new), said.stderr
            assert "LF630 a, b: a was last switched under number" in said.stderr
        planned = json.loads((await litefleet(job, "plan", "--json")).stdout)
        assert {d["state"] for d in planned["devices"]} == {"blocked"}

        assert (await litefleet(job, "state", "adopt")).returncode == 2
        shown = json.loads((await litefleet(job, "state", "adopt", "--dry-run", "--json")).stdout)
        assert {d["device"]: d["runs"]["cls"] for d in shown["devices"]} == new
        said = await litefleet(job, "state", "adopt", "--yes", "--json")
        assert said.returncode == 0, said.stderr
        assert audit(job)[-1].action == "state adopted"
        said = await litefleet(job, "reconcile", "--repair")
        assert (said.returncode, current(devices)) == (0, new), said.stderr
        path.write_bytes(today)  # and now that copy is the older one
        assert (await litefleet(job, "reconcile")).returncode == 3


async def test_a_second_controller_and_a_renamed_device(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        await rollout(job)
        first, old = latest(job), current(devices)
        inventory = devices.inventory()["devices"]
        assert isinstance(inventory, dict)
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
        said = await litefleet(laptop, "rollout", "--take-over")
        assert said.returncode == 0, said.stderr
        new = current(devices)
        assert all(new[name] != old[name] for name in old)
        new_release(job, 4)
        said = await litefleet(job, "rollout")
        assert (said.returncode, current(devices)) == (3, new), said.stderr
