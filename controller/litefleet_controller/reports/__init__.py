"""Reports: one formatter a file, each a pure function from a report, a plan or a rollout to text; and the live progress."""

from ..devices.outcome import document, to_json
from ..devices.progress import Progress, QuietProgress
from .html import to_html
from .markdown import to_markdown
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
    "to_markdown",
    "to_table",
    "wants_color",
]
