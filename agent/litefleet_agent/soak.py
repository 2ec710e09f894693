"""Memory over many runs: does the process grow, or was it only warming up?  Pure."""

from typing import List, Optional, Sequence, Tuple

from .findings import Certainty, Finding, finding

__all__ = ["growth", "slope"]

_LEAST = 8  # samples
_GROWN = 32 << 20  # bytes over the second half that are no longer an allocator's whims
_GROWING = 4 << 20  # and what may yet become of them
_STEADY = 0.8  # of the samples lie above the one before, or level with it
_QUARTERS = 4
_PART = 0.1  # of the growth falls into each quarter of that half: one jump alone is no growth

Samples = Sequence[Tuple[float, float]]


def slope(samples: Samples) -> float:
    """Return the least-squares slope of (x, y) samples, in y per x; 0 for fewer than two different x."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


def growth(samples: Samples) -> Optional[Finding]:
    """Return LF419 when resident memory goes on growing; `samples` are (runs done, bytes), in order.

    The first half is warming up and does not count.  Steady growth by 32 MiB is certain to be one, whose fault it is stays
    open; by 4 MiB it is possible, and a longer soak decides.
    """
    late: List[Tuple[float, float]] = list(samples[len(samples) // 2 :])
    grown = late[-1][1] - late[0][1] if len(late) >= _LEAST else 0.0
    if grown < _GROWING or not _steady(late, grown):
        return None
    seen = "Resident memory grew from %.1f MB to %.1f MB in %d runs, %.3g MB per 1,000 runs." % (
        late[0][1] / 1e6, late[-1][1] / 1e6, late[-1][0] - late[0][0], slope(late) * 1000 / 1e6,
    )  # fmt: skip
    if grown < _GROWN:
        return finding("LF419", seen + " That is little: a longer soak decides.", Certainty.POSSIBLE)
    return finding("LF419", seen, Certainty.CERTAIN)


def _steady(late: Samples, grown: float) -> bool:
    """Say whether it grows all the time, and not in one jump."""
    steps = [b[1] >= a[1] for a, b in zip(late, late[1:])]  # noqa: B905, RUF007 - 3.7
    if sum(steps) < _STEADY * len(steps):
        return False
    marks = [late[(len(late) - 1) * quarter // _QUARTERS][1] for quarter in range(_QUARTERS + 1)]
    return all(b - a >= _PART * grown for a, b in zip(marks, marks[1:]))  # noqa: B905, RUF007 - 3.7
