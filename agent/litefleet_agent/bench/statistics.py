"""Statistics of latencies: samples in bounded memory, and the comparison of two releases by pairs.  Pure."""

import math
import random
from array import array
from typing import List, Optional, Sequence, Tuple

from ..verification.golden_cases import median, nearest_rank
from .results import Latencies, PairComparison

RANKS = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
_MOST = 1 << 17  # samples: 1 MiB


def half(values: "array[float]", chance: random.Random) -> "array[float]":
    """Return one of each two neighbours, by chance: the cases take turns, so every second run would be of one case."""
    return array("d", (values[min(i + (chance.random() < 0.5), len(values) - 1)] for i in range(0, len(values), 2)))


class Samples:
    """Durations in milliseconds: count, minimum, maximum and mean of all; percentiles of at most `most` kept ones."""

    def __init__(self, most: int = _MOST) -> None:
        self.count = 0
        self._most, self._one_in = most, 1
        self._kept = array("d")
        self._sum, self._min, self._max = 0.0, math.inf, 0.0
        self._chance = random.Random(0)

    def add(self, times: Sequence[float]) -> None:
        """Add durations."""
        if not times:
            return
        self.count += len(times)
        self._sum += sum(times)
        self._min, self._max = min(self._min, min(times)), max(self._max, max(times))
        chance, one_in = self._chance, self._one_in
        self._kept.extend(times if one_in == 1 else [ms for ms in times if chance.random() * one_in < 1])
        while len(self._kept) > self._most:
            self._kept, self._one_in = half(self._kept, chance), self._one_in * 2

    def statistics(self) -> Latencies:
        """Return the statistics.  Raises ValueError without any duration."""
        if not self.count:
            raise ValueError("no runs")
        ordered = sorted(self._kept)
        p50, p90, p99, p999 = (nearest_rank(ordered, share) for _, share in RANKS)
        return Latencies(self._min, p50, p90, p99, p999, self._max, self._sum / self.count, self.count)


_GROUPS = 50  # neighbours are joined into at most so many groups, as they share what disturbs them
_FEWEST = 6  # groups: with fewer, no interval of a median has 95 % confidence


def compare_pairs(pairs: Sequence[Tuple[float, float]]) -> Optional[PairComparison]:
    """Compare (first, second) latencies in milliseconds, measured in turn; None without pairs.

    The interval comes from the binomial ranks of a median: it assumes nothing about the distribution of latencies.
    """
    usable = [(first, second) for first, second in pairs if first > 0]
    if not usable:
        return None
    ratios = _groups([second / first for first, second in usable])
    low, high = _interval(sorted(ratios))
    difference_ms = round(median([second - first for first, second in usable]), 5)
    return PairComparison(round(median(ratios), 5), low, high, difference_ms, len(usable))


def _groups(values: Sequence[float]) -> List[float]:
    size = math.ceil(len(values) / _GROUPS)
    return [median(values[at : at + size]) for at in range(0, len(values), size)]


def _interval(ordered: Sequence[float]) -> Tuple[Optional[float], Optional[float]]:
    """Return the values between which the median lies with 95 % confidence, None for too few values."""
    count = len(ordered)
    if count < _FEWEST:
        return None, None
    below, rank = 0.0, -1  # below: the chance that `rank` or fewer of the values lie below the median
    while below <= 0.025:
        rank += 1
        below += math.factorial(count) / (math.factorial(rank) * math.factorial(count - rank)) / 2.0**count
    return round(ordered[rank - 1], 5), round(ordered[count - rank], 5)


def verdict(comparison: Optional[PairComparison]) -> str:
    """Return what the second release is: "faster", "slower", or "not told apart"."""
    if comparison is None or comparison.low is None or comparison.high is None:
        return "not told apart"
    if comparison.low <= 1 <= comparison.high:
        return "not told apart"
    return "faster" if comparison.high < 1 else "slower"


def sentence(comparison: Optional[PairComparison], first: str, second: str) -> str:
    """Describe how `second` compares with `first`."""
    if comparison is None:
        return "%s and %s were not compared." % (second, first)
    low, high, found = comparison.low, comparison.high, verdict(comparison)
    if low is None or high is None:
        return "%s and %s cannot be told apart by %d pairs: measure longer." % (second, first, comparison.pairs)
    between = "95 %% sure: between %s and %s" % (_percent(low), _percent(high))
    if found == "not told apart":
        return "%s and %s are not told apart (%s)." % (second, first, between)
    size = abs(comparison.ratio - 1) * 100
    return "%s is %.3g %% %s than %s (%s)." % (second, size, found, first, between)


def _percent(ratio: float) -> str:
    """Return "+12 %" for 1.12, which is slower."""
    return "%+.3g %%" % ((ratio - 1) * 100)
