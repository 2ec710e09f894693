"""Draws latency percentiles, and the comparison of two releases."""

from __future__ import annotations

from collections.abc import Sequence

from ...bench.figures import Comparison, ReleaseFigures
from ...catalogue.translate import tr
from ..values import human_ms
from .canvas import LEFT, RIGHT, Canvas, Chart
from .scale import Axis, axis_from_zero, number_text

_RANKS = (("min", "min"), ("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))
_PLOT = 132
_LOG_FROM = 12.0
_MARGIN = 14  # pixels for the numbers beside the dots


def percentiles(releases: Sequence[ReleaseFigures], names: Sequence[str]) -> Chart | None:
    """Return a chart of the latency percentiles of the model alone."""
    shown = {kind: measured.warm for kind, measured in zip("ab", releases, strict=False) if measured.warm is not None}
    if not shown:
        return None
    canvas = Canvas(_PLOT, "Latency percentiles of the model alone (ms)", names)
    values = {kind: [max(getattr(warm, key), 1e-4) for _, key in _RANKS] for kind, warm in shown.items()}
    every = [ms for column in values.values() for ms in column]
    up = axis_from_zero(every, canvas.floor - _MARGIN, canvas.top + _MARGIN, _LOG_FROM)
    canvas.upward(up)
    step = (RIGHT - LEFT) / len(_RANKS)
    places = [round(LEFT + step * (number + 0.5), 1) for number in range(len(_RANKS))]
    for kind, column in values.items():
        canvas.path([(x, up.at(ms)) for x, ms in zip(places, column, strict=True)], f"{kind} thin")
    for number, (x, (label, _)) in enumerate(zip(places, _RANKS, strict=True)):
        canvas.text(x, canvas.floor + 16, label, "", "middle")
        highest = max(column[number] for column in values.values())
        for kind, column in values.items():
            ms = column[number]
            canvas.dot(
                (x, up.at(ms)),
                4,
                kind,
                tr("{rank} {time}, of {count} runs", rank=label, time=human_ms(ms), count=f"{shown[kind].runs:,}"),
            )
            above = ms == highest and (kind == "a" or values["a"][number] != ms)
            canvas.text(x, up.at(ms) + (-9 if above else 18), number_text(ms), "value", "middle")
    return canvas.done()


def against(comparison: Comparison | None, names: Sequence[str]) -> Chart | None:
    """Return a chart of the second release's latency relative to the first, with its 95 % interval."""
    if comparison is None or comparison.low is None or comparison.high is None or len(names) < 2:
        return None
    canvas = Canvas(64, tr("{second} against {first}: latency (%), 95 % interval", second=names[1], first=names[0]))
    low, middle, high = ((value - 1) * 100 for value in (comparison.low, comparison.ratio, comparison.high))
    reach = max(abs(low), abs(high), 1.0) * 1.25
    across = Axis(-reach, reach, LEFT, RIGHT)
    for tick in across.ticks_about(6):
        canvas.line((across.at(tick), canvas.top), (across.at(tick), canvas.floor), "zero" if tick == 0 else "grid")
        canvas.text(across.at(tick), canvas.floor + 15, f"{tick:+g}" if tick else "0", "", "middle")
    y = canvas.top + 38
    measured = comparison.sentence(names[0], names[1])
    ends = [(across.at(low), y), (across.at(high), y)]
    canvas.rect(ends[0][0], y - 8, max(ends[1][0] - ends[0][0], 2), 16, "area b", measured)
    canvas.path(ends, "b")
    canvas.dot((across.at(middle), y), 5, "b", measured)
    canvas.text(across.at(middle), y - 14, f"{middle:+.3g} %", "value", "middle")
    canvas.text(LEFT, canvas.top + 6, "← faster")
    canvas.text(RIGHT, canvas.top + 6, "slower →", "", "end")
    return canvas.done()
