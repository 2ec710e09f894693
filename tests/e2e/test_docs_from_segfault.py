"""docs/from-segfault.md is run as it stands, with a real SSH server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.docs_pages import DOCS, blocks, run_page

PAGE, CHINESE = DOCS / "from-segfault.md", DOCS / "from-segfault.zh.md"


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    run_page(PAGE, tmp_path)


def test_both_languages_have_the_same_blocks() -> None:
    assert blocks(PAGE) == blocks(CHINESE)
    assert len(blocks(PAGE)) >= 14


@pytest.mark.parametrize("page", [PAGE, CHINESE])
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target
