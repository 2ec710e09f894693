"""Draws accuracy on labelled data: each device's score beside the reference's, and the classes that lost most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from ...catalogue.translate import tr
from ...common.text import sanitize
from ...devices.outcome import DeviceOutcome, RunReport
from ...evaluate.figures import Accuracy, accuracy_of, label_of
from .canvas import WIDTH, Canvas, Chart
from .scale import Axis, tick_label

_ROW = 20
_LONGEST = 24  # characters of a label
_MOST_DEVICES, _MOST_CLASSES, _MOST_TABLES = 60, 20, 10


class _Bar(NamedTuple):
    """One row of a chart: scores from 0 to 1."""

    label: str
    value: float
    reference: float | None


def accuracy_charts(report: RunReport) -> list[Chart]:
    """Return a chart of the devices' scores for each model, and one of the classes for each of ten devices that lost most."""
    measured = [(outcome, found) for outcome in report.outcomes if (found := accuracy_of(outcome)) is not None]
    charts = []
    for model in dict.fromkeys(outcome.model for outcome, _ in measured):
        charts.append(_devices(model, [pair for pair in measured if pair[0].model == model]))
    for outcome, found in _worth_a_look(measured)[:_MOST_TABLES]:
        if len(found.classes) > 1:
            bars = [_Bar(one.name, one.value, one.reference) for one in found.classes[:_MOST_CLASSES]]
            most = tr(", the {count} that lost most", count=_MOST_CLASSES) if len(found.classes) > _MOST_CLASSES else ""
            charts.append(_chart(f"{outcome.device}, {outcome.model}: {tr('classes')}{most}", bars, None))
    return charts


def _worth_a_look(measured: list[tuple[DeviceOutcome, Accuracy]]) -> list[tuple[DeviceOutcome, Accuracy]]:
    """Return those that lost something in a class, most first; the first where none did, as all charts would look alike."""
    losses = [max((one.lost for one in found.classes), default=0.0) for _, found in measured]
    order = sorted(range(len(measured)), key=lambda place: -losses[place])
    return [measured[place] for place in order if losses[place] > 0] or measured[:1]


def _name(label: str) -> str:
    """Return a label that fits before the bars."""
    whole = sanitize(label, 200)
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"


def _devices(model: str, measured: Sequence[tuple[DeviceOutcome, Accuracy]]) -> Chart:
    first = measured[0][1]
    bars = [_Bar(outcome.device, found.value, found.reference) for outcome, found in measured[:_MOST_DEVICES]]
    more = tr(" (the first {count} devices)", count=_MOST_DEVICES) if len(measured) > _MOST_DEVICES else ""
    title = tr("{metric} on {count} samples", metric=label_of(first.metric), count=f"{first.samples:,}")
    return _chart(f"{model}: {title}{more}", bars, first.least)


def _chart(title: str, bars: Sequence[_Bar], least: float | None) -> Chart:
    names = ["device", "reference", *(["required"] if least is not None else [])]
    canvas = Canvas(_ROW * len(bars), title, names)
    left = min(WIDTH / 2.5, max(cell_len(_name(bar.label)) for bar in bars) * 7.7 + 10)
    across = Axis(0.0, 1.0, left, WIDTH - 50)
    for tick in across.ticks_about(5):
        canvas.line((across.at(tick), canvas.top), (across.at(tick), canvas.floor), "grid")
        canvas.text(across.at(tick), canvas.floor + 15, tick_label(round(tick, 2)), "", "middle")
    for number, bar in enumerate(bars):
        y = canvas.top + number * _ROW + 3
        about = f"{bar.label}: {share(bar.value)}, {tr('reference')} {share(bar.reference)}"
        canvas.text(left - 8, y + 12, _name(bar.label), "name", "end")
        canvas.rect(left, y, across.at(bar.value) - left, 14, "box a", about)
        if bar.reference is not None:
            canvas.rect(across.at(bar.reference) - 1.5, y - 1, 3, 16, "box b", about)
        canvas.text(WIDTH - 44, y + 12, share(bar.value), "value")
    if least is not None:
        canvas.rect(
            across.at(least) - 1, canvas.top, 2, canvas.floor - canvas.top, "box c", f"{tr('required')}: {share(least)}"
        )
    return canvas.done()


def accuracy_rows(found: Accuracy) -> list[str]:
    """Return an accuracy's cells: metric, samples, score, reference, change."""
    change = None if found.reference is None else found.value - found.reference
    scores = [share(found.value), share(found.reference), points(change)]
    return [label_of(found.metric), f"{found.samples:,}", *scores]


def share(value: float | None) -> str:
    """Return a score with four digits, a dash for none."""
    return "–" if value is None else f"{value:.4f}"


def points(change: float | None) -> str:
    """Return a change of a score with its sign, a dash for none."""
    return "–" if change is None else f"{change:+.4f}" if abs(change) >= 0.00005 else "0"
