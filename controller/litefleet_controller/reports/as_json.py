"""The report as one JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from ..outcome import RunReport

__all__ = ["to_json"]

_DEEPEST = 32  # a device's facts are a few levels deep; a hostile one's must not end in a RecursionError


def _plain(value: object, depth: int = 0) -> object:
    """Return a value JSON can hold: NaN and Inf, which JSON has no word for, become the strings "NaN", "Infinity"."""
    if depth > _DEEPEST:
        return "… (too deep)"
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def to_json(report: RunReport) -> str:
    """Return one JSON document, ending in a newline; ASCII, so that even a terminal may be shown it."""
    return json.dumps(_plain(report.to_dict()), indent=2, allow_nan=False).replace("\x7f", "\\u007f") + "\n"
