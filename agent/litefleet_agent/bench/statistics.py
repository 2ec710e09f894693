"""Latencies of any number of runs in bounded memory.  Pure."""

import math
import random
from array import array
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..verification.golden_cases import median, nearest_rank

__all__ = ["RANKS", "Samples", "compare_pairs", "half", "sentence", "verdict"]


RANKS = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
_MOST = 1 << 17


def half(values: "array[float]", chance: random.Random) -> "array[float]":
    """Return one of each two neighbours, by chance: the cases take turns, and every second run would be of one case."""
    return array("d", (values[min(i + (chance.random() < 0.5), len(values) - 1)] for i in range(0, len(values), 2)))


class Samples:
    """Times in milliseconds: count, minimum, maximum and mean of all; ranks of those that are kept, `most` at the most."""

    def __init__(self, most: int = _MOST) -> None:
        self.count = 0
        self._most, self._one_in = most, 1
        self._kept = array("d")
        self._sum, self._min, self._max = 0.0, math.inf, 0.0
        self._chance = random.Random(0)

    def add(self, times: Sequence[float]) -> None:
        """Take runs in."""
        if not times:
            return
        self.count += len(times)
        self._sum += sum(times)
        self._min, self._max = min(self._min, min(times)), max(self._max, max(times))
        chance, one_in = self._chance, self._one_in
        self._kept.extend(times if one_in == 1 else [ms for ms in times if chance.random() * one_in < 1])
        while len(self._kept) > self._most:
            self._kept, self._one_in = half(self._kept, chance), self._one_in * 2

    def statistics(self) -> Dict[str, float]:
        """Return {min, p50, p90, p99, p999, max, mean} in milliseconds, and {runs}; empty without any."""
        if not self.count:
            return {}
        ordered = sorted(self._kept)
        statistics = {"min": self._min, "max": self._max, "mean": self._sum / self.count}
        statistics.update((name, nearest_rank(ordered, share)) for name, share in RANKS)
        return dict({name: round(ms, 4) for name, ms in statistics.items()}, runs=self.count)


_GROUPS = 50  # neighbours are drawn together into at most so many groups, as they share what disturbs them
_FEWEST = 6  # groups: with fewer, no interval of a median is 95 % sure


def compare_pairs(pairs: Sequence[Tuple[float, float]]) -> Dict[str, Any]:
    """Return {ratio, low, high, difference_ms, pairs} of (first, second) latencies in milliseconds, measured in turn.

    `ratio` is the median of second / first, `low` to `high` holds it with 95 % confidence (from the binomial ranks of a
    median: nothing is assumed of how latencies are distributed); both None where there are too few pairs.
    Empty without pairs.
    """
    usable = [(first, second) for first, second in pairs if first > 0]
    if not usable:
        return {}
    ratios = _groups([second / first for first, second in usable])
    low, high = _interval(sorted(ratios))
    return {
        "ratio": round(median(ratios), 5),
        "low": low,
        "high": high,
        "difference_ms": round(median([second - first for first, second in usable]), 5),
        "pairs": len(usable),
    }


def _groups(values: Sequence[float]) -> List[float]:
    size = math.ceil(len(values) / _GROUPS)
    return [median(values[at : at + size]) for at in range(0, len(values), size)]


def _interval(ordered: Sequence[float]) -> Tuple[Any, Any]:
    """Return the values between which the median lies with 95 % confidence."""
    count = len(ordered)
    if count < _FEWEST:
        return None, None
    below, rank = 0.0, -1  # below: the chance that `rank` or fewer of the values lie below the median
    while below <= 0.025:
        rank += 1
        below += math.factorial(count) / (math.factorial(rank) * math.factorial(count - rank)) / 2.0**count
    return round(ordered[rank - 1], 5), round(ordered[count - rank], 5)


def verdict(comparison: Mapping[str, Any]) -> str:
    """Return what the second release is: "faster", "slower", or "not told apart"."""
    low, high = comparison.get("low"), comparison.get("high")
    if low is None or high is None or low <= 1 <= high:
        return "not told apart"
    return "faster" if high < 1 else "slower"


def sentence(comparison: Mapping[str, Any], first: str, second: str) -> str:
    """Say how `second` compares with `first`."""
    if not comparison:
        return "%s and %s were not compared." % (second, first)
    low, high, found = comparison.get("low"), comparison.get("high"), verdict(comparison)
    if low is None or high is None:
        return "%s and %s can't be told apart by %d pairs: measure longer." % (second, first, comparison["pairs"])
    between = "95 %% sure: between %s and %s" % (_percent(low), _percent(high))
    if found == "not told apart":
        return "%s and %s are not told apart (%s)." % (second, first, between)
    size = abs(comparison["ratio"] - 1) * 100
    return "%s is %.3g %% %s than %s (%s)." % (second, size, found, first, between)


def _percent(ratio: float) -> str:
    """Return "+12 %" for 1.12, which is slower."""
    return "%+.3g %%" % ((ratio - 1) * 100)
