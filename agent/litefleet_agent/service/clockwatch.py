"""Whether the device's wall clock can be right: by what has happened here already, and by the clock since its start."""

import time
from typing import Any, List, Optional, Tuple

from ..clock import Clock
from ..findings import Finding, finding
from ..smallfile import read_small
from ..store import Store

__all__ = ["ClockWatch", "clock_findings"]

_SLACK_S = 120.0  # the operator's clock and the device's differ a little
_JUMP_S = 86400.0


def clock_findings(store: Store) -> List[Finding]:
    """Return LF618 when the clock stands before the latest release that was accepted or proven here."""
    now, (what, then) = store.clock.wall(), _latest(store)
    if now + _SLACK_S >= then:
        return []
    return [finding("LF618", "The clock says %s, and a release was %s here at %s." % (_time(now), what, _time(then)))]


def _latest(store: Store) -> Tuple[str, float]:
    """Return the latest moment that the device knows of, and what happened then."""
    moments = [("proven", _number((store.verified(i) or {}).get("at"))) for i in store.current().values()]
    moments.append(("accepted", _number((read_small(store, "trust", "accepted.json") or {}).get("latest"))))
    return max(moments, key=lambda moment: moment[1])


def _number(value: Any) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e11
    return float(value) if good else 0.0


def _time(wall: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
    except (OverflowError, ValueError, OSError):
        return "%.0f s after 1970" % wall


class ClockWatch:
    """Finds that the clock was set by more than a day between two looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: Optional[float] = None  # wall clock at the start of this boot, as the last look saw it

    def findings(self) -> List[Finding]:
        """Return LF618 when the clock was set since the last look; the next look begins from the new time."""
        offset = self._clock.wall() - self._clock.boottime()
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) <= _JUMP_S:
            return []
        days = (offset - before) / 86400
        ahead = "forward" if days > 0 else "back"
        return [finding("LF618", "The clock was set %s by %.1f days while the service ran." % (ahead, abs(days)))]
