"""The report as a table on a terminal, and under it each finding once, however many devices share it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TextIO

from litefleet_agent.findings import Verdict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..outcome import DeviceOutcome, RunReport
from .page import terminal, written
from .values import (
    FindingGroup,
    arch_name,
    clean,
    counts_line,
    human_bytes,
    human_ms,
    human_seconds,
    latency_of,
    listed,
    rollout_lines,
    shared_findings,
)

__all__ = ["STYLES", "to_table", "wants_color"]

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
_SENTENCES = 5  # different sentences shown of one code


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
