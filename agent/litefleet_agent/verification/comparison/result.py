"""What a comparison reports, and the values that every comparison reads."""

import array
import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ...formats.npz import Array, native
from ..compare import Comparison, Tolerance, compare, default_tolerance, in_agreement, peak, values

__all__ = [
    "FARTHEST",
    "Array",
    "Comparison",
    "OutputComparison",
    "OutputPair",
    "Tolerance",
    "compare",
    "default_tolerance",
    "family",
    "finite",
    "in_agreement",
    "in_one_dtype",
    "peak",
    "ratio",
    "rows_of",
    "values",
    "worst_but",
]

FARTHEST = 1e9  # the largest distance reported: JSON has no infinity
# dtype -> what kind of number it is; two dtypes of one family hold comparable values
_FAMILIES = {"bool": "integer", "float16": "float", "float32": "float", "float64": "float"}
_LARGEST = 2**63 - 1
# The figures that every report of an output has had from the start: older controllers read them by name.
_FIGURES = ("max_abs", "mean_abs", "max_rel", "mean_rel", "cosine", "top1", "non_finite")


class OutputPair(NamedTuple):
    """One output of one case: the reference's value and the device's."""

    expected: Array
    actual: Array


@dataclass(frozen=True)
class OutputComparison:
    """How far one output is from its reference.

    `distance` counts in tolerances: 0 is equal, up to 1 passes, 2 is twice as far as allowed; at most `FARTHEST`.
    `problem` is "" when it passed, else "shape" (not comparable), "non-finite" (NaN or Inf) or "differs".
    `measures` holds what the kind measures, by name: shares from 0 to 1, counts, and differences in the output's unit.
    """

    kind: str
    passed: bool
    distance: float
    reason: str = ""  # what differs, as a sentence; "" when it passed
    note: str = ""  # what a reader should know although it passed, such as "both are empty"
    problem: str = ""
    measures: Dict[str, float] = field(default_factory=dict)
    elementwise: Optional[Comparison] = None  # the figures of plain numbers, where shapes allow them

    def figures(self) -> Dict[str, Any]:
        """Return the JSON form for a report: the figures that reports have always had, and the kind's own measures."""
        plain = self.elementwise
        if plain is None:
            plain = Comparison(self.passed, "", cosine=1.0 if self.passed else 0.0)
        report: Dict[str, Any] = {name: getattr(plain, name) for name in _FIGURES}
        report.update(ok=self.passed, compare=self.kind, distance=self.distance, measures=dict(self.measures))
        if self.note:
            report["note"] = self.note
        return report


def ratio(difference: float, allowed: float) -> float:
    """Return a difference in units of what is allowed, from 0 to `FARTHEST`; any difference is far when none is."""
    if not difference > 0:  # NaN cannot come here: non-finite items are rejected first
        return 0.0
    return min(difference / allowed, FARTHEST) if allowed > difference / FARTHEST else FARTHEST


def worst_but(distances: Sequence[float], forgiven: int) -> float:
    """Return the largest distance after the `forgiven` largest ones are left out; 0.0 when none is left."""
    if not forgiven:
        return max(distances, default=0.0)
    return sorted(distances, reverse=True)[forgiven] if forgiven < len(distances) else 0.0


def family(dtype: str) -> str:
    """Return "integer" (bool among them) or "float"."""
    return _FAMILIES.get(dtype, "integer")


def in_one_dtype(expected: Array, actual: Array) -> OutputPair:
    """Return both with one dtype where they are of one family, unchanged where they are not.

    Engines differ in width (an index is int64 in PaddlePaddle and may be int32 on a device); the values decide.
    """
    kind = family(expected.dtype)
    if expected.dtype == actual.dtype or kind != family(actual.dtype):
        return OutputPair(expected, actual)
    return OutputPair(_widened(expected, kind), _widened(actual, kind))


def _widened(tensor: Array, kind: str) -> Array:
    if kind == "float":
        return Array("float64", tensor.shape, native(array.array("d", values(tensor)).tobytes(), 8))
    # uint64 above int64's largest value: no index, label or count is that large, so the largest stands for them all.
    items = array.array("q", [min(int(item), _LARGEST) for item in values(tensor)])
    return Array("int64", tensor.shape, native(items.tobytes(), 8))


def rows_of(items: Sequence[float], width: int) -> List[Sequence[float]]:
    """Return the rows of a flat sequence, `width` items each."""
    return [items[start : start + width] for start in range(0, len(items), width)]


def finite(items: Sequence[float]) -> int:
    """Return how many items are neither NaN nor Inf."""
    return sum(map(math.isfinite, items))
