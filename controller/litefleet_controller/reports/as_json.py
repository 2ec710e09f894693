"""The report as one JSON document."""

from __future__ import annotations

import json

from ..outcome import RunReport
from .values import plain

__all__ = ["to_json"]


def to_json(report: RunReport) -> str:
    """Return one JSON document, ending in a newline; ASCII, so that even a terminal may be shown it."""
    return json.dumps(plain(report.to_dict()), indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n"
