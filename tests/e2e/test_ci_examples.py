"""docs/examples/ci: every step of the workflows runs as it is printed, against a real fleet.

Here cannot run, and so only is looked at or recorded: steps with `uses:` (GitHub's own programs), `pip install litefleet` (this
tree is on PATH instead), `gh` and `curl`, which post to a server.  ARCH is this machine's, in place of the example's aarch64.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.accuracy_models import accuracy_models
from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import current, environment

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "ci"
Runner = Callable[[str, Mapping[str, str]], "subprocess.CompletedProcess[str]"]


def document(name: str) -> Any:
    return yaml.load((EXAMPLES / name).read_text(encoding="utf-8"), yaml.BaseLoader)  # BaseLoader: `on` stays a word


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """The environment of a runner: litefleet, and programs that record how they were called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("pip", "gh", "curl"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\n')
        (tools / name).chmod(0o755)
    env = {k: v for k, v in environment().items() if not k.startswith(("SSH_", "GITHUB_", "CI"))}
    return {**env, "PATH": f"{tools}:{Path(sys.executable).parent}:{env['PATH']}"}


def prepare(job: Project, devices: EmbeddedFleet) -> str:
    """Write a project whose devices are logged in to by an agent's key; return the private key."""
    entries = {name: dict(device.inventory_entry()) for name, device in devices.devices.items()}
    for entry in entries.values():
        entry.pop("key")
    entries["a"]["tags"] = ["bench"]
    job.inventory(yaml.safe_dump({"devices": entries}))
    made = accuracy_models()
    for picture in (made / "data" / "shapes").glob("*/0[01].png"):
        copy = job.folder / "shapes" / picture.parent.name / picture.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(picture.read_bytes())
    golden = {"engine": "paddlelite", "dataset": "shapes", "metric": "top1"}
    model = {"source": str(made / "classifier"), "preprocess": {"mean": [0.5], "std": [0.5]}, "golden": golden}
    job.config(models={"shapes": model})
    return devices.key_path.read_text()


def run(script: str, job: Project, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    argv = ["bash", "-e", "-c", script]
    return subprocess.run(argv, cwd=job.folder, env=dict(env), capture_output=True, text=True, timeout=300, check=False)


def github(name: str, job: Project, env: dict[str, str], values: Mapping[str, str]) -> list[str]:
    """Run one job's `run:` steps as GitHub does: `bash -e`, a new GITHUB_ENV for each; return the names of all steps."""
    flow = document("github-fleet.yml")
    env |= {**flow["env"], "ARCH": os.uname().machine, "GITHUB_STEP_SUMMARY": str(job.folder / "summary.md")}
    names = []
    for number, step in enumerate(flow["jobs"][name]["steps"]):
        names.append(step.get("name", step.get("uses")))
        if "uses" in step:
            assert re.fullmatch(r"[a-z-]+/[a-z/-]+@v\d+", step["uses"]), step
            continue
        for file in re.findall(r"hashFiles\('([^']+)'\)", step.get("if", "")):
            assert (job.folder / file).stat().st_size, f"{step['name']} would be left out: {file} is missing"
        own = {k: re.sub(r"\$\{\{ (\S+) \}\}", lambda m: values[m[1]], v) for k, v in step.get("env", {}).items()}
        exports = job.folder / f"github-env-{number}"
        exports.touch()
        done = run(step["run"], job, {**env, **own, "GITHUB_ENV": str(exports)})
        assert done.returncode == 0, f"{step['run']}\n{done.stdout}{done.stderr}"
        env |= dict(line.split("=", 1) for line in exports.read_text().splitlines())
    return names


def gitlab(name: str, job: Project, env: Mapping[str, str]) -> None:
    """Run a job as GitLab does: before_script and script as one script, each line's failure ending it."""
    flow = document("gitlab-fleet.yml")
    lines = [*flow["default"]["before_script"], *flow[name]["script"]]
    done = run("set -o pipefail\n" + "\n".join(lines), job, {**env, **flow["variables"], "ARCH": os.uname().machine})
    assert done.returncode == 0, done.stdout + done.stderr
    for path in [*flow[name]["artifacts"]["paths"], flow[name]["artifacts"]["reports"]["junit"]]:
        assert (job.folder / path).stat().st_size, path


def junit_cases(job: Project) -> tuple[str | None, str | None]:
    (suite,) = ElementTree.parse(job.folder / "junit.xml").getroot()
    return suite.get("tests"), suite.get("failures")


async def ended(pid: str) -> bool:
    """Return whether a process ends: `ssh-agent -k` only sends the signal, and does not wait for it."""
    for _ in range(300):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.timeout(600)
async def test_both_platforms_plan_and_roll_out(
    fleet: Callable[..., EmbeddedFleet],
    project: Callable[..., Project],
    surroundings: dict[str, str],
    tmp_path: Path,
) -> None:
    values = {"github.token": "t", "github.event.pull_request.number": "7"}
    async with fleet("a", "b") as devices:
        job = project(devices)
        values["secrets.FLEET_SSH_KEY"] = prepare(job, devices)

        env = dict(surroundings)
        await asyncio.to_thread(github, "plan", job, env, values)
        assert set(current(devices, "shapes").values()) == {""}  # a pull request changes nothing
        assert await ended(env["SSH_AGENT_PID"])
        assert (job.folder / "plan.md").read_text().startswith("## litefleet plan: 2 to change\n")
        assert json.loads((job.folder / "litefleet.sarif").read_text())["version"] == "2.1.0"
        assert junit_cases(job) == ("1", "0")  # the bench
        assert "evaluate" in (job.folder / "summary.md").read_text()

        env = dict(surroundings)
        await asyncio.to_thread(github, "rollout", job, env, values)
        assert "" not in current(devices, "shapes").values()
        assert junit_cases(job) == ("2", "0")
        assert "## litefleet rollout: 2 verified" in (job.folder / "summary.md").read_text()

        key = tmp_path / "file-variable"
        key.write_text(values["secrets.FLEET_SSH_KEY"])
        variables = {"FLEET_SSH_KEY": str(key), "GITLAB_TOKEN": "t", "CI_API_V4_URL": "https://gitlab/api/v4"}
        variables |= {"CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "8"}
        for name in ("plan", "rollout"):
            await asyncio.to_thread(gitlab, name, job, {**surroundings, **variables})
        assert (job.folder / "plan.md").read_text().startswith("## litefleet plan: 2 unchanged\n")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if not call.startswith("pip")] == [
        "gh pr comment 7 --body-file plan.md --edit-last --create-if-none",
        "curl --fail --silent --show-error --header PRIVATE-TOKEN: t --data-urlencode body@plan.md"
        " https://gitlab/api/v4/projects/3/merge_requests/8/notes",
    ]
    assert calls.count("pip install litefleet") == 4


def test_nobody_from_outside_gets_the_key_and_a_person_approves() -> None:
    flow, lab = document("github-fleet.yml"), document("gitlab-fleet.yml")
    assert "head.repo.full_name == github.repository" in flow["jobs"]["plan"]["if"]
    assert (flow["jobs"]["rollout"]["if"], flow["jobs"]["rollout"]["environment"]) == (
        "github.event_name == 'push'",
        "fleet",
    )
    assert flow["permissions"] == {"contents": "read"}
    assert flow["on"] == {"pull_request": "", "push": {"branches": ["main"]}}  # never pull_request_target
    assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID" in lab["plan"]["rules"][0]["if"]
    assert lab["rollout"]["rules"] == [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", "when": "manual"}]
    assert {flow["concurrency"]["group"], lab["plan"]["resource_group"], lab["rollout"]["resource_group"]} == {"fleet"}
    for name in ("github-fleet.yml", "gitlab-fleet.yml"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert not re.search(r"BEGIN .*PRIVATE KEY|password\s*:", text)
