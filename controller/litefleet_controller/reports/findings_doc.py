"""docs/findings.md, made from the catalogue by `python -m litefleet_controller.reports.findings_doc FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from litefleet_agent.findings import CATALOGUE, Entry

__all__ = ["findings_page"]

_BLOCKS = {
    "LF1": "The .nb file and the machine it is for",
    "LF2": "The source model and its conversion",
    "LF3": "The device's environment",
    "LF4": "What the model did when it ran",
    "LF5": "Reaching and talking to the device",
    "LF6": "Releases on the device, and rollouts",
    "LF9": "Anything else",
}


def findings_page() -> str:
    """Return the page as Markdown: every code with its weight, why it happens and what to do."""
    lines = [
        "# Findings",
        "",
        "Generated from `agent/litefleet_agent/catalogue.py`; do not edit. `litefleet explain CODE` says the same.",
        "",
        "An error decides the device's verdict; a warning or a note only accompanies it.",
    ]
    for block, title in _BLOCKS.items():
        lines += ["", f"## {title}"]
        for entry in CATALOGUE.values():
            if entry.code.startswith(block):
                lines += _entry(entry)
    return "\n".join(lines) + "\n"


def _entry(entry: Entry) -> list[str]:
    weight = f"Verdict: `{entry.verdict.value}`" if entry.verdict else entry.severity.value.capitalize()
    return ["", f"### {entry.code} {entry.slug}", "", f"{weight}. {entry.why}", "", f"**What to do.** {entry.do}"]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(findings_page(), encoding="utf-8")
