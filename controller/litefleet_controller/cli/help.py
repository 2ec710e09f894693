"""The help of `litefleet`: its commands by what they are for, each with its whole sentence, in plain text.

Plain text, since typer's panels load a Markdown and a syntax highlighting library: half of the time that `--help` took.
In Chinese, the page is written by a formatter that looks up each text as it writes it; English help loads no catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..catalogue.language import Lang, current_lang

SECTIONS = {
    "Start": ("demo", "init", "import", "check", "docs"),
    "Find out what is wrong": ("doctor", "explain", "inspect"),
    "Models and runtimes": ("convert", "advise", "evaluate", "runtime"),
    "Devices": ("devices", "device", "probe", "verify", "provision", "infer", "bench", "accept-key", "forget", "trust"),
    "Rollouts": (
        "plan",
        "rollout",
        "status",
        "resume",
        "approve",
        "pause",
        "retry",
        "abort",
        "rollback",
        "reconcile",
        "cluster",
    ),
    "Records": ("report", "reports", "history", "audit", "metrics", "notify", "serve", "state", "bundle", "schedule"),
}
OTHER = "Other commands"
# Typer's and click's own words on a page of help; messages/help.zh.json translates them too.
CLICK_WORDS = (
    "Usage: ",
    "[OPTIONS]",
    "COMMAND [ARGS]...",
    "Arguments",
    "Options",
    "Commands",
    "Show this message and exit.",
    "Install completion for the current shell.",
    "Show completion for the current shell, to copy it or customize the installation.",
    "default: {default}",
    "required",
)


class Command(TyperCommand):
    """A command whose help is in the language of this process's messages."""

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]  # click's own names
        """Return the page of help."""
        _choose_formatter(ctx)
        return super().get_help(ctx)


class SectionedHelp(TyperGroup):
    """Lists the commands in sections; a command that no section names is listed last."""

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]  # click's own names
        """Return the page of help."""
        _choose_formatter(ctx)
        return super().get_help(ctx)

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


def _choose_formatter(ctx: typer.Context) -> None:
    if current_lang() is Lang.ZH:
        ctx.formatter_class = _chinese(ctx.formatter_class)


def _chinese(base: type[Any]) -> type[Any]:
    """Return click's formatter with Chinese texts; newer typers have a click of their own, so it is derived."""
    from ..catalogue.translate import tr
    from ..catalogue.wrap import wrapped

    class Chinese(base):  # type: ignore[misc]  # a class that is known at run time only
        """Writes each text in Chinese, and wraps it by the columns that its characters take."""

        def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
            words = (args.replace("[OPTIONS]", tr("[OPTIONS]")), tr("COMMAND [ARGS]..."))
            super().write_usage(prog, words[0].replace("COMMAND [ARGS]...", words[1]), tr(prefix or "Usage: "))

        def write_heading(self, heading: str) -> None:
            self.write(f"{'':>{self.current_indent}}{tr(heading)}：\n")

        def write_text(self, text: str) -> None:
            indent = " " * self.current_indent
            paragraphs = (wrapped(tr(part), self.width - self.current_indent) for part in paragraphs_of(text))
            self.write("\n".join("".join(f"{indent}{line}\n" for line in lines) for lines in paragraphs))

        def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
            first_column = min(max(len(first) for first, _ in rows), col_max) + col_spacing
            width = max(self.width - first_column - 2, 10)
            for first, second in rows:
                lines = wrapped(definition(second), width)
                for line in _beside(first, lines, first_column, col_spacing):
                    self.write(" " * self.current_indent + line + "\n")

    return Chinese


def _beside(first: str, lines: list[str], column: int, spacing: int) -> list[str]:
    """Return lines that begin at a column, beside a name; below it where the name is too long."""
    above = [first] if len(first) > column - spacing else []
    names = ["" if above else first] + [""] * (len(lines) - 1)
    return above + [f"{name:{column}}{line}".rstrip() for name, line in zip(names, lines, strict=True)]


def paragraphs_of(text: str) -> list[str]:
    """Return the paragraphs of a command's help, each as one line; messages/help.zh.json translates each."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def definition(text: str) -> str:
    """Return an option's help in Chinese, with what click adds in brackets: its default, its range, "required"."""
    from ..catalogue.translate import tr

    said, mark, added = text.rpartition("  [") if text.endswith("]") else (text, "", "")
    shown = tr(" ".join(said.split()))
    if not mark:
        return shown
    extra = []
    for part in added.removesuffix("]").split("; "):
        name, colon, value = part.partition("default: ")
        extra.append(tr("default: {default}", default=value) if colon and not name else tr(part))
    return f"{shown}  [{'；'.join(extra)}]"
