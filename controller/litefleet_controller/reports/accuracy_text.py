"""Writes an evaluation for a terminal: each device's score beside the reference's, the classes, the findings.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..common.text import sanitize
from ..devices.outcome import DeviceOutcome, RunReport
from ..evaluate.figures import Accuracy, accuracy_of
from .charts.accuracy import accuracy_rows, points, share
from .terminal import STYLES, Cell, Page
from .values import counts_line, human_ms, human_seconds, latency_of

_CLASSES = 20  # of one device, those that lost most
_TABLES = 10  # devices whose classes are shown


def accuracy_text(report: RunReport, width: int = 100, color: bool = False) -> str:
    """Return the scores, the classes and the findings, for a terminal `width` columns wide."""
    page = Page(width, color)
    head = ("device", "model", "metric", "samples", "score", "reference", "change", "p50", "verdict")
    page.table(head, [_row(outcome) for outcome in report.outcomes], left=("device", "model", "verdict"))
    for outcome in report.outcomes[:_TABLES]:
        figures = accuracy_of(outcome)
        if figures is not None and figures.classes:
            _classes(page, outcome, figures)
    page.findings((outcome.device, found) for outcome in report.outcomes for found in outcome.findings)
    page.line()
    page.line(counts_line(report), (f"   (evaluate, {human_seconds(report.seconds)})", "dim"))
    return page.text


def _row(outcome: DeviceOutcome) -> list[Cell]:
    figures, latency = accuracy_of(outcome), latency_of(outcome)
    verdict: Cell = (outcome.verdict.value, STYLES[outcome.verdict])
    names = [sanitize(outcome.device, 80), sanitize(outcome.model, 60)]
    measured = ["–"] * 5 if figures is None else accuracy_rows(figures)
    return [*names, *measured, human_ms(latency.p50) if latency else "–", verdict]


def _class_rows(figures: Accuracy, most: int) -> Iterator[list[str]]:
    """Yield a row for each of the classes that lost most: class, count, score, reference, change."""
    for one in figures.classes[:most]:
        change = None if one.reference is None else -one.lost
        yield [sanitize(one.name, 60), f"{one.count:,}", share(one.value), share(one.reference), points(change)]


def _classes(page: Page, outcome: DeviceOutcome, figures: Accuracy) -> None:
    count = len(figures.classes)
    shown = f"the {_CLASSES} classes that lost most, of {count:,}" if count > _CLASSES else f"classes: {count}"
    page.heading(f"{sanitize(outcome.device, 80)}, {sanitize(outcome.model, 60)}", shown)
    counted = "pixels" if figures.metric == "iou" else "objects" if figures.metric == "map50" else "samples"
    page.table(("class", counted, "score", "reference", "change"), _class_rows(figures, _CLASSES), left=("class",))
