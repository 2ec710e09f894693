"""Every block of commands in the documentation is accounted for: a test runs it, or the page says why none does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.controller.test_docs import check_typed
from tests.e2e.docs_pages import ROOT, Block, marked_blocks

# pages that are run as they stand, and the test that does it
RUN = {
    "README.md": "tests/e2e/test_docs_how_to.py",
    "docs/day-2.md": "tests/e2e/test_docs_day_2.py",
    "docs/from-segfault.md": "tests/e2e/test_docs_from_segfault.py",
    "docs/infer.md": "tests/e2e/test_docs_infer.py",
    "docs/models.md": "tests/e2e/test_docs_models.py",
    **{
        f"docs/how-to/{name}.md": "tests/e2e/test_docs_how_to.py"
        for name in (
            "air-gapped-sites",
            "jetson",
            "jump-hosts",
            "offline-devices",
            "openwrt",
            "raspberry-pi",
            "rk3588",
            "runtimes",
        )
    },
}
_NAMED_TEST = re.compile(r"\btests/[\w/]+\.py\b")


def _to_type(page: Path) -> list[Block]:
    return [block for block in marked_blocks(page) if block.kind != "text"]


def _pages_with_commands() -> set[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return {page.relative_to(ROOT).as_posix() for page in pages if ".zh." not in page.name and _to_type(page)}


def test_what_people_type_from_top_to_bottom_is_run() -> None:
    """The README, the tutorial, day 2 and the how-to pages are; other pages explain, with commands as examples."""
    found = _pages_with_commands()
    assert set(RUN) - found == set()
    how_to = {page for page in found if page.startswith("docs/how-to/")}
    assert how_to - set(RUN) == set(), "run these pages by a test, and name it in RUN"


@pytest.mark.parametrize("page", sorted(_pages_with_commands() - set(RUN)))
def test_commands_of_a_page_that_explains_exist(page: str) -> None:
    lines = (line.partition("#")[0] for block in _to_type(ROOT / page) for line in block.text.splitlines())
    check_typed(page, {line for line in lines if line.startswith("litefleet ")})


@pytest.mark.parametrize("page", sorted(RUN))
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    test = (ROOT / RUN[page]).read_text(encoding="utf-8")
    assert Path(page).stem in test, f"{RUN[page]} does not run {page}"
    for block in _to_type(ROOT / page):
        assert block.kind == "sh" or block.reason, "a `console` block shows a session: it is not run"
        assert not block.reason or len(block.reason.split()) >= 5, block.reason
        assert [name for name in _NAMED_TEST.findall(block.reason) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", sorted(RUN))
def test_both_languages_have_the_same_blocks_and_reasons(page: str) -> None:
    assert marked_blocks(ROOT / page) == marked_blocks(ROOT / page.replace(".md", ".zh.md"))
