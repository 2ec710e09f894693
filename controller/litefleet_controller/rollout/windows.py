"""Maintenance windows: when devices may be begun.  Pure: the time is a parameter, in seconds since the epoch, UTC."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SHAPE = re.compile(r"\s*(?:([A-Za-z][A-Za-z,\- ]*?)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*", re.ASCII)
_EXAMPLES = 'write "22:00-05:00", "Mon-Fri 22:00-05:00" or "Sat,Sun 00:00-24:00"'
_DAY = 24 * 60  # minutes
_AHEAD = 22  # days; a weekly window may fall into an hour that is skipped, but not three weeks in a row


@dataclass(frozen=True)
class _Window:
    days: frozenset[int]  # on which it starts; Monday is 0
    start: int  # minutes on the clock, after that day's midnight
    end: int  # above 24 hours: on the day after


def check_window(text: str) -> str:
    """Return a window as it is written, such as "Mon-Fri 22:00-05:00"; ValueError when it is none."""
    _parse(text)
    return text


def check_zone(name: str) -> str:
    """Return a time zone's name; ValueError when this machine knows none of that name."""
    _zone(name)
    return name


def open_until(windows: Sequence[str], zone: str, now: float) -> float | None:
    """Return when the window that is open at `now` closes; inf when that never happens, None when none is open."""
    if not windows:
        return math.inf
    spans = _spans(tuple(windows), zone, _utc_day(now))
    until = next((end for start, end in spans if start <= now < end), None)
    # A weekly window that is still open after all the days considered is open always.
    return math.inf if until is not None and until == spans[-1][1] and until > now + 8 * 86400 else until


def next_open(windows: Sequence[str], zone: str, now: float) -> float:
    """Return when a window is next open: `now` itself while one is; inf when the days never have that hour."""
    if not windows:
        return now
    spans = _spans(tuple(windows), zone, _utc_day(now))
    return next((max(start, now) for start, end in spans if now < end), math.inf)


def _utc_day(now: float) -> int:
    return datetime.fromtimestamp(now, UTC).toordinal()


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> _Window:
    found = _SHAPE.fullmatch(text) if len(text) <= 100 else None
    if found is None:
        raise ValueError(f"'{text[:100]}' is no maintenance window: {_EXAMPLES}")
    days, *clock = found.groups()
    start, end = _minutes(text, clock[0], clock[1]), _minutes(text, clock[2], clock[3])
    if start == end:
        raise ValueError(f"'{text}' is a window of no length: for the whole day write 00:00-24:00")
    if start == _DAY:
        raise ValueError(f"'{text}' starts at 24:00: write 00:00 and the day after")
    return _Window(_days(text, days), start, end if end > start else end + _DAY)


def _minutes(text: str, hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _DAY:
        raise ValueError(f"'{hours}:{minutes}' in '{text}' is no time of day: 00:00 to 24:00")
    return total


def _days(text: str, days: str | None) -> frozenset[int]:
    if days is None:
        return frozenset(range(7))
    chosen: set[int] = set()
    for part in days.split(","):
        ends = [_day(text, name) for name in part.split("-", 1)]
        chosen.update((ends[0] + i) % 7 for i in range((ends[-1] - ends[0]) % 7 + 1))
    return frozenset(chosen)


def _day(text: str, name: str) -> int:
    short = name.strip().lower()
    if short not in _DAYS:
        raise ValueError(f"'{name.strip()}' in '{text}' is no day: write Mon, Tue, Wed, Thu, Fri, Sat or Sun")
    return _DAYS.index(short)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # known without any zone files
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(
            f"this machine has no time zone '{name[:100]}': write one such as Europe/Berlin or Asia/Shanghai, "
            "or UTC; on a machine without zone files install the package tzdata"
        ) from None


@functools.lru_cache(maxsize=64)
def _spans(windows: tuple[str, ...], zone: str, day: int) -> tuple[tuple[float, float], ...]:
    """Return the times when some window is open, around the UTC day of ordinal `day`, in order and joined."""
    where = _zone(zone)
    found: list[tuple[float, float]] = []
    for window in map(_parse, windows):
        for ordinal in range(day - 3, day + _AHEAD + 1):
            local = date.fromordinal(ordinal)
            if local.weekday() in window.days:
                found.append((_instant(local, window.start, where), _instant(local, window.end, where)))
    return _joined(span for span in found if span[0] < span[1])


def _joined(spans: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _instant(day: date, minutes: int, zone: tzinfo) -> float:
    """Return when the clock shows that time: the first time when it does so twice, the jump over it when it never does."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    late = wall.replace(tzinfo=zone).timestamp()  # in a gap: counted with the offset before the jump
    if datetime.fromtimestamp(late, zone).replace(tzinfo=None) == wall:
        return late
    early = wall.replace(tzinfo=zone, fold=1).timestamp()
    low, high = int(early), int(late)
    after = datetime.fromtimestamp(high, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == after:
            high = middle
        else:
            low = middle
    return float(high)
