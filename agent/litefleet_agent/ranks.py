"""Ranks of measurements.  Pure."""

import math
from typing import Sequence

__all__ = ["median", "nearest_rank"]


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the values do not exceed; they are sorted, and at least one."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle value, for an even count the mean of the two in the middle; ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
