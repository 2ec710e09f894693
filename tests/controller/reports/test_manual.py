"""`litefleet docs`: the pages as the package carries them, in both languages, on a terminal and in a pipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from litefleet_controller.catalogue.language import Lang
from litefleet_controller.cli.common import app
from litefleet_controller.common.errors import UsageError
from litefleet_controller.reports.manual import contents, for_terminal, page_text, pages
from rich.cells import cell_len
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]


def test_every_page_is_listed_with_its_title_in_both_languages() -> None:
    written = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("how-to/*.md")]
    names = {path.relative_to(ROOT / "docs").as_posix().split(".")[0] for path in written}
    assert set(pages(Lang.EN)) == set(pages(Lang.ZH)) == names
    for lang, title in ((Lang.EN, "Rollouts"), (Lang.ZH, "部署")):
        (line,) = (line for line in contents(lang).split("\n") if line.startswith("rollouts "))
        assert line.split(None, 1)[1] == title


@pytest.mark.parametrize("lang", Lang)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_markup_is_left(lang: Lang, width: int) -> None:
    for name in pages(lang):
        shown = for_terminal(page_text(name, lang), width, color=False)
        assert max(cell_len(line) for line in shown.split("\n")) <= min(width, 100)
        assert not re.search(r"^#+ |\]\([\w-]+\.md", shown, re.MULTILINE)


def test_in_a_pipe_a_page_is_its_markdown() -> None:
    shown = CliRunner().invoke(app, ["docs", "docs/rollouts.md", "--lang", "en"]).stdout
    assert shown == (ROOT / "docs/rollouts.md").read_text(encoding="utf-8")


def test_a_finding_is_a_page_too_and_the_language_follows_the_environment() -> None:
    shown = CliRunner(env={"LITEFLEET_LANG": "zh"}).invoke(app, ["docs", "lf101"]).stdout
    assert shown.startswith("LF101")
    assert "原因" in shown or "症状" in shown
    shown = CliRunner().invoke(app, ["docs", "configuration"]).stdout  # also the name of a finding
    assert shown.startswith("# Configuration")


def test_an_unknown_page_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean rollouts"):
        page_text("rolouts", Lang.EN)
    done = CliRunner().invoke(app, ["docs", "rollouts", "--lang", "fr"])
    assert "Available: en, zh" in str(done.exception)


def test_hints_lead_to_pages_that_the_package_has() -> None:
    """No message names a file under docs/, which people who installed with pip do not have."""
    hints = []
    package = ROOT / "controller/litefleet_controller"
    for path in (*package.rglob("*.py"), *(package / "catalogue/texts").glob("*.json")):
        hints += [
            (path.name, name) for name in re.findall(r"litefleet docs ([a-z-]+)`", path.read_text(encoding="utf-8"))
        ]
    assert len(hints) >= 3
    assert [hint for hint in hints if hint[1] not in pages(Lang.EN)] == []


def test_the_wheel_has_the_pages() -> None:
    assert '"docs" = "litefleet_controller/docs"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
