"""What every command has: the language of its messages, quiet, and prose without markup on a terminal."""

from __future__ import annotations

import inspect
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.cli.common import Stdout, app, progress_for
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.reports.terminal import Page
from typer.testing import CliRunner

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 2345678\n" % (b"ab" * 32)


@pytest.fixture
def pointer(tmp_path: Path) -> Path:
    path = tmp_path / "m.nb"
    path.write_bytes(POINTER)
    return path


def test_every_command_takes_a_language_and_quiet() -> None:
    for command in app.registered_commands:
        names = inspect.signature(command.callback).parameters
        assert {"lang", "quiet"} <= set(names), command.callback.__name__


@pytest.mark.parametrize("command", ["doctor", "inspect"])
def test_causes_and_remedies_are_in_the_chosen_language(command: str, pointer: Path) -> None:
    chinese = re.compile(r"请给出 `litefleet convert`")
    for env, args, expected in (
        ({"LC_ALL": "C", "LITEFLEET_LANG": ""}, [], False),
        ({"LC_ALL": "C", "LITEFLEET_LANG": ""}, ["--lang", "zh"], True),
        ({"LC_ALL": "C", "LITEFLEET_LANG": "zh"}, [], True),
        ({"LC_ALL": "zh_CN.UTF-8", "LITEFLEET_LANG": ""}, [], True),
        ({"LC_ALL": "zh_CN.UTF-8", "LITEFLEET_LANG": ""}, ["--lang", "en"], False),
    ):
        shown = CliRunner(env=env).invoke(app, [command, str(pointer), *args]).stdout
        assert bool(chinese.search("".join(shown.split("\n     ")))) == expected, (env, args, shown)
        assert "git lfs pull" in shown


def test_doctors_last_line_is_in_the_language_too(pointer: Path) -> None:
    shown = CliRunner().invoke(app, ["doctor", str(pointer), "--lang", "zh"]).stdout
    assert shown.rstrip().endswith("1 个错误；先处理 LF106：`litefleet explain LF106` 给出步骤")
    shown = CliRunner().invoke(app, ["doctor", str(pointer), "--lang", "en"]).stdout
    assert shown.rstrip().endswith("1 error; begin with LF106: `litefleet explain LF106` has the steps")


def test_an_error_of_findings_is_in_the_language_and_the_document_is_not(tmp_path: Path) -> None:
    (tmp_path / "litefleet.yaml").write_text("models:\n  m: {source: gone}\n")
    call = [sys.executable, "-m", "litefleet_controller", "convert", str(tmp_path), "--lang", "zh", "--json"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode in (1, 2)
    assert not re.search(r"[\u4e00-\u9fff]", done.stdout)


def test_an_unknown_language_is_one_sentence(pointer: Path) -> None:
    done = CliRunner(env={"LITEFLEET_LANG": "klingon"}).invoke(app, ["doctor", str(pointer)])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "LITEFLEET_LANG klingon: unknown language. Available: en, zh."


def test_quiet_shows_no_progress(pointer: Path) -> None:
    CliRunner().invoke(app, ["doctor", str(pointer), "--quiet"])
    assert Stdout.quiet
    assert isinstance(progress_for(False)(5), QuietProgress)
    CliRunner().invoke(app, ["doctor", str(pointer)])
    assert not Stdout.quiet
    assert not isinstance(progress_for(False)(5), QuietProgress)


_PROGRESS = {  # what each command that shows progress needs
    "bundle": ["--out", "out"],
    "infer": ["x.npy"],
    "state": ["adopt", "--yes"],
    "demo": ["used"],  # a folder with files of somebody's: it ends there
    "rollback": ["--yes"],
    **{key: ["r1"] for key in ("retry", "resume", "approve")},
    **{
        key: []
        for key in ("advise", "bench", "doctor", "evaluate", "plan", "probe", "reconcile", "rollout", "trust", "verify")
    },
}


def _shows_progress(function: Callable[..., object]) -> bool:
    """Whether a command makes a display, itself or by a function of its module that it calls."""
    function = inspect.unwrap(function)
    sources = [inspect.getsource(function)]
    called = re.findall(r"\b(_\w+)\(", sources[0])
    sources += [inspect.getsource(one) for name in called if inspect.isfunction(one := function.__globals__.get(name))]
    return any(word in source for source in sources for word in ("progress_for(", "run_demo("))


def test_every_command_that_shows_progress_is_tried_with_quiet() -> None:
    shown = {one.name for one in app.registered_commands if one.callback and _shows_progress(one.callback)}
    assert shown == set(_PROGRESS)


@pytest.mark.parametrize("command", _PROGRESS)
def test_quiet_is_taken_by_each_and_shows_no_progress(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that refuses the connection; without --quiet `probe` has a line for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    (tmp_path / "litefleet.yaml").write_text(
        "inventory: fleet.yaml\nmodels: {cls: {nb: {x86_64: cls.nb}, golden: {files: [a.npz, b.npz]}}}\n"
        "ssh: {connect_time_limit_s: 2}\n"
    )
    (tmp_path / "fleet.yaml").write_text("devices:\n  cam-1: {host: 127.0.0.1, port: 1}\n")
    done = CliRunner().invoke(app, [command, *_PROGRESS[command], "--quiet"])
    assert not isinstance(done.exception, SystemExit) or done.exit_code != 2, done.stderr
    assert "cam-1" not in done.stderr
    assert "litefleet demo" not in done.stderr
    assert isinstance(progress_for(False)(1), QuietProgress)
    if command == "probe":
        assert done.stderr == ""
        assert "[1/1] cam-1" in CliRunner().invoke(app, [command]).stderr


def test_prose_on_a_terminal_has_bold_commands_and_a_pipe_has_backquotes() -> None:
    for color, expected in ((True, "type \x1b[1mlitefleet docs\x1b[0m now"), (False, "type `litefleet docs` now")):
        page = Page(80, color)
        page.line("type `litefleet docs` now")
        page.field("do", "type `litefleet docs` now")
        assert page.text.count(expected) == 2
        assert ("`" in page.text) is not color


def test_an_error_on_a_terminal_has_no_backquotes() -> None:
    ours, theirs = pty.openpty()
    call = [sys.executable, "-m", "litefleet_controller", "docs", "nonsense"]
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    done = subprocess.run(call, stdout=subprocess.DEVNULL, stderr=theirs, env=env, check=False)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 2
    assert "`" not in shown
    assert "\x1b[1mlitefleet docs\x1b[22m lists them" in shown
