"""Collects all charts of one bench, and writes those of several devices to one SVG file."""

from __future__ import annotations

from litefleet_agent.findings import Severity
from markupsafe import Markup

from ...bench.figures import BenchFigures, ReleaseFigures, benches_of
from ...catalogue.translate import tr, translated, translated_sentence
from ...catalogue.wrap import wrapped
from ...common.text import sanitize
from ...devices.outcome import DeviceOutcome, RunReport
from ..values import human_ms
from .bars import cold_starts, throughput
from .canvas import WIDTH, Chart, svg_document
from .over_time import latency_over_time, memory_over_time, sensors_over_time
from .ranks import against, percentiles

_MARGIN, _GAP = 20, 18
_WIDE = {"head": 52, "name": 70}  # columns of a line
_MOST_FOUND = 4
_MOST_DEVICES = 50  # more would make the picture too long to scroll


def names_of(figures: BenchFigures) -> list[str]:
    """Return a short name for each release; equal names get a number."""
    names = [measured.release[:8] for measured in figures.releases]
    return [f"{names[0]} (1)", f"{names[1]} (2)"] if len(set(names)) < len(names) else names


def title_of(outcome: DeviceOutcome, figures: BenchFigures) -> str:
    """Return the title of one bench: device, model, releases."""
    *before, name = names_of(figures) or [""]
    releases = tr("{second} against {first}", second=name, first=before[0]) if before else name
    return f"{sanitize(outcome.device, 60)} · {sanitize(figures.model, 60)} · {releases}"


def charts_of(figures: BenchFigures) -> list[Chart]:
    """Return the charts of one bench, the most important first; series that were not measured have none."""
    releases, names = figures.releases, names_of(figures)
    charts = [
        against(figures.comparison, names),
        latency_over_time(releases, names),
        percentiles(releases, names),
        throughput(figures.cells, names),
        memory_over_time(releases, names),
        cold_starts(releases, names),
        *sensors_over_time(releases),
    ]
    return [chart for chart in charts if chart is not None]


def heading_of(outcome: DeviceOutcome, figures: BenchFigures) -> list[str]:
    """Return the lines above the charts of one device: latency, whether outputs are correct, findings."""
    names = names_of(figures)
    lines = [
        _release_line(name if len(names) > 1 else "", measured)
        for name, measured in zip(names, figures.releases, strict=True)
    ]
    if figures.comparison is not None and len(names) > 1:
        lines.append(translated(figures.comparison.sentence(*names)))
    found = [
        f"{f.code} {translated_sentence(sanitize(f.observed, 300))}"
        for f in outcome.findings
        if f.severity is not Severity.NOTE
    ]
    return [*filter(None, lines), *found[:_MOST_FOUND]]


def _release_line(name: str, measured: ReleaseFigures) -> str:
    if measured.warm is None:
        return ""
    warm = measured.warm
    line = f"{name}{': ' if name else ''}p50 {human_ms(warm.p50)}, p99 {human_ms(warm.p99)}, "
    line += tr("{count} runs", count=f"{warm.runs:,}")
    more = {
        True: "",
        False: tr("; its outputs are wrong: these figures do not count"),
        None: tr("; not measured to the end"),
    }
    return line + more[measured.right]


def mark_of(measured: ReleaseFigures) -> str:
    """Return what follows a release's name in a table: "" where its outputs are right."""
    return {True: "", False: f" ({tr('wrong')})", None: f" ({tr('not checked')})"}[measured.right]


def to_svg(report: RunReport) -> str:
    """Return one SVG document with the pictures of every device that was measured, one below the other."""
    shown = benches_of(report)
    parts: list[Markup] = []
    y = float(_MARGIN)
    for outcome, figures in shown[:_MOST_DEVICES]:
        part, y = _device(outcome, figures, y)
        parts += part
    if len(shown) != 1:
        left_out = len(shown) - _MOST_DEVICES
        note = tr("{count} benches.", count=len(shown)) if shown else tr("Nothing was measured.")
        note += " " + tr("{count} further devices are left out.", count=left_out) if left_out > 0 else ""
        parts.append(_text(note, y + 12, ""))
        y += 24
    title = f"litefleet bench, {sanitize(report.started_at, 40)}"
    return svg_document(title, WIDTH + 2 * _MARGIN, round(y + _MARGIN), parts)


def _device(outcome: DeviceOutcome, figures: BenchFigures, y: float) -> tuple[list[Markup], float]:
    """Return one device's part from `y` on, and where it ends."""
    parts = []
    for line, kind in [
        (title_of(outcome, figures), "head"),
        *((line, "name") for line in heading_of(outcome, figures)),
    ]:
        for piece in wrapped(line, _WIDE[kind]):
            parts.append(_text(piece, y + 14, kind))
            y += 20
    y += 8
    for chart in charts_of(figures):
        parts.append(Markup('<g transform="translate({},{})">{}</g>').format(_MARGIN, round(y, 1), chart.body))
        y += chart.height + _GAP
    return parts, y + _GAP


def _text(text: str, y: float, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, _MARGIN, round(y, 1), text)
