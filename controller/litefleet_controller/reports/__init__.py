"""Reports: one formatter a file, each a pure function from a report, a plan or a rollout to text; and the live progress."""

from .as_json import document, to_json
from .html import to_html
from .markdown import to_markdown
from .progress import LineProgress, LiveProgress, Progress, QuietProgress, make_progress
from .table import to_table, wants_color

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
