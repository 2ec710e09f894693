"""Memory over many runs: does the process grow, or was it only warming up?  Pure."""

from typing import List, Optional, Sequence, Tuple

from .findings import Certainty, Finding, finding

__all__ = ["growth", "slope"]

_LEAST = 8  # samples
_GROWN = 32 << 20  # bytes over the second half that are no longer an allocator's whims
_STEADY = 0.8  # of the samples lie above the one before, or level with it


def slope(samples: Sequence[Tuple[float, float]]) -> float:
    """Return the least-squares slope of (x, y) samples, in y per x; 0 for fewer than two different x."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


def growth(samples: Sequence[Tuple[float, float]]) -> Optional[Finding]:
    """Return LF419 when resident memory goes on growing; `samples` are (runs done, bytes), in order.

    The first half is warming up and does not count.  Steady growth is certain to be one; whose fault it is stays open.
    """
    late: List[Tuple[float, float]] = list(samples[len(samples) // 2 :])
    if len(late) < _LEAST or late[-1][1] - late[0][1] < _GROWN:
        return None
    steps = [b[1] >= a[1] for a, b in zip(late, late[1:])]  # noqa: B905, RUF007 - 3.7
    if sum(steps) < _STEADY * len(steps):
        return None
    per_thousand = slope(late) * 1000 / 1e6
    seen = "Resident memory grew from %.1f MB to %.1f MB in %d runs, %.1f MB per 1,000 runs." % (
        late[0][1] / 1e6, late[-1][1] / 1e6, late[-1][0] - late[0][0], per_thousand,
    )  # fmt: skip
    return finding("LF419", seen, Certainty.CERTAIN)
