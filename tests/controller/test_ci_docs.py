"""What docs/ci.md gives to copy: the workflow, the GitLab job and the pre-commit hook, the last one run for real."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from litefleet_controller.cli import app

from tests.agent.support import nb_builder as build
from tests.conftest import environment, lacking

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "docs" / "examples" / "github-workflow.yml"
PAGES = (ROOT / "docs" / "ci.md", ROOT / "docs" / "ci.zh.md")


def blocks(page: Path) -> list[Any]:
    text = page.read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def check_parses(line: str) -> None:
    """The program's own parser takes the line: options, values and all."""
    program, name, *words = shlex.split(line, comments=True)
    assert program == "litefleet"
    command = vars(typer.main.get_command(app))["commands"][name]
    context = command.make_context(name, words)
    assert context.params


def lines_of(workflow: Any) -> Iterator[str]:
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            yield from (line for line in step.get("run", "").splitlines() if line.startswith("litefleet "))


def test_the_workflow_is_whole() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    lines = list(lines_of(workflow))
    assert lines == ["litefleet inspect --for aarch64 --sarif litefleet.sarif models/*.nb"]
    for line in lines:
        check_parses(line)
    steps = workflow["jobs"]["inspect"]["steps"]
    assert steps[-1]["with"]["sarif_file"] == "litefleet.sarif"
    assert steps[-1]["if"] == "${{ !cancelled() }}"  # a refused file's findings must be uploaded too
    assert workflow["permissions"]["security-events"] == "write"


def test_gitlab_and_pre_commit_say_what_exists() -> None:
    gitlab, pre_commit = blocks(PAGES[0])
    assert blocks(PAGES[1]) == [gitlab, pre_commit]
    for line in gitlab["models"]["script"]:
        if line.startswith("litefleet "):
            check_parses(line)
    (hook,) = pre_commit["repos"][0]["hooks"]
    (defined,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["id"] == defined["id"]
    check_parses(" ".join([defined["entry"], *hook["args"], "a.nb"]))


@pytest.mark.parametrize("page", PAGES)
def test_every_line_to_type_parses(page: Path) -> None:
    typed = re.findall(r"^litefleet inspect [^|\n]*", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(typed) == 5
    for line in typed:
        check_parses(line)


def run(*argv: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return subprocess.run(
        [str(a) for a in argv], cwd=cwd, env={**plain, **env}, capture_output=True, text=True, timeout=170, check=False
    )


def test_the_hook_in_a_real_repository(tmp_path: Path) -> None:
    """Takes about 20 s: pre-commit clones this checkout's last commit and installs it into an environment of its own."""
    if not shutil.which("git") or run("git", "rev-parse", "HEAD", cwd=ROOT).returncode:
        lacking("the checkout is no git repository, or there is no git")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = environment(f"pre-commit-{version}", version, "pre-commit==4.7.0")
    there = tmp_path / "repo"
    there.mkdir()
    hook = blocks(PAGES[0])[1]["repos"][0]
    hook.update(repo=str(ROOT), rev=run("git", "rev-parse", "HEAD", cwd=ROOT).stdout.strip())
    hook["hooks"][0]["args"] = ["--for", "x86_64"]
    (there / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [hook]}), encoding="utf-8")
    (there / "good one.nb").write_bytes(build.small())
    (there / "notes.md").write_text("text", encoding="utf-8")
    run("git", "init", "-q", there, cwd=there)

    def commit_checks() -> subprocess.CompletedProcess[str]:
        run("git", "add", ".", cwd=there)
        pre_commit = python.parent / "pre-commit"
        return run(pre_commit, "run", "--color=never", cwd=there, PRE_COMMIT_HOME=str(tmp_path / "home"))

    good = commit_checks()
    assert good.returncode == 0, good.stdout + good.stderr
    assert re.search(r"^litefleet inspect\.+Passed$", good.stdout, re.MULTILINE), good.stdout
    (there / "cut.nb").write_bytes(build.small()[:-3])
    bad = commit_checks()
    assert bad.returncode == 1
    assert "error LF105 nb-not-whole: " in bad.stdout
    assert "2 files, 1 refused" in bad.stdout
