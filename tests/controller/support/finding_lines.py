"""The lines that a report for a terminal prints of a finding, so that tests do not repeat the catalogue."""

from __future__ import annotations

import textwrap

from litefleet_agent.findings import CATALOGUE


def finding_lines(code: str, width: int = 100) -> list[str]:
    """Return the lines of "why" and "do" as they are wrapped at `width` columns."""
    entry = CATALOGUE[code]
    return [line for name, text in (("why", entry.why), ("do", entry.do)) for line in _field(name, text, width)]


def _field(name: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"  {name:4} ",
        subsequent_indent=" " * 7,
        break_long_words=False,
        break_on_hyphens=False,
    )
