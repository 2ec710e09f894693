"""The agent's command line: each command's usage, its exit code for wrong usage, and its help."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from litefleet_agent.cli import main

from tests.conftest import find_python, lacking

AGENT = Path(__file__).parents[2] / "agent"
USAGES = {
    "facts": "",
    "inspect": " FILE",
    "recover": " [--root ROOT]",
    "install": " FILE [--root ROOT] [--trust ALLOWED_SIGNERS] [--json]",
    "serve": " [--root ROOT]",
    "verify": " [--root ROOT] [--json]",
    "check": " [--root ROOT] [--deep] [--json]",
    "bench": " MODEL [--release ID] [--against ID|previous] [--runs N] [--seconds S] [--threads 1,2] [--workers 1,2]\n"
    "             [--low-priority] [--root ROOT] [--json]",
    "call": " [MODEL] --input FILE.npz [--output FILE.npz] [--deadline-ms N] [--socket PATH] [--timeout-s N]",
    "status": " [--socket PATH] [--timeout-s N]",
    "health": " [--socket PATH] [--timeout-s N]",
    "models": " [--socket PATH] [--timeout-s N]",
    "metrics": " [--socket PATH] [--timeout-s N]",
}


@pytest.mark.parametrize("command", USAGES)
def test_a_commands_usage_and_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    usage = f"usage: litefleet-agent {command}{USAGES[command]}\n"
    assert main([command, "--no-such-option"]) == 2
    assert capsys.readouterr().err.startswith(usage)
    assert main([command, "-h"]) == 0
    assert capsys.readouterr().out.startswith(usage)


@pytest.mark.parametrize("args", [[], ["reboot"], ["--root", "/x"], ["fact"]])
def test_without_a_command_all_usages_are_listed(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: litefleet-agent facts\n     | inspect FILE\n")
    assert all(f"| {command}{usage}\n" in err for command, usage in list(USAGES.items())[1:])


def test_wrong_values_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for args, words in (
        (["status", "--timeout-s", "soon"], "'soon' is not a number above 0 and below 1e9"),
        (["status", "--timeout-s", "nan"], "'nan' is not a number above 0 and below 1e9"),
        (["bench", "m", "--workers", "1;2"], "'1;2' is not a list of whole numbers, as in 1,2"),
        (["bench", "m", "--runs", "many"], "invalid int value: 'many'"),
        (["recover", "--roo", "/x"], "unrecognized arguments: --roo /x"),
    ):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert f"litefleet-agent {args[0]}: error: " in err
        assert words in err


@pytest.mark.parametrize("version", ["3.7", "3.13"])
def test_old_and_new_pythons(version: str, tmp_path: Path) -> None:
    python = find_python(version)
    if python == version:
        lacking(f"no Python {version} in pyenv's folder")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from litefleet_agent.cli import main; sys.exit(main())"

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, "-c", code, str(AGENT), *args], capture_output=True, text=True, timeout=60)

    done = run("recover", "--root", str(tmp_path))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"undone": [], "busy": False})
    done = run("install", "a", "b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: litefleet-agent install FILE ")
    assert run("verify", "--help").returncode == 0
