"""The commands that the demo prints start this program, and parse as printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from litefleet_controller.demo.demo import next_steps

CONFIG = "inventory: fleet.yaml\nmodels: {m: {source: model, inputs: {x: [1]}}}\n"


def commands(folder: Path, keep_running: bool) -> list[list[str]]:
    return [shlex.split(line) for line in next_steps(folder, keep_running) if line.startswith("  ")]


def run(argv: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("keep_running", [True, False])
def test_every_printed_command_starts_from_where_the_operator_is(
    keep_running: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("a demo")  # relative to the current folder, and in need of quotes
    monkeypatch.chdir(tmp_path)
    folder.mkdir()
    (folder / "litefleet.yaml").write_text(CONFIG)
    (folder / "fleet.yaml").write_text("devices: {}\n")
    monkeypatch.setattr(sys, "argv", ["/nowhere/litefleet/__main__.py"])  # as `python -m litefleet` sets it
    printed = commands(folder, keep_running)
    assert len(printed) >= 4
    by_name = {
        argv[3]: argv for argv in printed
    }  # python -m litefleet COMMAND: the tests do not run `litefleet` itself
    assert ("rollout" in by_name) == keep_running  # only where the fleet still runs
    assert run(by_name["explain"], tmp_path).returncode == 0
    assert "no rollout" in run(by_name["status"], tmp_path).stderr
    for name in {"rollout", "plan"} & set(by_name):
        assert "no device is selected" in run(by_name[name], tmp_path).stderr
    for argv in printed:
        known = run([*argv[:4], "--help"], tmp_path)
        assert known.returncode == 0, argv
        for option in (word for word in argv[4:] if word.startswith("--")):
            assert option in known.stdout


def test_the_installed_program_is_named_as_it_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv" / "bin" / "litefleet"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/litefleet", "demo"])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert commands(Path("d"), False)[0][0] == ".venv/bin/litefleet"
    monkeypatch.setenv("PATH", str(program.parent))
    assert commands(Path("d"), False)[0][0] == "litefleet"
