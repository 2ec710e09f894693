"""What the reports for a terminal share: a page that keeps its own text, fields, and findings with their devices."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from litefleet_agent.findings import Entry, Finding, Severity
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .folding import folded
from .values import FindingGroup, gathered

__all__ = ["Page", "plural", "terminal", "written"]

_SENTENCES = 5  # different sentences shown of one code
_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "bold"}


def plural(count: int, noun: str) -> str:
    """Return "1 device", "1,000 devices"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def terminal(out: io.StringIO, width: int, color: bool) -> Console:
    """Return a console that writes to `out` for a terminal at least 40 columns wide; ANSI colours only with `color`."""
    return Console(
        file=out,
        width=max(width, 40),
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},  # the caller decided on width and colour; COLUMNS and NO_COLOR do not count twice
    )


def written(out: io.StringIO) -> str:
    """Return what a terminal was given, no line ending in spaces."""
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


class Page:
    """Text for a terminal `width` columns wide; with `color` it holds ANSI colours, else none."""

    def __init__(self, width: int, color: bool) -> None:
        self._out = io.StringIO()
        self._console = terminal(self._out, width, color)

    @property
    def text(self) -> str:
        """Everything so far, no line ending in spaces."""
        return written(self._out)

    def line(self, *parts: str | tuple[str, str], indent: int = 0) -> None:
        """Print one paragraph of plain and (text, style) parts; long ones are wrapped at the indent."""
        self._console.print(Padding(Text.assemble(*parts), (0, 0, 0, indent)))

    def heading(self, text: str, note: str = "") -> None:
        """Print an empty line and a section's title."""
        self._console.print()
        self.line((text, "bold"), (f"   {note}" if note else "", "dim"))

    def field(self, name: str, text: str, width: int = 4, indent: int = 2, style: str = "dim") -> None:
        """Print a named text, wrapped beside its name."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=width, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(name, style), Text(text))
        self._console.print(Padding(grid, (0, 0, 0, indent)))

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> None:
        """Print a table; columns are right-aligned but those named in `left`."""
        table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
        for name in head:
            if name in left:
                table.add_column(name, overflow="fold")
            else:
                table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)

    def findings(self, pairs: Iterable[tuple[str, Finding]]) -> None:
        """Print findings by (device, finding), each code once."""
        for group in gathered(pairs):
            self.finding(group)

    def finding(self, group: FindingGroup, also: str = "") -> None:
        """Print one code: how many devices, each sentence seen with its devices, why, what to do."""
        self._finding_head(group.entry, len(group.devices), also)
        for seen, names in group.seen[:_SENTENCES]:
            self.field("seen", f"{seen} — {folded(names)}")
        rest = group.seen[_SENTENCES:]
        if rest:
            names = tuple(dict.fromkeys(name for _, every in rest for name in every))
            self.field("", f"and {plural(len(rest), 'more such sentence')} — {folded(names)}")
        self.field("why", group.entry.why)
        self.field("do", group.entry.do)

    def _finding_head(self, entry: Entry, count: int, also: str) -> None:
        self._console.print()
        where = f"{also}, " if also else ""
        head = (f"{entry.code} {entry.slug}", _STYLES[entry.severity])
        self.line(head, (f" ({where}{entry.severity.value}, {plural(count, 'device')})", "dim"))
