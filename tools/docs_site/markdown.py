"""What the generated pages are written with: tables, and the words of both languages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["Lang", "cell", "code", "page_name", "paragraphs", "table"]

from litefleet_controller.catalogue.language import Lang


def page_name(name: str, lang: Lang) -> str:
    """Return a page's file name: "reference/cli" in Chinese is "reference/cli.zh.md"."""
    return f"{name}{lang.suffix}.md"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; "" without rows."""
    lines = [f"| {' | '.join(cell(one) for one in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *lines])


def cell(text: str) -> str:
    """Return a text for a table's cell: one line, its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Return a text between backquotes; "" for none."""
    return f"`{text}`" if text else ""


def paragraphs(text: str) -> list[str]:
    """Return prose as Markdown: `<` and `*` outside backquotes stand for themselves."""
    return [_plain(" ".join(part.split())) for part in text.split("\n\n") if part.strip()]


def _plain(text: str) -> str:
    return "".join(
        part if part.startswith("`") else re.sub(r"([<*\[])", r"\\\1", part) for part in re.split(r"(`[^`]*`)", text)
    )
