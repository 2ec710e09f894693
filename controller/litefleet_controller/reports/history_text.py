"""What happened on devices while nobody watched, for a terminal and as JSON.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..common.text import clean, json_ready
from ..state import HistoryEntry
from .terminal import Page
from .values import human_moment

__all__ = ["history_dict", "history_text"]


def history_text(entries: Sequence[HistoryEntry], width: int = 100, color: bool = False) -> str:
    """Return one line for each entry, the oldest first; times are the devices' own."""
    page = Page(width, color)
    if not entries:
        page.line("Nothing is known to have happened. Histories come in at each look: `litefleet reconcile`.")
        return page.text
    rows = [
        (
            human_moment(e.at),
            clean(e.device, 40),
            clean(e.kind, 20),
            clean(e.model, 40),
            clean(e.release[:12]),
            _words(e),
        )
        for e in entries
    ]
    head = ("when", "device", "what", "model", "release", "why")
    page.table(head, rows, left=head[1:])
    return page.text


def _words(event: HistoryEntry) -> str:
    entry = event.entry
    found = entry.get("findings")
    sentences = [str(entry["text"])] if entry.get("text") else []
    for item in (found if isinstance(found, list) else [])[:10]:
        if isinstance(item, dict):
            sentences.append(f"{item.get('code')}: {item.get('seen')}")
    times = entry.get("times")
    many = f" ({times} times)" if isinstance(times, int) and 1 < times < 1 << 53 else ""
    return clean("; ".join(sentences), 300) + many


def history_dict(entries: Sequence[HistoryEntry]) -> dict[str, Any]:
    """Return the JSON form: {schema, entries: [{device, history, number, at, taken_at, kind, model, release, entry}]}."""
    return {"schema": 1, "entries": [json_ready(vars(e)) for e in entries]}
