"""docs/infer.md is run as it stands: PP-OCR's three models read a photographed page on a device with a real SSH server."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.docs_pages import DOCS, blocks, run_page


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    run_page(DOCS / "infer.md", tmp_path)


def test_both_languages_have_the_same_blocks() -> None:
    assert blocks(DOCS / "infer.md") == blocks(DOCS / "infer.zh.md")
    assert len(blocks(DOCS / "infer.md")) >= 7
