"""`from litefleet.fabric import *` in one's own fabfile, under the real `fab`, from an otherwise empty folder."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project, _shared_cache, fleet, project
from tests.e2e.rollout_helpers import current, environment, latest

__all__ = ["_shared_cache", "fleet", "project"]  # fixtures

FABFILE = """\
from fabric import task
from litefleet.fabric import *


@task
def home(c, limit):
    for name, connection in connections(open_project(CONFIG, limit=limit)):
        print(name, connection.run("echo $HOME", hide=True).stdout.strip())
"""


def fab(folder: Path, *words: str, code: int = 0) -> str:
    argv = [str(Path(sys.executable).parent / "fab"), *words]
    done = subprocess.run(argv, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(600)
async def test_a_fabfile_of_ones_own(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    async with fleet("a", "b") as devices:
        job = project(devices)
        config = str(job.folder / "litefleet.yaml")
        (folder / "fabfile.py").write_text(FABFILE.replace("CONFIG", repr(config)))

        async def said(*words: str, code: int = 0) -> str:
            return await asyncio.to_thread(fab, folder, *words, code=code)

        listed = await said("--list")
        tasks = ("abort", "home", "pause", "plan", "resume", "rollback", "rollout", "run", "status", "verify")
        assert [name for line in listed.splitlines() for name in line.split()[:1] if name in tasks] == list(tasks)
        assert "2 to change" in await said("plan", "--config", config)
        assert set(current(devices).values()) == {""}
        assert "2 verified" in await said("rollout", "--config", config, "status", "--config", config)
        assert "" not in current(devices).values()
        shown = await said("rollback", "--to", "nothing", "--config", config, code=4)
        assert "nothing was changed" in shown
        assert "" not in current(devices).values()
        ran = await said("run", "--limit", "a", "--config", config, "--command", "echo $0; exit 3", code=1)
        assert "a: exit code 3" in ran
        assert "failed on 1 of 1: a" in ran
        await devices.kill("b")
        found = await said(
            "home", "--limit", "a", "run", "--limit", "*", "--config", config, "--command", "true", code=1
        )
        assert f"a {devices.devices['a'].place.home}" in found
        assert "b: LF501" in found
    assert str(latest(job).state) == "done"


def test_a_mistake_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "fabfile.py").write_text(FABFILE)
    assert "litefleet.yaml" in fab(tmp_path, "plan", code=2)
    assert "litefleet: " in fab(tmp_path, "pause", "--config", "none.yaml", code=2)
