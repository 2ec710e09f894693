"""Detects trends in measurements over time: memory growth and thermal throttling.  Pure."""

from typing import List, Mapping, Optional, Sequence, Tuple

from ..findings import Certainty, Finding, finding
from ..verification.golden_cases import median
from .timeseries import rows_of

_LEAST = 8  # samples
_GROWN = 32 << 20  # bytes over the second half: more than an allocator keeps in reserve
_GROWING = 4 << 20  # bytes: may become growth
_STEADY = 0.8  # share of the samples that are not below the one before
_QUARTERS = 4
_PART = 0.1  # share of the growth in each quarter of that half: a single jump is not growth

Points = Sequence[Tuple[float, float]]


def slope(samples: Points) -> float:
    """Return the least-squares slope of (x, y) samples, in y per x; 0 for fewer than two different x."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


def memory_growth(samples: Points) -> Optional[Finding]:
    """Return LF419 when resident memory grows steadily; `samples` are (runs done, bytes), in order.

    The first half is warm-up and does not count.  Growth by 32 MiB is certain, by 4 MiB possible: a longer measurement
    decides.
    """
    late: List[Tuple[float, float]] = list(samples[len(samples) // 2 :])
    grown = late[-1][1] - late[0][1] if len(late) >= _LEAST else 0.0
    if grown < _GROWING or not _steady(late, grown):
        return None
    observed = "Resident memory grew from %.1f MB to %.1f MB in %d runs, %.3g MB per 1,000 runs." % (
        late[0][1] / 1e6, late[-1][1] / 1e6, late[-1][0] - late[0][0], slope(late) * 1000 / 1e6,
    )  # fmt: skip
    if grown < _GROWN:
        return finding("LF419", observed + " That is little: a longer measurement decides.", Certainty.POSSIBLE)
    return finding("LF419", observed, Certainty.CERTAIN)


def _steady(late: Points, grown: float) -> bool:
    """Return whether it grows all the time, and not in one jump."""
    steps = [b[1] >= a[1] for a, b in zip(late, late[1:])]  # noqa: B905, RUF007 - 3.7
    if sum(steps) < _STEADY * len(steps):
        return False
    marks = [late[(len(late) - 1) * quarter // _QUARTERS][1] for quarter in range(_QUARTERS + 1)]
    return all(b - a >= _PART * grown for a, b in zip(marks, marks[1:]))  # noqa: B905, RUF007 - 3.7


_FREQUENCY = 0.9  # of the frequency in the first quarter, or less
_LATENCY = 1.1  # times the latency in the first quarter, or more
_IN_A_ROW = 3  # points
_FEWEST = 12  # points

_Row = Tuple[float, float, float]  # seconds, MHz, milliseconds


def throttled(columns: Mapping[str, Sequence[Optional[float]]]) -> Optional[Finding]:
    """Return LF421 when the frequency fell and the latency rose, each by a tenth, since the first quarter of the time."""
    rows: List[_Row] = [(t, mhz, p50) for t, mhz, p50 in rows_of(columns, "t", "frequency", "p50")]
    if len(rows) < _FEWEST:
        return None
    first = rows[: len(rows) // 4]
    mhz, p50 = median([row[1] for row in first]), median([row[2] for row in first])
    slow = [row for row in rows if row[1] <= mhz * _FREQUENCY and row[2] >= p50 * _LATENCY]
    since = _beginning(rows, slow)
    if since is None:
        return None
    observed = "After %.0f s the CPU's frequency fell from %.0f to %.0f MHz, and p50 rose from %.3g to %.3g ms%s." % (
        since, mhz, median([row[1] for row in slow]), p50, median([row[2] for row in slow]), _heat(columns),
    )  # fmt: skip
    return finding("LF421", observed)


def _beginning(rows: Sequence[_Row], slow: Sequence[_Row]) -> Optional[float]:
    """Return the time of the first stretch of at least three slow points, None without one."""
    times = {row[0] for row in slow}
    for at in range(len(rows) - _IN_A_ROW + 1):
        if all(row[0] in times for row in rows[at : at + _IN_A_ROW]):
            return rows[at][0]
    return None


def _heat(columns: Mapping[str, Sequence[Optional[float]]]) -> str:
    degrees = [value for value in columns["temperature"] if value is not None]
    return "; it was up to %.0f degrees Celsius hot" % max(degrees) if degrees else ""
