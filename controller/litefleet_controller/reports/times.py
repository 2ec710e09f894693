"""Times and lengths of time for people.  Pure: the present is a parameter."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["human_moment", "human_span", "until"]

_YEAR_9000 = 221_845_392_000.0  # datetime ends soon after


def human_moment(epoch: float) -> str:
    """Return seconds since the epoch as "2026-11-23 11:30 UTC"; a dash for 0 and for what is no time."""
    if not 0 < epoch < _YEAR_9000:
        return "–"
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")


def human_span(seconds: float) -> str:
    """Return a length of time for people: "45 s", "2 min 30 s", "12 min", "2 h 30 min", "9 days"."""
    whole = round(max(seconds, 0))
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", "s", 10)
    if whole < 2 * 86400:
        return _two(round(whole / 60), 60, "h", "min", 48)
    return _two(round(whole / 3600), 24, "days", "h", 4)


def _two(count: int, per: int, large: str, small: str, below: int) -> str:
    """Return "2 h 30 min"; from `below` large ones on, the small ones are rounded away."""
    whole, rest = divmod(count, per)
    if whole >= below:
        return f"{round(count / per)} {large}"
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def until(moment: float, now: float) -> str:
    """Return when something is due, seen from now: "in 5 min", "now"."""
    return f"in {human_span(moment - now)}" if moment - now >= 1 else "now"
