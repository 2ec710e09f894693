"""Draws measurements over time: one chart for each series that was measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from ...bench.figures import ReleaseFigures
from ...catalogue.translate import tr
from .canvas import LEFT, RIGHT, Canvas, Chart
from .scale import Axis, axis_around, axis_from_zero, number_text

_PLOT = 112
_LOG_FROM = 8.0  # ratio of largest latency to smallest p50 from which the axis is logarithmic
_UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))
_SENSORS = (
    ("temperature", "CPU temperature (°C)", 1.0),
    ("frequency", "CPU clock rate (MHz)", 1.0),
    ("available", "Available memory (MB)", 1e-6),
    ("others", "CPU used by other programs (%)", 100.0),
)


def latency_over_time(releases: Sequence[ReleaseFigures], names: Sequence[str]) -> Chart | None:
    """Return a chart of p50 as a line, and of the range up to the slowest run as an area."""
    shown = {kind: measured for kind, measured in zip("ab", releases, strict=False) if measured.points("p50")}
    if not shown:
        return None
    canvas = Canvas(_PLOT, "Latency over time (ms): p50, and up to the slowest run", names)
    values = [ms for measured in shown.values() for name in ("p50", "max") for _, ms in measured.points(name)]
    up = axis_from_zero(values, canvas.floor, canvas.top, _LOG_FROM)
    across = _time_axis(canvas, shown)
    canvas.upward(up)
    for kind, measured in shown.items():
        highest = dict(measured.points("max"))
        for stretch in _stretches(measured, "p50"):
            middle = [(across.at(t), up.at(ms)) for t, ms in stretch]
            upper = [(across.at(t), up.at(max(highest.get(t, ms), ms))) for t, ms in stretch]
            canvas.area(upper, middle, kind)
            canvas.path(middle, kind)
    return canvas.done()


def memory_over_time(releases: Sequence[ReleaseFigures], names: Sequence[str]) -> Chart | None:
    """Return a chart of the resident memory of one process."""
    shown = {kind: measured for kind, measured in zip("ab", releases, strict=False) if measured.points("rss")}
    return _lines("Memory of one process (MB)", shown, "rss", 1e-6, names)


def sensors_over_time(releases: Sequence[ReleaseFigures]) -> list[Chart]:
    """Return charts of the machine's sensors; the first release's stand for both, as they ran alternately."""
    if not releases:
        return []
    shown = {"a": releases[0]}
    charts = [_lines(title, shown, column, factor, ()) for column, title, factor in _SENSORS]
    return [chart for chart in charts if chart is not None]


def _lines(
    title: str, shown: Mapping[str, ReleaseFigures], column: str, factor: float, names: Sequence[str]
) -> Chart | None:
    points = {kind: [(t, v * factor) for t, v in measured.points(column)] for kind, measured in shown.items()}
    values = [value for line in points.values() for _, value in line]
    if not values:
        return None
    canvas = Canvas(_PLOT, title, names)
    whole = column == "others"
    up = Axis(0.0, 100.0, canvas.floor, canvas.top) if whole else axis_around(values, canvas.floor, canvas.top)
    across = _time_axis(canvas, shown)
    canvas.upward(up)
    for kind, line in points.items():
        canvas.path([(across.at(t), up.at(value)) for t, value in line], kind)
    last = number_text(values[-1]) if len(points) == 1 else ""
    canvas.text(RIGHT, 14, tr("at the end {value}", value=last) if last else "", "", "end")
    return canvas.done()


def _time_axis(canvas: Canvas, shown: Mapping[str, ReleaseFigures]) -> Axis:
    """Draw and return the time axis, which all charts of one bench share."""
    ends = [t for measured in shown.values() for t in measured.series.get("t", ()) if t is not None]
    end = max([*ends, 0.1])
    _, unit, word = next(row for row in _UNITS if end >= row[0])
    axis = Axis(0.0, end, LEFT, RIGHT)
    scaled = Axis(0.0, end / unit, LEFT, RIGHT)
    ticks = scaled.ticks_about(6)
    for tick in ticks:
        canvas.text(
            scaled.at(tick),
            canvas.floor + 16,
            f"{tick:g}" + (f" {tr(word)}" if tick == ticks[-1] else ""),
            "",
            "middle",
        )
    canvas.line((LEFT, canvas.floor), (RIGHT, canvas.floor), "grid")
    return axis


def _stretches(measured: ReleaseFigures, name: str) -> Iterator[list[tuple[float, float]]]:
    """Yield the points of a column in stretches, separated at points without a value."""
    pairs = zip(measured.series.get("t", ()), measured.series.get(name, ()), strict=False)
    for present, group in itertools.groupby(pairs, key=lambda pair: pair[1] is not None):
        if present:
            yield [(t, value) for t, value in group if t is not None and value is not None]
