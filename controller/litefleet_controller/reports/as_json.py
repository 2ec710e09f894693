"""The report as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..outcome import RunReport
from .values import plain

__all__ = ["document", "to_json"]


def to_json(report: RunReport) -> str:
    """Return one JSON document, ending in a newline; ASCII, so that even a terminal may be shown it."""
    return document(report.to_dict())


def document(data: Mapping[str, Any]) -> str:
    """Return any report's JSON form (a plan's, a status) as one document, as `to_json` does."""
    return json.dumps(plain(data), indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n"
