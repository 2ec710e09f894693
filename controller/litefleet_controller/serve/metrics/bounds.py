"""Bounds of what is served: how many values a label may have, and the buckets of the histograms over the fleet."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa
from litefleet_agent.service.metrics import BUCKETS_S
from litefleet_agent.service.status import DurationSummary

from ...common.text import sanitize

MOST_MODELS = 30
MOST_VERSIONS = 5  # of one model: the most frequent ones
MOST_CODES = 40
MOST_RECEIVERS = 20
OTHER = "other"
_LONGEST = 80  # characters of a value
LATENCY_S = BUCKETS_S
ACCURACY = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 1.0)
AGE_S = (60.0, 300.0, 900.0, 3600.0, 6 * 3600.0, 86400.0, 3 * 86400.0, 7 * 86400.0, 30 * 86400.0)
_Key = TypeVar("_Key", bound=Hashable)


def label(text: str) -> str:
    """Return a text as a label's value: one line, printable, of bounded length."""
    return text if len(text) <= _LONGEST and text.isprintable() else sanitize(text, _LONGEST)


def most_frequent(counts: Mapping[str, int], most: int) -> dict[str, str]:
    """Return the label's value of each name: itself for the `most` frequent ones, "other" for the rest."""
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: label(name) if rank < most else OTHER for rank, name in enumerate(ordered)}


def summed(counts: Iterable[tuple[_Key, int]]) -> dict[_Key, int]:
    """Return the counts by their keys, each once, in the keys' order."""
    found: Counter[_Key] = Counter()
    for key, count in counts:
        found[key] += count
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


class Spread:
    """Values of the fleet's devices, counted in fixed buckets."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.add_many(bisect_left(self._bounds, value), 1, value)

    def add_many(self, place: int, count: int, total: float) -> None:
        """Count values of one bucket, whose number `place_of` returned, and which sum up to `total`."""
        self._counts[place] += count
        self._sum += total

    def summary(self) -> DurationSummary:
        """Return it as a histogram is written."""
        below, buckets = 0, []
        for bound, count in zip(self._bounds, self._counts, strict=False):
            below += count
            buckets.append((bound, below))
        return DurationSummary(sum(self._counts), round(self._sum, 6), tuple(buckets), None, None, None)


def place_of(value: sa.ColumnElement[float], bounds: Sequence[float]) -> sa.ColumnElement[int]:
    """Return the number of a value's bucket, as the database computes it."""
    return sa.case(*((value <= bound, place) for place, bound in enumerate(bounds)), else_=len(bounds))
