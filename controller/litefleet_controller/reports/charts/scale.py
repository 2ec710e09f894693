"""Maps values to pixels: linear and logarithmic axes with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LOG_FROM = 30.0  # ratio of largest to smallest value from which an axis is logarithmic


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        """Round values along the axis."""
        return self.ticks_about(5)

    def ticks_about(self, count: int) -> list[float]:
        """Return about `count` round values along the axis."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            digits = (1, 2, 5) if last - first <= 3 else (1,)
            every = [d * 10.0**e for e in range(first, last + 1) for d in digits]
        else:
            step = _round_step((self.high - self.low) / count)
            every = [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [t for t in every if self.low <= t <= self.high]


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least `rough` (and at least 1e-12)."""
    rough = max(rough, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(d * power for d in (1, 2, 5, 10) if d * power >= rough * 0.999)


def axis_from_zero(values: Iterable[float], start: float, end: float, log_from: float = LOG_FROM) -> Axis:
    """Return an axis for positive values: from zero, or logarithmic where their ratio reaches `log_from`."""
    every = list(values)
    lowest = max(min(every), 1e-4)
    highest = max(max(every), lowest * 1.01)
    log = highest / lowest >= log_from
    return Axis(lowest * 0.9 if log else 0.0, highest * (1.1 if log else 1.03), start, end, log)


def axis_around(values: Iterable[float], start: float, end: float, least: float = 0.2) -> Axis:
    """Return an axis for changes of values; it spans at least the share `least` of the largest value, so noise stays small."""
    every = list(values)
    low, high = min(every), max(every)
    missing = max(0.0, least * max(abs(high), abs(low), 1e-9) - (high - low)) / 2
    margin = (high - low + 2 * missing) * 0.08
    lowest = low - missing - margin
    return Axis(max(0.0, lowest) if low >= 0 else lowest, high + missing + margin, start, end)


def tick_label(value: float) -> str:
    """Return a tick's label: "0.5", "20", "10k"."""
    return f"{value:g}" if abs(value) < 10_000 else f"{value / 1000:g}k"


def number_text(value: float) -> str:
    """Return a value in three digits for the text beside its mark: "2.14", "33.1", "1,930"."""
    for least, digits in ((100, 0), (10, 1), (0.01, 2)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.2g}"
