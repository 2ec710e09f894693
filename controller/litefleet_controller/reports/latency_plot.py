"""Draws the latency chart as inline SVG: min, p50, p90 and p99 of each device on one common axis.  Pure.

Up to 40 devices are named rows; more are thin columns ordered by p50, so that 300 devices fit one screen and outliers
remain visible.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from ..catalogue.translate import tr
from ..common.text import sanitize
from ..devices.outcome import RunReport
from .charts.scale import Axis, axis_from_zero, tick_label
from .values import Latency, human_ms, latency_of

_WIDTH = 440  # units; a phone shows the chart whole, and its text stays readable
_NAME = 18  # characters of a device's name; longer ones are shortened in the middle
_MOST_ROWS = 40  # more rows would make the chart too long to scroll


@dataclass(frozen=True)
class Plot:
    """One model's chart: `caption` explains it, `svg` is safe markup."""

    model: str
    caption: str
    svg: Markup


def _axis(values: list[Latency], start: float, end: float) -> Axis:
    return axis_from_zero([ms for v in values for ms in (v.min, v.p99)], start, end)


def latency_plots(report: RunReport) -> list[Plot]:
    """Return a chart for each model that at least one device measured."""
    by_model: dict[str, list[tuple[str, Latency]]] = {}
    for outcome in report.outcomes:
        latency = latency_of(outcome)
        if latency is not None:
            by_model.setdefault(outcome.model, []).append((outcome.device, latency))
    return [_plot(model, sorted(rows, key=lambda row: row[1].p50)) for model, rows in by_model.items()]


def _plot(model: str, rows: list[tuple[str, Latency]]) -> Plot:
    are_few = len(rows) <= _MOST_ROWS
    svg, log = (_rows if are_few else _columns)(rows)
    count = tr("1 device") if len(rows) == 1 else tr("{count} devices", count=len(rows))
    how = tr("fastest first") if are_few else tr("one column per device, fastest first")
    scale = tr("; logarithmic axis") if log else ""
    about = tr("{count}, {how}{scale}", count=count, how=how, scale=scale)
    caption = tr("{about}. Thin line: min to p99; thick: min to p90; mark: p50.", about=about)
    slowest = rows[-1]
    if len(rows) > 1:
        name, p50 = sanitize(slowest[0], 80), human_ms(slowest[1].p50)
        caption += tr(" Slowest: {device}, p50 {time}.", device=name, time=p50)
    return Plot(sanitize(model, 80), caption, svg)


def _title(name: str, v: Latency) -> Markup:
    return Markup("<title>{}: min {}, p50 {}, p90 {}, p99 {}</title>").format(
        sanitize(name, 80), human_ms(v.min), human_ms(v.p50), human_ms(v.p90), human_ms(v.p99)
    )


def _open(height: int, count: int) -> Markup:
    return Markup(
        '<svg class="plot" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{a}">'
    ).format(w=_WIDTH, h=height, a=tr("Latency of {count} devices", count=count))


def _rows(rows: list[tuple[str, Latency]]) -> tuple[Markup, bool]:
    """Draw one named row per device; the axis is horizontal.  Return the SVG, and whether the axis is logarithmic."""
    step, bottom = 22, len(rows) * 22 + 6
    left = min(max(len(name) for name, _ in rows), _NAME) * 8 + 14  # units
    axis = _axis([v for _, v in rows], left, _WIDTH - 76)
    parts = [_open(bottom + 34, len(rows))]
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(Markup('<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{b}"/>').format(x=x, b=bottom))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x, bottom + 15, tick_label(tick))
        )
    parts.append(Markup('<text x="{}" y="{}">ms</text>').format(_WIDTH - 60, bottom + 15))
    for index, (name, v) in enumerate(rows):
        y = index * step + 14
        short = name if len(name) <= _NAME else name[:8] + "…" + name[1 - _NAME + 8 :]
        parts.append(
            Markup(
                '<g>{t}<text class="name" x="{nx}" y="{ty}" text-anchor="end">{n}</text>'
                '<line class="thin" x1="{a}" x2="{d}" y1="{y}" y2="{y}"/>'
                '<line class="thick" x1="{a}" x2="{c}" y1="{y}" y2="{y}"/>'
                '<rect class="mid" x="{bx}" y="{by}" width="3" height="14"/>'
                '<text x="{w}" y="{ty}" text-anchor="end">{p}</text></g>'
            ).format(
                t=_title(name, v), nx=left - 10, n=sanitize(short, 60), y=y, ty=y + 4, by=y - 7, w=_WIDTH - 2,
                p=human_ms(v.p50), a=axis.at(v.min), bx=round(axis.at(v.p50) - 1.5, 1),
                c=axis.at(v.p90), d=axis.at(v.p99),
            )
        )  # fmt: skip
    return Markup("").join([*parts, Markup("</svg>")]), axis.log


def _columns(rows: list[tuple[str, Latency]]) -> tuple[Markup, bool]:
    """Draw one thin column per device, ordered by p50; the axis is vertical.  Return as `_rows` does."""
    left, height = 52, 280
    axis = _axis([v for _, v in rows], height, 8)
    step = (_WIDTH - left - 8) / len(rows)
    wide = round(max(min(step * 0.6, 8), 0.6), 2)
    parts = [_open(height + 26, len(rows))]
    for tick in axis.ticks:
        y = axis.at(tick)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(left, _WIDTH, y=y))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(left - 6, y + 4, tick_label(tick))
        )
    parts.append(Markup('<text x="0" y="12">ms</text>'))
    for index, (name, v) in enumerate(rows):
        x = round(left + (index + 0.5) * step, 1)
        low, mid, p90, top = axis.at(v.min), axis.at(v.p50), axis.at(v.p90), axis.at(v.p99)
        parts.append(
            Markup(
                '<g>{t}<rect class="thin" x="{tx}" y="{top}" width="{tw}" height="{th}"/>'
                '<rect class="thick" x="{wx}" y="{p90}" width="{w}" height="{wh}"/>'
                '<rect class="mid" x="{wx}" y="{my}" width="{w}" height="3"/></g>'
            ).format(
                t=_title(name, v), tx=round(x - wide / 6, 2), top=top, tw=round(wide / 3, 2), th=round(low - top, 1),
                wx=round(x - wide / 2, 2), p90=p90, w=wide, wh=round(low - p90, 1), my=round(mid - 1.5, 1),
            )
        )  # fmt: skip
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text></svg>').format(
            (left + _WIDTH) / 2, height + 20, tr("devices, ordered by p50")
        )
    )
    return Markup("").join(parts), axis.log
