"""Help in Chinese: every text is translated, none is left over, lines fit, and English help loads no catalogue."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from litefleet_controller.catalogue.wrap import wrapped
from litefleet_controller.cli.common import app
from litefleet_controller.cli.help import CLICK_WORDS, OTHER, SECTIONS, paragraphs_of
from rich.cells import cell_len as columns
from typer.main import get_command

TEXTS: dict[str, str] = json.loads(
    (files("litefleet_controller.catalogue") / "messages" / "help.zh.json").read_text(encoding="utf-8")
)
ROOT = get_command(app)
COMMANDS: dict[str, Any] = ROOT.commands  # type: ignore[attr-defined]


def texts_of(command: Any) -> Iterator[str]:
    yield from paragraphs_of(command.help)
    for parameter in command.params:
        yield from paragraphs_of(getattr(parameter, "help", None) or "")


def every_text() -> set[str]:
    found = {text for command in (ROOT, *COMMANDS.values()) for text in texts_of(command)}
    return found | {*SECTIONS, OTHER, *CLICK_WORDS}


def test_every_text_of_every_command_has_a_translation_and_none_is_stale():
    assert every_text() - set(TEXTS) == set()
    assert set(TEXTS) - every_text() == set()


def test_translations_keep_options_and_code():
    for english, chinese in TEXTS.items():
        for word in english.split("`")[1::2] + [w for w in english.replace(",", " ").split() if w.startswith("--")]:
            assert word.strip("(),.:;") in chinese, (english, chinese)


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LITEFLEET_LANG": "", "LC_ALL": "", **environment}
    call = [sys.executable, "-m", "litefleet_controller", *args]
    return subprocess.run(call, capture_output=True, text=True, env=env, encoding="utf-8", errors="surrogateescape")


@pytest.mark.parametrize("where", [["rollout", "--help", "--lang", "zh"], ["--lang=zh", "rollout", "-h"]])
def test_help_is_in_the_language_asked_for_anywhere_on_the_line(where):
    shown = run(*where, LC_ALL="C.UTF-8", COLUMNS="80").stdout
    assert shown.startswith("用法：litefleet rollout [选项]")
    assert "分波送达每台设备的文件" in shown
    assert "Options" not in shown


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width, monkeypatch):
    from litefleet_controller.catalogue.language import choose

    monkeypatch.setenv("COLUMNS", str(width))
    choose("zh")
    try:
        for name, command in {"": ROOT, **COMMANDS}.items():
            with command.make_context(name, [], resilient_parsing=True) as context:
                shown = command.get_help(context)
            assert max(map(columns, shown.splitlines())) <= max(width, 52), (name, shown)
    finally:
        choose(None)


def test_wrong_use_is_explained_in_chinese():
    done = run("plan", "--fibble", LC_ALL="", LC_MESSAGES="", LANG="zh_CN.UTF-8", PYTHONUTF8="1")
    assert done.returncode == 2
    assert done.stderr == "litefleet: 没有选项 --fibble。 请运行 `litefleet plan --help` 查看说明。\n"


def test_a_terminal_without_chinese_characters_gets_english_and_never_an_error():
    done = run("plan", "--help", LC_ALL="zh_CN.UTF-8", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: litefleet plan")
    done = run("devices", "--help", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr


def test_english_help_loads_no_translations():
    code = (
        "import sys; from litefleet_controller.cli import main\n"
        "try: main(['plan', '--help'])\n"
        "except SystemExit: pass\n"
        "from litefleet_controller.catalogue.translate import messages\n"
        "print(messages.cache_info().currsize, 'litefleet_controller.catalogue.wrap' in sys.modules)"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), LC_ALL="C.UTF-8", LITEFLEET_LANG="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines()[-1] == "0 False"


def test_lines_break_between_chinese_characters_and_between_words_only():
    text = "默认为 litefleet.yaml 中写明的（见 docs/configuration.zh.md），否则为 x86_64、aarch64。"
    for width in range(30, 60):
        lines = wrapped(text, width)
        assert max(map(columns, lines)) <= width + 2
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert not any(line[0] in "，。、）" or line[-1] == "（" for line in lines), lines
    assert wrapped("x" * 30 + "中文", 12) == ["x" * 12, "x" * 12, "x" * 6 + "中文"]
