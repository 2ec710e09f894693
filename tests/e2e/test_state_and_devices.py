"""On real devices and by the command line: a damaged, older or second state changes nothing until a person decides."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
import yaml
from litefleet_agent.releases.journal import Journal
from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import open_state
from litefleet_controller.operations.adopt import adopt_state, plan_adoption
from litefleet_controller.operations.plan import plan_rollout
from litefleet_controller.operations.reconcile import reconcile
from litefleet_controller.operations.resume import approve
from litefleet_controller.operations.rollback import Target, roll_back
from litefleet_controller.operations.rollout import start_rollout
from litefleet_controller.state import StateOlder

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import (
    audit,
    current,
    latest,
    litefleet,
    new_release,
    options,
    quiet,
    rollout,
    rows,
    states,
)


class Messages(QuietProgress):
    """Keeps what a command says."""

    text = ""

    def message(self, text: str) -> None:
        self.text += text + "\n"


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

        path.write_bytes(os.urandom(1000) + today[1000:])
        adoption = await plan_adoption(options(job), quiet)
        assert "state.db.id beside it says what it held" in adoption.text()
        assert (await adopt_state(options(job), quiet, adoption)).exit_code == 0
        assert len(list(path.parent.glob("state.db.damaged-*Z"))) == 1
        assert (await reconcile(options(job), quiet, repair=True)).exit_code == 0
        assert (current(devices), audit(job)[-1].action) == (new, "state adopted")
        new_release(job, 4)
        assert ((await rollout(job)).exit_code, set(current(devices).values()) & set(new.values())) == (0, set())


async def test_a_renamed_a_replaced_device_and_a_second_controller(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        job = project(devices)
        job.policy(waves=[1, "100%"], approve=True)
        await rollout(job)
        first = latest(job)
        assert (first.state, states(job)) == ("waiting", {"a": "confirmed", "b": "pending"})
        inventory = yaml.safe_load((job.folder / "fleet.yaml").read_text())["devices"]
        inventory = {"door": inventory["a"], "hall": inventory["b"]}
        job.inventory(yaml.safe_dump({"devices": inventory}, sort_keys=False))
        # Both are renamed in an open rollout: one that has the release, and one that waits for it.
        told = Messages()
        assert (await approve(options(job), lambda total: told, "", WaitPolicy.WAVES)).exit_code == 0
        assert "a is now door: it shows the same host key" in told.text
        assert "b is now hall" in told.text
        assert (latest(job).id, states(job)) == (first.id, {"door": "confirmed", "hall": "confirmed"})
        old = current(devices)
        assert len(set(old.values())) == 1

        await _replace(devices, "b")
        report = await reconcile(options(job), quiet, repair=True)
        assert (report.exit_code, current(devices)["b"]) == (1, "")
        (refused,) = [f.observed for o in report.outcomes for f in o.findings if f.code == "LF503"]
        assert re.search(r"shows SHA256:.*, known is SHA256:\S+ .*\(`host_key:` in the inventory\)", refused)
        inventory["hall"]["host_key"] = devices.devices["b"].host_public_key  # a person has compared it
        job.inventory(yaml.safe_dump({"devices": inventory}, sort_keys=False))
        report = await reconcile(options(job), lambda total: told, repair=False)
        found = [f.code for o in report.outcomes for f in o.findings if o.device == "hall"]
        assert (report.exit_code, found, current(devices)["b"]) == (1, ["LF601"], "")
        assert "hall shows the host key SHA256:" in told.text
        assert "it was replaced or reinstalled" in told.text
        told = Messages()
        assert (await reconcile(options(job), lambda total: told, repair=True)).exit_code == 0
        assert current(devices) == old
        assert "replaced" not in told.text  # it is the device by now

        job.policy()
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


async def _replace(devices: EmbeddedFleet, name: str) -> None:
    """Put another machine in a device's place: the same address, another host key, nothing of litefleet on it."""
    device = devices.devices[name]
    await devices.kill(name)
    shutil.rmtree(device.root)
    key = asyncssh.generate_private_key("ssh-ed25519")
    device.place.host_key.write_bytes(key.export_private_key())
    public = key.export_public_key()
    device.place.host_key.with_suffix(".pub").write_bytes(public)
    await devices.restart(name)
    shown = replace(devices.devices[name], host_public_key=" ".join(public.decode().split()[:2]))
    devices.devices[name] = shown


async def test_two_controllers_with_a_database_each_at_the_same_moment(fleet: Fleets, project: Projects) -> None:
    async with fleet("a", "b") as devices:
        desk = project(devices)
        laptop = Project(shutil.copytree(desk.folder, desk.folder.with_name("laptop")))
        new_release(laptop, 3)
        jobs = (desk, laptop)
        reports = await asyncio.gather(*(rollout(job) for job in jobs), return_exceptions=True)
        runs, leads = current(devices), {}
        for name, device in devices.devices.items():
            told = Journal(str(device.root)).read().told
            leads[name] = [job for job in jobs if _identity(job) == told.state]
            assert len(leads[name]) == 1, told
        for job, report in zip(jobs, reports, strict=True):
            ours = [name for name in leads if leads[name] == [job]]
            if isinstance(report, StateOlder):  # the other one had switched a device before this one had asked them
                assert "last switched by another state" in str(report)
                assert not ours
                continue
            assert not isinstance(report, BaseException), report
            assert report.exit_code == (0 if len(ours) == 2 else 1)
            for row in rows(job):
                assert (str(row.state) == "confirmed") == (row.device in ours), (row, ours)
                if row.device in ours:
                    assert runs[row.device] == row.release
                else:
                    assert set(row.codes) <= {"LF630", "LF508"}, row
        assert [getattr(report, "exit_code", 3) for report in reports] != [0, 0]

        report = await start_rollout(options(laptop), quiet, supersede=True, take_over=True)  # a person decides
        assert report.exit_code == 0
        assert len(set(current(devices).values())) == 1
        new_release(desk, 4)
        with pytest.raises(StateOlder, match="last switched by another state"):
            await start_rollout(options(desk), quiet, supersede=True)
        assert len(set(current(devices).values())) == 1


def _identity(job: Project) -> str:
    config = load_config(job.folder / "litefleet.yaml")
    with closing(open_state(config)) as state:
        return state.identity(config.fleet).state
