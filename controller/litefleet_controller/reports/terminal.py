"""Prints on a terminal: a page of lines, fields, tables and findings, and the table of a run's devices.

Every report for a terminal is made with `Page`: it alone decides on widths, wrapping and colours.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple, TextIO

from litefleet_agent.findings import Finding, Severity, Verdict
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..catalogue.articles import advice, title_of
from ..catalogue.language import Lang, current_lang, in_lang, speaking
from ..catalogue.translate import translated, translated_cell, translated_sentence
from ..catalogue.wrap import break_points, pieces
from ..common.text import LINE_LIMIT, sanitize
from ..common.typed_commands import commands_as_typed
from ..devices.outcome import DeviceOutcome, RunReport
from .grouping import folded
from .values import (
    FindingGroup,
    arch_name,
    brought_lines,
    counts_line,
    gathered,
    group_sentences,
    human_bytes,
    human_ms,
    human_seconds,
    latency_of,
    rollout_lines,
    settings_of,
    shared_findings,
)

_SETTINGS = 40  # different sentences shown

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
_SEVERITIES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "bold"}
_NARROWEST = 40  # columns; a narrower terminal wraps by itself
_GAP = 3  # columns between two columns of a table
_LONGEST_WORD = 64  # columns; a host name has 63 at most, and only a longer word (a path, a hash) is broken by a table
_ROOMY = 120  # columns from which a run's table has model, bytes and seconds

Cell = str | tuple[str, str]  # text, or text and its style


def finding_labels() -> tuple[str, str, str]:
    """Return the labels of a finding's sentence, its cause and its remedy, in the language of this process's messages."""
    return in_lang("seen", "现象"), in_lang("why", "原因"), in_lang("do", "做法")


def plural(count: int, noun: str) -> str:
    """Return "1 device", "1,000 devices", in the language of this process's messages."""
    return translated(f"{count:,} {noun}{'' if count == 1 else 's'}")


def counted(count: int, condition: str) -> str:
    """Return "3 verified", in the language of this process's messages."""
    return in_lang(f"{count:,} {condition}", f"{count:,} 台{translated_cell(condition)}")


def short_reason(outcome: DeviceOutcome) -> str:
    """Return an outcome's sentence for a table; in Chinese, for one without a translation, the title of its first finding."""
    sentence = sanitize(outcome.sentence, 200)
    is_left = outcome.findings and current_lang() is Lang.ZH and translated(sentence) == sentence
    return title_of(outcome.findings[0].code) if is_left else sentence


