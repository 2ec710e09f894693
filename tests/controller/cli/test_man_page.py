"""litefleet(1): it has every command and option, in both languages, and man and mandoc find nothing wrong in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from litefleet_controller.catalogue.language import choose
from litefleet_controller.cli.help import SECTIONS
from litefleet_controller.cli.man_page import man_page, roff

from tests.conftest import lacking

COMMANDS = [name for names in SECTIONS.values() for name in names]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_it_has_every_command_and_lints(lang: str, tmp_path: Path) -> None:
    choose(lang)
    page = man_page()
    found = re.findall(r"^\.SS litefleet (.*)$", page, re.MULTILINE)
    assert [name.replace("\\-", "-") for name in found if " " not in name] == COMMANDS
    assert "\\-\\-accept\\-new\\-host\\-keys" in page
    assert ("Also write the plan as Markdown" in page) == (lang == "en")
    assert ("退出码" in page) == (lang == "zh")
    path = tmp_path / "litefleet.1"
    path.write_text(page, encoding="utf-8")
    checked = 0
    if shutil.which("mandoc"):
        said = subprocess.run(["mandoc", "-Tlint", "-W", "warning", path], capture_output=True, text=True).stdout
        # It has no date: two builds of one version are one file.
        assert [line for line in said.splitlines() if "missing date" not in line] == []
        checked += 1
    if shutil.which("man") and shutil.which("groff"):
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANROFFSEQ": ""}
        argv = ["man", "--warnings", "-E", "UTF-8", "-l", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
        # A word that is longer than the line is no mistake.
        assert [line for line in done.stderr.splitlines() if not re.search("break line|adjust line", line)] == []
        assert done.returncode == 0
        assert "litefleet rollout" in done.stdout
        checked += 1
    if not checked:
        lacking("neither man with groff nor mandoc is on this machine")


@pytest.mark.parametrize(("lang", "folder"), [("en", "man1"), ("zh", "zh_CN/man1")])
def test_the_page_that_the_wheel_installs_is_this_one(lang: str, folder: str) -> None:
    choose(lang)
    kept = Path(__file__).parents[3] / "integrations" / "man" / folder / "litefleet.1"
    assert kept.read_text(encoding="utf-8") == f"{man_page().rstrip()}\n", (
        "a command or its help changed: run `make man`"
    )


def test_no_text_is_a_request_of_roff() -> None:
    assert roff(".SH x") == "\\&.SH x"
    assert roff("'a' `b` \\n --c") == "\\(aqa\\(aq \\(gab\\(ga \\en \\-\\-c"
