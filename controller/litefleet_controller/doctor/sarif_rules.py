"""SARIF's rules: the catalogue's rows as code-scanning pages show them."""

from __future__ import annotations

from typing import Any

from litefleet_agent.findings import Certainty, Entry, Severity

__all__ = ["rule_of"]

_MOST = 1024  # characters of a description that GitHub takes
_PRECISION = {Certainty.CERTAIN: "very-high", Certainty.LIKELY: "high", Certainty.POSSIBLE: "medium"}
_PROBLEM = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "recommendation"}


def rule_of(entry: Entry, certainty: Certainty) -> dict[str, Any]:
    """Return the rule for a catalogue's row; `certainty` is that of the least sure finding in this run."""
    words = entry.slug.split("-")
    return {
        "id": entry.code,
        "name": "".join(word[:1].upper() + word[1:] for word in words),
        "shortDescription": {"text": f"{' '.join(words).capitalize()}."},
        "fullDescription": {"text": _bounded(entry.why)},
        "help": {
            "text": f"Why: {entry.why}\n\nWhat to do: {entry.do}",
            "markdown": f"**Why.** {entry.why}\n\n**What to do.** {entry.do}\n\n`litefleet explain {entry.code}` says it again.",
        },
        "defaultConfiguration": {"level": entry.severity.value},
        "properties": {
            "precision": _PRECISION[certainty],
            "problem.severity": _PROBLEM[entry.severity],
            "tags": ["paddle-lite"],
        },
    }


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
