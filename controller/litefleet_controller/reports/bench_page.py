"""What the page shows of a bench: a table of all devices, and each one's pictures."""

from __future__ import annotations

from ..benchmark.figures import BenchFigures, ReleaseFigures, figures_of
from ..outcome import DeviceOutcome, RunReport
from .charts.bench import charts_of, heading_of, names_of, title_of
from .values import clean, human_bytes, human_ms, human_rate

__all__ = ["bench_parts", "bench_ranks"]

_MOST = 100  # devices whose pictures are shown


def bench_parts(report: RunReport) -> list[dict[str, object]]:
    """Return each bench's title, lines, pictures and notes; what comes first in the inventory comes first here."""
    shown = _benches(report)
    return [
        {
            "title": title_of(outcome, figures),
            "lines": heading_of(outcome, figures),
            "charts": [chart.inline() for chart in charts_of(figures)],
            "notes": [clean(note, 300) for note in figures.notes],
        }
        for outcome, figures in shown[:_MOST]
    ]


def bench_ranks(report: RunReport) -> list[list[str]]:
    """Return a row for each release that was measured: device, model, release, latencies, rate, cold start, memory, growth."""
    return [
        _row(outcome, figures, name, told)
        for outcome, figures in _benches(report)
        for name, told in zip(names_of(figures), figures.releases, strict=True)
        if told.warm is not None
    ]


def _benches(report: RunReport) -> list[tuple[DeviceOutcome, BenchFigures]]:
    return [(outcome, figures) for outcome in report.outcomes if (figures := figures_of(outcome)) is not None]


def _row(outcome: DeviceOutcome, figures: BenchFigures, name: str, told: ReleaseFigures) -> list[str]:
    warm, first = told.warm, told.cold.first
    ranks = [human_ms(getattr(warm, key)) for key in ("p50", "p90", "p99", "p999", "max")]
    rest = [human_rate(told.runs_per_s), human_ms(first.total_ms if first else None), human_bytes(told.memory.peak)]
    mark = {True: "", False: " (wrong)", None: " (not checked)"}[told.right]
    return [clean(outcome.device, 80), clean(figures.model, 60), name + mark, *ranks, *rest]
