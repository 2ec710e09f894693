"""docs/models.md is run as it stands: five kinds of models from export to `verified` on a device with a real SSH server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.docs_pages import DOCS, blocks, run_page


@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    run_page(DOCS / "models.md", tmp_path)


def test_both_languages_have_the_same_blocks() -> None:
    assert blocks(DOCS / "models.md") == blocks(DOCS / "models.zh.md")
    assert len(blocks(DOCS / "models.md")) >= 12
