"""The version of before the restructuring (b9da3ce) meets this one: its agent under this controller, and the reverse.

The old version is built from git's history; where that is missing (a shallow clone, a source archive), the tests say so.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive

from tests.conftest import lacking
from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import current, new_release

CHECKOUT = Path(__file__).parents[2]
OLD = "b9da3ce"
PARTS = ("agent", "inventory", "controller", "systemd")
# Runs a version's command line with the agent archive in a file, as if that version had been installed with it.
DRIVER = """
import hashlib, sys
from importlib import import_module
module = import_module(sys.argv[1])
data = open(sys.argv[2], "rb").read()
archive = module.AgentArchive(data, hashlib.sha256(data).hexdigest())
module.agent_archive = lambda kept=None: archive
sys.argv[1:] = sys.argv[3:]
from litefleet_controller.cli import main
main()
"""


@dataclass(frozen=True)
class Version:
    """One version of litefleet: its source tree, the module that builds its agent archive, and that archive."""

    tree: Path
    builder: str
    agent: Path

    def run(self, job: Project, agent: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this version's controller, which sends `agent`."""
        argv = [sys.executable, "-c", DRIVER, self.builder, str(agent), *words]
        argv += ["-c", str(job.folder / "litefleet.yaml")]
        path = os.pathsep.join(str(self.tree / part) for part in PARTS[:3])
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(argv, capture_output=True, text=True, env=env, cwd=job.folder, check=False)

    def report(self, job: Project, agent: Path, *words: str) -> dict[str, Any]:
        """Run a command with --json and return its document; it must succeed."""
        done = self.run(job, agent, *words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Return the old version, exported from git's history."""
    folder = tmp_path_factory.mktemp("old")
    done = subprocess.run(["git", "archive", OLD, *PARTS], cwd=CHECKOUT, capture_output=True, check=False)
    if done.returncode:
        lacking(
            f"git's history here lacks {OLD}, the version of before: {done.stderr.decode(errors='replace').strip()}"
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(folder, filter="data")
    agent = folder / "agent.pyz"
    code = (
        "import sys; from litefleet_controller.pyz import agent_archive; sys.stdout.buffer.write(agent_archive().data)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder / part) for part in PARTS[:3])}
    agent.write_bytes(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    return Version(folder, "litefleet_controller.pyz", agent)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Return this version."""
    agent = tmp_path_factory.mktemp("new") / "agent.pyz"
    agent.write_bytes(agent_archive().data)
    return Version(CHECKOUT, "litefleet_controller.devices.agent_archive", agent)


def test_the_two_agents_differ(old: Version, new: Version) -> None:
    """A driver that sent this version's own agent under the other's name would prove nothing."""
    digests = {hashlib.sha256(version.agent.read_bytes()).hexdigest() for version in (old, new)}
    assert len(digests) == 2


@pytest.mark.parametrize("who", ["new controller, old agent", "old controller, new agent"])
async def test_a_controller_works_with_the_other_versions_agent(
    who: str, old: Version, new: Version, fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    controller, agent = (new, old.agent) if who.startswith("new") else (old, new.agent)
    async with fleet("a", "b") as devices:
        job = project(devices)
        first = controller.report(job, agent, "rollout")
        assert {d["device"]: (d["verdict"], d["activated"]) for d in first["devices"]} == dict.fromkeys(
            ("a", "b"), ("verified", True)
        )
        again = controller.report(job, agent, "rollout")
        assert [(d["unchanged"], d["round_trips"]) for d in again["devices"]] == [(True, 1), (True, 1)]
        assert [d["verdict"] for d in controller.report(job, agent, "verify")["devices"]] == ["verified", "verified"]

        case = job.folder / "case.npz"
        np.savez(case, x=np.zeros((1, 3, 48, 192), "float32"))
        answers = controller.report(job, agent, "infer", str(case), "-m", "cls")
        assert {d["verdict"] for d in answers["devices"]} == {"verified"}

        running = current(devices)
        new_release(job, 3)
        controller.report(job, agent, "rollout")
        assert set(current(devices).values()).isdisjoint(running.values())


async def test_what_one_version_left_on_disk_the_other_goes_on_with(
    old: Version, new: Version, fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        old.report(job, old.agent, "rollout")
        first = current(devices)
        shutil.copytree(job.folder / ".litefleet", job.folder / "kept-by-old")

        # On the old version's database and the old agent's release.  This version may make more golden cases, so that the
        # release is another one; then the cases travel, and the model's file does not.
        (upgraded,) = new.report(job, new.agent, "rollout")["devices"]
        assert upgraded["verdict"] == "verified"
        assert upgraded["sent_bytes"] < 1_300_000  # with the agent's bytecode
        (again,) = new.report(job, new.agent, "rollout")["devices"]
        assert again["unchanged"]
        first = current(devices)
        new_release(job, 3)
        new.report(job, new.agent, "rollout")
        assert current(devices) != first

        shutil.rmtree(job.folder / ".litefleet")
        shutil.move(job.folder / "kept-by-old", job.folder / ".litefleet")
        verified = old.report(job, old.agent, "verify")  # the old agent reads what the new one wrote
        assert [d["verdict"] for d in verified["devices"]] == ["verified"]
