"""Commands in messages work as printed: the program that was started, and the project's -c."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from litefleet_controller.common.typed_commands import (
    DEFAULT_CONFIG,
    Invocation,
    as_typed,
    commands_as_typed,
    started_program,
    use_config,
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Each test begins and ends with the usual program and project."""
    yield
    Invocation.program, Invocation.config = "litefleet", ""


def test_in_the_projects_folder_nothing_is_added() -> None:
    use_config(DEFAULT_CONFIG)
    assert commands_as_typed("next: `litefleet status r-1`") == "next: `litefleet status r-1`"
    assert as_typed("litefleet status r-1") == "litefleet status r-1"


def test_the_program_and_the_project_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Invocation, "takes_config", frozenset({"status", "reconcile"}))
    Invocation.program = ".venv/bin/litefleet"
    use_config(Path("a demo/litefleet.yaml"))
    assert as_typed("litefleet status r-1") == ".venv/bin/litefleet status r-1 -c 'a demo/litefleet.yaml'"
    said = "try `litefleet explain LF101`, `litefleet reconcile` or `resume`; `litefleet status -c x.yaml` is whole"
    assert commands_as_typed(said) == (
        "try `.venv/bin/litefleet explain LF101`, `.venv/bin/litefleet reconcile -c 'a demo/litefleet.yaml'` or `resume`; "
        "`.venv/bin/litefleet status -c x.yaml` is whole"
    )
    assert commands_as_typed("litefleet status, in prose") == "litefleet status, in prose"


def test_the_program_is_named_as_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin dir" / "litefleet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert started_program() == shlex.quote(str(program))
    monkeypatch.setenv("PATH", str(program.parent))
    assert started_program() == "litefleet"
    monkeypatch.setattr(sys, "argv", ["/x/litefleet/__main__.py"])
    assert started_program() == f"{shlex.quote(sys.executable)} -m litefleet"
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert started_program() == "litefleet"


def test_an_error_elsewhere_names_the_project(tmp_path: Path) -> None:
    """The printed command, run as printed, finds the same project."""
    (tmp_path / "litefleet.yaml").write_text("inventory: fleet.yaml\nmodels: {m: {source: model, inputs: {x: [1]}}}\n")
    (tmp_path / "fleet.yaml").write_text("devices: {}\n")
    argv = [sys.executable, "-m", "litefleet", "status", "r-20261123-0001", "-c", str(tmp_path / "litefleet.yaml")]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    printed = [part for part in ended.stderr.split("`") if " status " in part]
    assert printed, ended.stderr
    again = subprocess.run(printed[0], shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (again.returncode, "Traceback" in again.stderr) == (0, False), again.stderr
    assert "No rollouts yet." in again.stdout
