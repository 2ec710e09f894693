"""Texts from outside, made fit for a terminal or a report.  Pure."""

from __future__ import annotations

__all__ = ["plain"]


def plain(text: str, most: int = 300) -> str:
    """Return a text from outside with control characters escaped and its length bounded, for a terminal or a report."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: most + 1])
    return shown if len(text) <= most else shown[:most] + "…"
