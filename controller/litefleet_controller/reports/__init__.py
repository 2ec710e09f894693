"""Reports: one formatter a file, each a pure function from a RunReport to text; and the live progress display."""

from .as_json import to_json
from .html import to_html
from .markdown import to_markdown
from .progress import LineProgress, LiveProgress, Progress, QuietProgress, make_progress
from .table import to_table, wants_color

__all__ = [
    "LineProgress",
    "LiveProgress",
    "Progress",
    "QuietProgress",
    "make_progress",
    "to_html",
    "to_json",
    "to_markdown",
    "to_table",
    "wants_color",
]
