"""The help of `litefleet`: its commands by what they are for, each with its whole sentence, in plain text.

Plain text, since typer's panels load a Markdown and a syntax highlighting library: half of the time that `--help` took.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

SECTIONS = {
    "Start": ("demo", "init", "import", "check", "docs"),
    "Find out what is wrong": ("doctor", "explain", "inspect"),
    "Models and runtimes": ("convert", "advise", "evaluate", "runtime"),
    "Devices": ("devices", "device", "probe", "verify", "provision", "infer", "bench", "accept-key", "forget", "trust"),
    "Rollouts": ("plan", "rollout", "status", "resume", "approve", "pause", "retry", "abort", "rollback", "reconcile"),
    "Records": ("report", "reports", "history", "audit", "metrics", "state", "bundle", "schedule"),
}
OTHER = "Other commands"


class SectionedHelp(TyperGroup):
    """Lists the commands in sections; a command that no section names is listed last."""

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # click's own names
        """Write one list for each section that has a command."""
        listed = {name for names in SECTIONS.values() for name in names}
        sections = {**SECTIONS, OTHER: tuple(name for name in self.commands if name not in listed)}
        width = max(len(name) for name in self.commands)
        for title, names in sections.items():
            rows = [(name.ljust(width), self._sentence(name)) for name in names if name in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _sentence(self, name: str) -> str:
        return (self.commands[name].help or "").split("\n\n")[0].replace("\n", " ").strip()
