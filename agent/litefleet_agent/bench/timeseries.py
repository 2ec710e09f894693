"""Measurements over time, in a bounded number of points that cover more time as the bench continues.  Pure."""

import random
from array import array
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..verification.golden_cases import median
from .results import Columns
from .statistics import half

_MOST_POINTS = 256
_FIRST_WIDTH_S = 0.1
_PER_POINT = 64  # latencies kept of one point
# Readings beside the runs, and the function that picks the value of a point: the worst.
REDUCERS: Dict[str, Callable[[float, float], float]] = {
    "rss": max,  # bytes
    "temperature": max,  # degrees Celsius
    "frequency": min,  # MHz, of the CPU that runs fastest
    "available": min,  # bytes that programs can still get
    "others": max,  # share of the whole CPU that other programs used, 0 to 1
}
COLUMNS = ("t", "runs", "p50", "max") + tuple(REDUCERS)  # seconds from the beginning; milliseconds


class _Point:
    """The measurements of one stretch of time."""

    def __init__(self) -> None:
        self.times = array("d")
        self.runs = 0
        self.max: Optional[float] = None
        self.readings: Dict[str, float] = {}

    def observe(self, readings: Mapping[str, Optional[float]]) -> None:
        for name, value in readings.items():
            if value is not None:
                self.readings[name] = REDUCERS[name](self.readings.get(name, value), value)

    def run(self, times: Sequence[float], runs: int, highest: Optional[float], chance: random.Random) -> None:
        self.times.extend(times)
        while len(self.times) > _PER_POINT:
            self.times = half(self.times, chance)
        self.runs += runs
        self.max = max((ms for ms in (self.max, highest) if ms is not None), default=None)

    def join(self, later: "_Point", chance: random.Random) -> None:
        self.run(later.times, later.runs, later.max, chance)
        self.observe(later.readings)

    def row(self, t: float) -> Dict[str, Optional[float]]:
        p50 = round(median(self.times), 4) if self.times else None
        row = {name: self.readings.get(name) for name in REDUCERS}
        return dict(row, t=round(t, 2), runs=self.runs, p50=p50, max=None if self.max is None else round(self.max, 4))


class Series:
    """Latency, memory and sensors over time, in at most `most` points."""

    def __init__(self, most: int = _MOST_POINTS) -> None:
        self._most, self._width = most, _FIRST_WIDTH_S
        self._points: Dict[int, _Point] = {}
        self._chance = random.Random(0)

    def _at(self, t: float) -> _Point:
        while t / self._width >= self._most:
            self._widen()
        return self._points.setdefault(max(0, int(t / self._width)), _Point())

    def _widen(self) -> None:
        joined: Dict[int, _Point] = {}
        for index in sorted(self._points):
            joined.setdefault(index // 2, _Point()).join(self._points[index], self._chance)
        self._points, self._width = joined, self._width * 2

    def runs(self, begun: float, ended: float, times: Sequence[float]) -> None:
        """Add runs of `times` milliseconds that followed each other from `begun` to `ended`, in seconds."""
        step = max((ended - begun) / max(len(times), 1), 1e-9)
        at = 0
        while at < len(times):
            t = begun + (at + 1) * step
            point = self._at(t)
            fits = 1 + int(((int(t / self._width) + 1) * self._width - t) / step)  # further runs that end in this point
            part = times[at : at + fits]
            point.run(part, len(part), max(part), self._chance)
            at += fits

    def observe(self, t: float, readings: Mapping[str, Optional[float]]) -> None:
        """Add readings at `t`: some of REDUCERS; None where the kernel does not report one."""
        self._at(t).observe(readings)

    def columns(self) -> Columns:
        """Return COLUMNS, lists of equal length; `t` is the beginning of each point, None = not measured."""
        rows = [self._points[index].row(index * self._width) for index in sorted(self._points)]
        return {name: [row[name] for row in rows] for name in COLUMNS}


def rows_of(columns: Mapping[str, Sequence[Optional[float]]], *names: str) -> List[Tuple[float, ...]]:
    """Return the points at which all of `names` were measured."""
    rows = []
    for row in zip(*(columns[name] for name in names)):  # noqa: B905 - 3.7
        known = tuple(value for value in row if value is not None)
        if len(known) == len(names):
            rows.append(known)
    return rows
