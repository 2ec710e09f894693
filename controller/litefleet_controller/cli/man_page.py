"""Writes the manual page litefleet(1) from the command line's own help, in the language of this process's messages.

The commands, options and sentences are those of `--help`: the page cannot state anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from .. import __version__
from ..catalogue.translate import tr
from .common import app
from .help import OTHER, SECTIONS, definition, paragraphs_of

_PROGRAM = "litefleet"
_FILES = (
    (
        "litefleet.yaml",
        "The project: models, runtimes, rollout policy. `litefleet docs configuration` explains each key.",
    ),
    ("fleet.yaml", "The inventory: the devices, and how to log in to each of them."),
    (".litefleet/", "The store: converted files, goldens, pinned host keys, reports, the state database."),
)
_CODES = (
    ("0", "Everything that was asked for is done."),
    ("1", "It failed on at least one device or file."),
    ("2", "The command line, the configuration or the inventory is wrong; no device was contacted."),
    ("3", "A gate stopped the rollout, or a person must decide."),
    ("4", "It was interrupted, or the question was answered with no."),
)


class ManFormatter:
    """Takes what click writes on a page of help, and writes it as roff."""

    def __init__(self) -> None:
        self.width, self.current_indent = 10_000, 0  # of click's formatter; roff breaks lines itself
        self._parts: list[str] = []

    def write(self, text: str) -> None:
        """Add a text as it is."""
        self._parts.append(text)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Add how a command is called."""
        self.write(f".PP\n\\fB{roff(prog)}\\fR {roff(args.replace('[OPTIONS]', tr('[OPTIONS]')))}\n")

    def write_heading(self, heading: str) -> None:
        """Add the heading of a list."""
        self.write(f".PP\n{roff(tr(heading))}:\n")

    def write_paragraph(self) -> None:
        """Ignore click's empty lines: roff makes its own."""

    def write_text(self, text: str) -> None:
        """Add paragraphs."""
        for paragraph in paragraphs_of(text):
            self.write(f".PP\n{roff(tr(paragraph))}\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Add a list of names and what they mean."""
        for name, meaning in rows:
            self.write(f".TP\n\\fB{roff(name)}\\fR\n{roff(definition(' '.join(meaning.split())))}\n")

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Add a list under a heading."""
        self.write_heading(name)
        yield

    @contextmanager
    def indentation(self) -> Iterator[None]:
        """Do as without indentation: roff indents by itself."""
        yield

    def getvalue(self) -> str:
        """Return the page; a heading begins a paragraph by itself."""
        return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", "".join(self._parts), flags=re.MULTILINE)


def roff(text: str) -> str:
    """Return a text for roff: no character of it is a request, an escape or a hyphen that cannot be copied."""
    escaped = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq").replace("~", "\\(ti")
    )
    escaped = escaped.replace("^", "\\(ha")
    return re.sub(r"^([.])", r"\\&\1", escaped)


def man_page() -> str:
    """Return litefleet(1) as roff, in UTF-8."""
    program: Any = typer.main.get_command(app)
    context = program.make_context(_PROGRAM, [], resilient_parsing=True)
    sentence = (program.help or "").strip()
    page = ManFormatter()
    _line(page, ".TH", _PROGRAM.upper(), "1", '""', '"' + _PROGRAM, __version__ + '"', '"' + _PROGRAM + '"')
    _line(page, ".ad", "l")
    _section(page, "NAME")
    _line(page, _PROGRAM, "\\-", roff(tr(sentence).rstrip(".。")))
    _section(page, "SYNOPSIS")
    page.write_usage(_PROGRAM, f"[OPTIONS] {tr('COMMAND [ARGS]...')}")
    _section(page, "DESCRIPTION")
    page.write_text(sentence)
    page.write_text("`litefleet docs` lists the pages of the manual, and `litefleet explain CODE` explains a finding.")
    listed = {name for names in SECTIONS.values() for name in names}
    sections = {**SECTIONS, OTHER: tuple(name for name in program.commands if name not in listed)}
    for title, names in sections.items():
        known = [name for name in names if name in program.commands]
        if known:
            _section(page, title)
        for name in known:
            _command(page, program.commands[name], name, context)
    _section(page, "EXIT STATUS")
    page.write_dl(_CODES)
    _section(page, "FILES")
    page.write_dl(_FILES)
    return page.getvalue()


def _line(page: ManFormatter, *words: str) -> None:
    page.write(" ".join(words) + "\n")


def _section(page: ManFormatter, title: str) -> None:
    _line(page, ".SH", roff(tr(title)).upper())


def _command(page: ManFormatter, command: Any, name: str, context: Any) -> None:
    """Add a command, and the commands that it has of its own."""
    _line(page, ".SS", _PROGRAM, roff(name))
    own = command.context_class(command, info_name=name, parent=context, resilient_parsing=True)
    command.format_help(own, page)
