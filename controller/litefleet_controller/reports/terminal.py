"""What the reports for a terminal share: a page that keeps its own text, fields, and findings with their devices."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from litefleet_agent.findings import Entry, Finding, Severity, Verdict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..common.text import clean
from ..devices.outcome import DeviceOutcome, RunReport
from .grouping import folded
from .values import (
    FindingGroup,
    arch_name,
    counts_line,
    gathered,
    human_bytes,
    human_ms,
    human_seconds,
    latency_of,
    listed,
    rollout_lines,
    shared_findings,
)

__all__ = ["STYLES", "Page", "plural", "terminal", "to_table", "wants_color", "written"]


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


STYLES = {
    Verdict.VERIFIED: "green",
    Verdict.REFUSED: "yellow",
    Verdict.CRASHED: "bold red",
    Verdict.WRONG: "bold magenta",
    Verdict.SLOW: "blue",
    Verdict.UNREACHABLE: "red",
    Verdict.UNSUPPORTED: "cyan",
    Verdict.FAILED: "red",
}
_ROOMY = 120  # columns from which model, bytes and seconds have room beside the sentence


def wants_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream may be given colours: a terminal, not a dumb one, and NO_COLOR not set."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def to_table(report: RunReport, width: int = 100, color: bool = False) -> str:
    """Return the report for a terminal `width` columns wide; with `color` it holds ANSI colours, else none."""
    out = io.StringIO()
    console = terminal(out, width, color)
    if report.outcomes:
        console.print(_devices(report, console.width))
    for group in shared_findings(report):
        _print_group(console, group)
    console.print(_last_line(report), soft_wrap=True)
    for line in rollout_lines(report):
        console.print(Text(line, "bold" if report.exit_code == 3 else ""), soft_wrap=True)
    return written(out)


def _devices(report: RunReport, width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    roomy = width >= _ROOMY
    table.add_column("device", overflow="fold", max_width=max(12, width // 4))
    table.add_column("arch", no_wrap=True)
    if roomy:
        table.add_column("model", overflow="fold", max_width=20)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    table.add_column("p50", justify="right", no_wrap=True)
    if roomy:
        table.add_column("sent", justify="right", no_wrap=True)
        table.add_column("seconds", justify="right", no_wrap=True)
    for outcome in report.outcomes:
        table.add_row(*_row(outcome, roomy))
    return table


def _row(outcome: DeviceOutcome, roomy: bool) -> list[Text]:
    latency = latency_of(outcome)
    cells = [Text(clean(outcome.device, 80)), Text(arch_name(outcome) or "–")]
    if roomy:
        cells.append(Text(clean(outcome.model, 60)))
    cells.append(Text(outcome.verdict.value, STYLES[outcome.verdict]))
    cells.append(Text(clean(outcome.sentence, 200)))
    cells.append(Text(human_ms(latency.p50) if latency else "–"))
    if roomy:
        cells.append(Text(human_bytes(outcome.sent_bytes)))
        cells.append(Text(human_seconds(sum(outcome.steps.values())) if outcome.steps else "–"))
    return cells


def _print_group(console: Console, group: FindingGroup) -> None:
    """Print one finding: code, how many devices, each sentence seen with its devices, why, what to do."""
    entry, count = group.entry, len(group.devices)
    head = Text(f"{entry.code} {entry.slug}", STYLES[entry.verdict] if entry.verdict else "bold")
    head.append(f" ({entry.severity.value}, {count} device{'' if count == 1 else 's'})", "dim")
    console.print()
    console.print(head)
    for seen, names in group.seen[:_SENTENCES]:
        _field(console, "seen", f"{seen} — {listed(names)}")
    if len(group.seen) > _SENTENCES:
        rest = tuple(dict.fromkeys(name for _, names in group.seen[_SENTENCES:] for name in names))
        _field(console, "", f"and {len(group.seen) - _SENTENCES} more such sentences — {listed(rest)}")
    _field(console, "why", entry.why)
    _field(console, "do", entry.do)


def _field(console: Console, name: str, text: str) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=4, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(name, "dim"), Text(text))
    console.print(Padding(grid, (0, 0, 0, 2)))


def _last_line(report: RunReport) -> Text:
    line = Text("\n" if report.outcomes else "")
    for index, (verdict, count) in enumerate(report.counts.items()):
        line.append(" · " if index else "").append(f"{count} {verdict}", STYLES[Verdict(verdict)])
    if not report.outcomes:
        line.append(counts_line(report))
    return line.append(f"   ({clean(report.command, 40)}, {human_seconds(report.seconds)})", "dim")