def wants_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is given colours: a terminal, not a dumb one, and NO_COLOR is not set."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Page:
    """Text for a terminal `width` columns wide (at least 40); with `color` it holds ANSI colours, else none."""

    def __init__(self, width: int, color: bool) -> None:
        self._out = io.StringIO()
        self.width = max(width, _NARROWEST)
        self._color = color
        self._console = Console(
            file=self._out,
            width=self.width,
            force_terminal=color,
            color_system="standard" if color else None,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            _environ={},  # the caller decided on width and colour; COLUMNS and NO_COLOR do not count twice
        )

    @property
    def text(self) -> str:
        """All text so far; no line ends in spaces."""
        return "\n".join(line.rstrip() for line in self._out.getvalue().split("\n"))

    def line(self, *parts: Cell, indent: int = 0) -> None:
        """Print one paragraph of plain and (text, style) parts; long ones are wrapped at the indent."""
        self._wrapped(Text.assemble(*map(self._prose, parts)), Text(" " * indent))

    def heading(self, text: str, note: str = "") -> None:
        """Print an empty line and a section's title."""
        self._console.print()
        self.line((text, "bold"), (f"   {note}" if note else "", "dim"))

    def field(self, name: str, text: str, width: int = 4, indent: int = 2, style: str = "dim") -> None:
        """Print a named text, wrapped beside its name, or below it where the name takes over half of the line."""
        name = translated_cell(name)
        width = max(width, cell_len(name)) if not name.isascii() else width
        if indent + width > self.width // 2:
            self._wrapped(Text(name, style), Text(" " * indent))
            self._wrapped(self._prose(text), Text(" " * (indent + 4)))
            return
        lead = Text.assemble(" " * indent, (name, style), " " * (width - cell_len(name) + 1))
        self._wrapped(self._prose(text), lead)

    def _wrapped(self, text: Text, lead: Text) -> None:
        """Print a text behind `lead`, and its further lines below its beginning.

        A word that is wider than the line stays whole: a name or a command in two pieces cannot be copied.
        """
        room = max(self.width - lead.cell_len, 1)
        for line in _lines(text, room):
            self._console.print(lead + line, no_wrap=True, overflow="ignore", crop=False)
            lead = Text(" " * lead.cell_len)

    def _prose(self, part: Cell) -> Text:
        """Return a text; with colours, what it sets in backquotes is bold instead.  In a pipe they delimit commands."""
        text, style = part if isinstance(part, tuple) else (part, "")
        text = commands_as_typed(translated(text))
        return _marked(text, style) if self._color else Text(text, style)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Cell]], left: Sequence[str] = ()) -> None:
        """Print a table; columns are right-aligned and never wrapped, except those named in `left`.

        Where the columns do not fit side by side without breaking words, each row becomes a block of named values.
        """
        with speaking(current_lang()):  # each cell asks for it, and the environment takes long to ask
            texts = [[_cell_text(cell, number == 0) for number, cell in enumerate(row)] for row in rows]
        left, head = [translated_cell(name) for name in left], [translated_cell(name) for name in head]
        widths = _widths(head, texts, left, self.width)
        if widths is None:
            self._blocks(head, [self._cells(row) for row in texts])
            return
        columns = [_Column(name, width, name in left) for name, width in zip(head, widths, strict=True)]
        self._console.print(_rich_table(columns, [self._cells(row) for row in texts[:1]], True))
        # The library takes 2 ms for a row, and a fleet has 10,000: it gets those with a word that must be broken.
        for fits, group in groupby(texts[1:], lambda row: _fits(columns, row)):
            if not fits:
                self._console.print(_rich_table(columns, list(map(self._cells, group)), False))
            elif self._color:
                lines = Text("\n").join(line for row in group for line in _row_lines(columns, self._cells(row)))
                self._console.print(lines, no_wrap=True, overflow="ignore", crop=False)
            else:
                self._out.writelines(f"{line}\n" for row in group for line in _plain_lines(columns, row))

    def _cells(self, row: Sequence[_CellText]) -> list[Text]:
        return [_marked(written, style) for _, written, style in row]

    def _blocks(self, head: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        """Print each row as its first cell and, indented, a line for each other cell that says something."""
        named = max((cell_len(name) for name in head[1:]), default=0)
        for row in rows:
            title = row[0].plain
            title = f"{head[0]} {title}" if title.isdecimal() else title  # "wave 1"
            self._wrapped(Text(title, "bold"), Text())
            width = min(named, self.width // 3)
            for name, cell in zip(head[1:], row[1:], strict=True):
                if cell.plain not in ("", "–", "·"):
                    self._named(Text(name, "dim"), width, cell)

    def _named(self, name: Text, width: int, cell: Text) -> None:
        """Print a block's value beside its name, each wrapped in a column of its own."""
        room = self.width - width - 3
        names = name.wrap(self._console, width)
        for left, right in zip_longest(names, _lines(cell, room), fillvalue=Text()):
            lead = Text.assemble("  ", left, " " * (width - left.cell_len + 1))
            self._console.print(lead + right, no_wrap=True, overflow="ignore", crop=False)

    def findings(self, pairs: Iterable[tuple[str, Finding]]) -> None:
        """Print findings by (device, finding), each code once."""
        for group in gathered(pairs):
            self.finding(group)

    def finding(self, group: FindingGroup, also: str = "") -> None:
        """Print one code: how many devices, each sentence seen with its devices, why, what to do."""
        entry = group.entry
        self._console.print()
        where = f"{also}, " if also else ""
        count = plural(len(group.devices), "device")
        head = (f"{entry.code} {title_of(entry.code)}", _SEVERITIES[entry.severity])
        severity = translated_cell(entry.severity.value)
        self.line(
            head, (in_lang(f" ({where}{severity}, {count})", f"（{translated(where)}{severity}，{count}）"), "dim")
        )
        seen, *labels = finding_labels()
        for sentence in group_sentences(group):
            said = translated_sentence(sentence.text)
            self.field("" if sentence.is_rest else seen, f"{said} — {folded(sentence.devices)}")
        for label, text in zip(labels, advice(entry.code), strict=True):
            self.field(label, text)


class _Column(NamedTuple):
    """A table's column; `left` ones are left-aligned, and wrap."""

    name: str
    width: int
    left: bool


def _rich_table(columns: Sequence[_Column], rows: Sequence[Sequence[Text]], with_head: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, show_header=with_head)
    for name, width, left in columns:
        table.add_column(name, width=width, overflow="fold", justify="left" if left else "right", no_wrap=not left)
    for row in rows:
        table.add_row(*(_broken(cell, column.width) for cell, column in zip(row, columns, strict=True)))
    return table


def _fits(columns: Sequence[_Column], row: Sequence[_CellText]) -> bool:
    """Whether a row needs no word broken."""
    return all(
        _length(plain) <= width or all(_length(word) <= width for word in plain.split())
        for (plain, _, _), (_, width, _) in zip(row, columns, strict=True)
    )


def _row_lines(columns: Sequence[_Column], row: Sequence[Text]) -> list[Text]:
    """Return a row that fits as `_rich_table` shows it."""
    wrapped = [
        _lines(cell, width) if "\n" in cell.plain or cell_len(cell.plain) > width else [cell]
        for cell, (_, width, _) in zip(row, columns, strict=True)
    ]
    lines = []
    for parts in zip_longest(*wrapped, fillvalue=Text()):
        line = Text()
        for index, (part, (_, width, left)) in enumerate(zip(parts, columns, strict=True)):
            room = " " * (width - cell_len(part.plain))
            line.append(" " * _GAP if index else "")
            line.append("" if left else room)
            line.append_text(part)
            line.append(room if left else "")
        lines.append(line)
    return lines


def _plain_lines(columns: Sequence[_Column], row: Sequence[_CellText]) -> list[str]:
    """Return the same without styles, which take most of the time."""
    wrapped = [
        [line.plain for line in _lines(Text(plain), width)] if "\n" in plain or _length(plain) > width else [plain]
        for (plain, _, _), (_, width, _) in zip(row, columns, strict=True)
    ]
    return [(" " * _GAP).join(map(_padded, parts, columns)) for parts in zip_longest(*wrapped, fillvalue="")]


def _padded(plain: str, column: _Column) -> str:
    room = " " * (column.width - _length(plain))
    return plain + room if column.left else room + plain


def _length(text: str) -> int:
    """Return the columns that a text takes."""
    return len(text) if text.isascii() and text.isprintable() else cell_len(text)


def _broken(text: Text, width: int) -> Text:
    """Return a text with the line breaks that Chinese needs; a terminal's library breaks at spaces only."""
    if text.plain.isascii() or current_lang() is not Lang.ZH or cell_len(text.plain) <= width or "\n" in text.plain:
        return text
    lines = text.divide(break_points(text.plain, width))
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


def _lines(text: Text, width: int) -> list[Text]:
    """Return the lines of a text in a width; a word that is wider stays whole."""
    lines: list[Text] = []
    for paragraph in _broken(text, width).split("\n", allow_blank=True):
        used, breaks = 0, []
        for word in re.finditer(r"\s*\S+\s*", paragraph.plain):
            if used and used + cell_len(word[0].rstrip()) > width:
                breaks.append(word.start())
                used = 0
            used += cell_len(word[0])
        lines += paragraph.divide(breaks)
    for line in lines:
        line.rstrip()
    return lines


class _CellText(NamedTuple):
    """A table's cell: what is shown, and how it is written with backquotes."""

    plain: str
    written: str
    style: str


def _cell_text(cell: Cell, is_name: bool) -> _CellText:
    """Return a table's cell; what prose sets in backquotes is bold instead, as a table is no place for markup."""
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    written = text.strip() if is_name else commands_as_typed(translated_cell(text.strip()))
    simple = written.isascii() and written.isprintable() and "`" not in written
    return _CellText(written if simple else _marked(written, style).plain, written, style)


def _marked(text: str, style: str) -> Text:
    shown = Text(style=style)
    for index, part in enumerate(re.split(r"`([^`]*)`", text)):
        shown.append(part, "bold" if index % 2 else "")
    return shown


def _unbroken(text: str) -> list[str]:
    """Return the parts of a text that stay on one line."""
    by_word = text.isascii() or current_lang() is Lang.EN
    return text.split() if by_word else [piece.strip() for piece in pieces(text)]


def _widths(
    head: Sequence[str], rows: Sequence[Sequence[_CellText]], left: Sequence[str], width: int
) -> list[int] | None:
    """Return each column's width so that all fit into `width` and no word breaks; None where that cannot be."""
    natural, least = [], []
    for index, name in enumerate(head):
        texts = {name, *(row[index].plain for row in rows)}
        natural.append(max(map(_length, texts)))
        words = max(min(_length(word), _LONGEST_WORD) for text in texts for word in _unbroken(text) or [""])
        least.append(max(words, cell_len(name)) if name in left else natural[-1])
    free = width - _GAP * (len(head) - 1) - sum(least)
    if free < 0:
        return None
    # Columns that lack little get all of it first, so that the longest texts are the ones that wrap.
    widths = list(least)
    lacking = sorted(range(len(head)), key=lambda index: natural[index] - least[index])
    for done, index in enumerate(lacking):
        widths[index] += min(natural[index] - least[index], free // (len(lacking) - done))
        free -= widths[index] - least[index]
    return widths


def to_table(report: RunReport, width: int = 100, color: bool = False) -> str:
    """Return the report for a terminal `width` columns wide; with `color` it holds ANSI colours, else none."""
    page = Page(width, color)
    if report.outcomes:
        roomy = page.width >= _ROOMY
        head = ["device", "arch", *(["model"] if roomy else []), "verdict", "why", "p50"]
        head += ["sent", "seconds"] if roomy else []
        page.table(
            head, [_row(outcome, roomy) for outcome in report.outcomes], ("device", "arch", "model", "verdict", "why")
        )
    for group in shared_findings(report):
        page.finding(group)
    engine_settings(page, report.outcomes)
    if report.outcomes:
        page.line()
    page.line(*_counts(report), (f"   ({sanitize(report.command, 40)}, {human_seconds(report.seconds)})", "dim"))
    for model, versions in report.versions.items():
        page.line(f"version of {sanitize(model, 60)}: {sanitize(', '.join(versions), LINE_LIMIT)}")
    for line in brought_lines(report):
        page.line(line)
    for line in rollout_lines(report):
        page.line((line, "bold" if report.exit_code == 3 else ""))
    return page.text


def engine_settings(page: Page, outcomes: Iterable[DeviceOutcome]) -> None:
    """Print what was asked of the engine and what it took, each sentence once with its devices; nothing where none asks."""
    devices: dict[str, list[str]] = {}
    for outcome in outcomes:
        for words in settings_of(outcome):
            devices.setdefault(words, []).append(sanitize(outcome.device, 80))
    if not devices:
        return
    page.heading("Engine settings", "as asked for, and as taken on the devices")
    for words, names in list(devices.items())[:_SETTINGS]:
        page.line(f"{words} — {folded(names)}", indent=2)


def reports_table(kept: Sequence[tuple[str, RunReport]], width: int = 100, color: bool = False) -> str:
    """Return a line for each kept report, (name, report)."""
    page = Page(width, color)
    if not kept:
        page.line("No report is kept yet.")
        return page.text
    head = ("name", "rollout", "versions", "by", "result")
    rows = [
        (
            sanitize(name, 80),
            sanitize(str(report.rollout.get("id", "–")), 40),
            sanitize(", ".join(f"{model} {' '.join(found)}" for model, found in report.versions.items()), 120) or "–",
            sanitize(report.by, 60) or "–",
            counts_line(report),
        )
        for name, report in kept
    ]
    page.table(head, rows, left=head)
    return page.text


def _row(outcome: DeviceOutcome, roomy: bool) -> list[Cell]:
    latency = latency_of(outcome)
    took = human_seconds(sum(outcome.steps.values())) if outcome.steps else "–"
    return [
        sanitize(outcome.device, 80),
        arch_name(outcome) or "–",
        *([sanitize(outcome.model, 60)] if roomy else []),
        (outcome.verdict.value, STYLES[outcome.verdict]),
        short_reason(outcome),
        human_ms(latency.p50) if latency else "–",
        *([human_bytes(outcome.sent_bytes), took] if roomy else []),
    ]


def _counts(report: RunReport) -> list[Cell]:
    """Return the counts by verdict, each in its colour."""
    parts: list[Cell] = []
    for verdict, count in report.counts.items():
        parts += [" · "] if parts else []
        parts.append((counted(count, verdict), STYLES[Verdict(verdict)]))
    return parts or [counts_line(report)]
