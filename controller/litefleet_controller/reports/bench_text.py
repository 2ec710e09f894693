"""Writes a bench for a terminal: latency, temperature, throughput, comparisons, findings and caveats."""

from __future__ import annotations

from collections.abc import Iterable

from litefleet_agent.findings import Severity, Verdict

from ..bench.figures import BenchFigures, Cell, ReleaseFigures, benches_of
from ..catalogue.translate import translated_cell
from ..common.text import sanitize
from ..devices.outcome import DeviceOutcome, RunReport
from .charts.bench import mark_of, names_of
from .grouping import folded
from .terminal import STYLES, Page, plural
from .values import human_bytes, human_ms, human_rate, human_seconds

_ROOMY = 120  # columns from which the model's name and the memory growth are shown
_NARROW = 100  # columns below which p90, p99.9 and the cold start are left out
_MOST_CELLS = 60

Bench = tuple[DeviceOutcome, BenchFigures]


def bench_text(report: RunReport, width: int = 100, color: bool = False) -> str:
    """Return the report for a terminal `width` columns wide."""
    page = Page(width, color)
    benches = benches_of(report)
    _speeds(page, benches, width)
    _heat(page, benches)
    _workers(page, benches, width)
    _comparisons(page, benches)
    pairs = [
        (sanitize(o.device, 80), f) for o in report.outcomes for f in o.findings if f.severity is not Severity.NOTE
    ]
    page.findings(pairs)
    _notes(page, benches)
    _last(page, report)
    return page.text


def _speeds(page: Page, benches: list[Bench], width: int) -> None:
    rows = [
        _speed(outcome, figures, name, measured)
        for outcome, figures in benches
        for name, measured in zip(names_of(figures), figures.releases, strict=True)
        if measured.warm is not None
    ]
    left_out = {"model", "growth/h"} if width < _ROOMY else set()
    _table(page, rows, left_out | ({"p90", "p99.9", "cold"} if width < _NARROW else set()))


def _table(page: Page, rows: list[dict[str, str]], left_out: set[str]) -> None:
    head = [name for name in (rows[0] if rows else ()) if name not in left_out]
    if rows:
        page.table(head, ([row[name] for name in head] for row in rows), left=("device", "model"))


def _speed(outcome: DeviceOutcome, figures: BenchFigures, name: str, measured: ReleaseFigures) -> dict[str, str]:
    """Return one release's row, by column."""
    warm, first, per_hour = measured.warm, measured.cold.first, measured.growth.per_hour
    ranks = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))
    return {
        "device": sanitize(outcome.device, 60),
        "model": sanitize(figures.model, 40),
        "release": name + mark_of(measured),
        **{head: human_ms(getattr(warm, key)) for head, key in ranks},
        "runs/s": human_rate(measured.runs_per_s),
        "cold": human_ms(first.total_ms if first else None),
        "memory": human_bytes(measured.memory.peak),
        "growth/h": "–" if per_hour is None else f"{'+' if per_hour >= 0 else ''}{human_bytes(per_hour)}",
    }


def _heat(page: Page, benches: list[Bench]) -> None:
    """Print temperatures and clock rates that the kernel reported."""
    rows = [
        (o, measured)
        for o, figures in benches
        for measured in figures.releases[:1]
        if measured.heat.last is not None or measured.points("frequency")
    ]
    if not rows:
        return
    page.heading("Temperature", "of the CPU during the runs")
    head = ("device", "start", "end", "highest", "per minute", "clock rate")
    page.table(head, (_heat_row(outcome, measured) for outcome, measured in rows), left=("device",))


def _heat_row(outcome: DeviceOutcome, measured: ReleaseFigures) -> list[str]:
    heat, rates = measured.heat, [mhz for _, mhz in measured.points("frequency")]
    degrees = ["–" if value is None else f"{value:.0f} °C" for value in (heat.first, heat.last, heat.highest)]
    rise = "–" if heat.per_minute is None else f"{heat.per_minute:+.2g} °C"
    clock = f"{min(rates):.0f} to {max(rates):.0f} MHz" if rates else "–"
    return [sanitize(outcome.device, 60), *degrees, rise, clock]


def _workers(page: Page, benches: list[Bench], width: int) -> None:
    """Print the throughput cells, unless a single one repeats the latency table; of more than 60, each device's best."""
    shown = [(outcome, figures, cell) for outcome, figures in benches for cell in figures.cells]
    if not any(len(figures.cells) > len(figures.releases) for _, figures in benches):
        shown = [row for row in shown if row[2].skipped]
    note = "several processes at once; latency of each run"
    if len(shown) > _MOST_CELLS:
        best = [max(f.cells, key=lambda cell: cell.runs_per_s or 0.0) for _, f in benches if f.cells]
        shown = [row for row in shown if any(row[2] is cell for cell in best)]
        note = "the best cell of each device; the HTML page and --json have all"
    if not shown:
        return
    page.heading("Throughput", note)
    _table(page, [_cell(*row) for row in shown], {"CPUs busy", "total memory"} if width < _NARROW else set())
    for outcome, _, cell in shown:
        if cell.skipped:
            page.line(
                f"{sanitize(outcome.device, 60)}, {plural(cell.workers, 'worker')}: {sanitize(cell.skipped, 300)}",
                indent=2,
            )


def _cell(outcome: DeviceOutcome, figures: BenchFigures, cell: Cell) -> dict[str, str]:
    names = {measured.release: name for name, measured in zip(names_of(figures), figures.releases, strict=True)}
    latency = cell.latency
    return {
        "device": sanitize(outcome.device, 60),
        "release": names.get(cell.release, cell.release[:8]),
        "workers": str(cell.workers),
        "threads": str(cell.threads) if cell.threads else "default",
        "runs/s": human_rate(cell.runs_per_s),
        "p50": human_ms(latency.p50 if latency else None),
        "p99": human_ms(latency.p99 if latency else None),
        "CPUs busy": "–" if cell.cores is None else f"{cell.cores:.2g}",
        "total memory": human_bytes(cell.pss_bytes or cell.rss_bytes),
    }


def _comparisons(page: Page, benches: list[Bench]) -> None:
    measured = [(o, f) for o, f in benches if f.comparison is not None and len(f.releases) == 2]
    if not measured:
        return
    page.heading("Comparison", "alternating on the same device")
    for outcome, figures in measured:
        assert figures.comparison is not None
        page.line(f"{sanitize(outcome.device, 60)}: {figures.comparison.sentence(*names_of(figures))}", indent=2)


def _notes(page: Page, benches: Iterable[Bench]) -> None:
    """Print the caveats, each once with its devices."""
    devices_by_note: dict[str, list[str]] = {}
    for outcome, figures in benches:
        for note in figures.notes:
            devices_by_note.setdefault(sanitize(note, 300), []).append(sanitize(outcome.device, 80))
    if devices_by_note:
        page.line("")
    for note, devices in devices_by_note.items():
        page.line((f"{note} — {folded(devices)}", "dim"))


def _last(page: Page, report: RunReport) -> None:
    """Print the counts by verdict, and the duration."""
    page.line("")
    parts: list[str | tuple[str, str]] = []
    for verdict, count in report.counts.items():
        word = "measured" if verdict == Verdict.VERIFIED else verdict
        parts += [" · "] if parts else []
        parts.append((f"{count} {translated_cell(word)}", STYLES[Verdict(verdict)]))
    page.line(*(parts or ["no devices"]), (f"   (bench, {human_seconds(report.seconds)})", "dim"))
