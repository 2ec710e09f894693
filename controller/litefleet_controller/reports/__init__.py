"""Reports: pure functions that turn a run, a plan or a rollout into text; the live progress; the metrics server."""

from ..devices.outcome import document, to_json
from ..devices.progress import Progress, QuietProgress
from .html import to_html
from .progress import LineProgress, LiveProgress, make_progress
from .terminal import to_table, wants_color

__all__ = [
    "LineProgress",
    "LiveProgress",
    "Progress",
    "QuietProgress",
    "document",
    "make_progress",
    "to_html",
    "to_json",
    "to_table",
    "wants_color",
]
