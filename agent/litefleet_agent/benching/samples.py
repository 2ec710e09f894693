"""Latencies of any number of runs in bounded memory.  Pure."""

import math
import random
from array import array
from typing import Dict, Sequence

from ..ranks import nearest_rank

__all__ = ["RANKS", "Samples", "half"]

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

    def figures(self) -> Dict[str, float]:
        """Return {min, p50, p90, p99, p999, max, mean} in milliseconds, and {runs}; empty without any."""
        if not self.count:
            return {}
        ordered = sorted(self._kept)
        told = {"min": self._min, "max": self._max, "mean": self._sum / self.count}
        told.update((name, nearest_rank(ordered, share)) for name, share in RANKS)
        return dict({name: round(ms, 4) for name, ms in told.items()}, runs=self.count)
