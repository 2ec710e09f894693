"""Did the CPU slow down under the load?  Pure."""

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ..findings import Finding, finding
from ..ranks import median
from .series import rows_of

__all__ = ["throttled"]

_FREQUENCY = 0.9  # of what it was in the first quarter, or less
_LATENCY = 1.1  # times what it was, or more
_IN_A_ROW = 3  # points
_FEWEST = 12  # points

_Row = Tuple[float, float, float]  # seconds, MHz, milliseconds


def throttled(columns: Mapping[str, Sequence[Any]]) -> Optional[Finding]:
    """Return LF421 when the frequency fell and the latency rose, each by a tenth, against the first quarter of the time."""
    rows: List[_Row] = [(t, mhz, p50) for t, mhz, p50 in rows_of(columns, "t", "frequency", "p50")]
    if len(rows) < _FEWEST:
        return None
    first = rows[: len(rows) // 4]
    mhz, p50 = median([row[1] for row in first]), median([row[2] for row in first])
    slow = [row for row in rows if row[1] <= mhz * _FREQUENCY and row[2] >= p50 * _LATENCY]
    since = _beginning(rows, slow)
    if since is None:
        return None
    seen = "After %.0f s the CPU's frequency fell from %.0f to %.0f MHz, and p50 rose from %.3g to %.3g ms%s." % (
        since, mhz, median([row[1] for row in slow]), p50, median([row[2] for row in slow]), _heat(columns),
    )  # fmt: skip
    return finding("LF421", seen)


def _beginning(rows: Sequence[_Row], slow: Sequence[_Row]) -> Optional[float]:
    """Return when the first stretch began that is too long for chance."""
    times = {row[0] for row in slow}
    for at in range(len(rows) - _IN_A_ROW + 1):
        if all(row[0] in times for row in rows[at : at + _IN_A_ROW]):
            return rows[at][0]
    return None


def _heat(columns: Mapping[str, Sequence[Any]]) -> str:
    degrees = [value for value in columns["temperature"] if value is not None]
    return "; it was up to %.0f degrees Celsius hot" % max(degrees) if degrees else ""
