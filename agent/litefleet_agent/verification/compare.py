"""Compares a model's output with its reference.  Pure; fast without numpy, because everything runs inside C loops."""

import array
import math
import operator
import struct
import sys
from dataclasses import asdict, dataclass, replace
from typing import Optional, Sequence

from ..errors import AgentError
from ..formats.checked import number
from ..formats.npz import DTYPES, Array, native

_LARGEST = sys.float_info.max
_LARGEST_FIGURE = 1e300
_DEVIATION_OF_MEAN = 1.2533  # sqrt(pi / 2): of a normal distribution around 0, deviation to mean magnitude
_CODES = {
    "bool": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "float32": "f", "int64": "q", "uint64": "Q", "float64": "d",
}  # fmt: skip


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from its reference: every item by `max_abs + max_rel * |expected|`, the mean by `mean_abs`.

    `cosine_min` bounds the cosine between the two tensors from below; it has no scale, so it also catches zeros
    where the reference is tiny.
    """

    max_abs: float
    max_rel: float
    cosine_min: float
    mean_abs: float

    @classmethod
    def from_dict(cls, data: object, default: "Tolerance") -> "Tolerance":
        """Read a JSON object; fields that it lacks come from `default`.  Raises AgentError "bad-request"."""
        known = asdict(default)
        if not isinstance(data, dict) or not set(data) <= set(known):
            raise AgentError("tolerance must be an object with some of %s" % ", ".join(known), "bad-request")
        for name, value in data.items():
            lowest = -_LARGEST if name == "cosine_min" else 0.0
            try:
                known[name] = float(number(value, lowest, _LARGEST, "tolerance.%s" % name))
            except ValueError as error:
                raise AgentError(str(error), "bad-request") from None
        return cls(**known)


@dataclass(frozen=True)
class Comparison:
    """How far an output is from its reference.

    Relative errors are taken against max(|expected|, 1e-6 of the reference's peak), so that items near zero do not
    drown the rest.  `top1` is the share of rows with the same argmax, None where the last axis is not classes.
    """

    ok: bool
    reason: str  # "" when ok
    max_abs: float = 0.0
    mean_abs: float = 0.0
    max_rel: float = 0.0
    mean_rel: float = 0.0
    cosine: float = 1.0
    top1: Optional[float] = None
    non_finite: int = 0  # items that are NaN or Inf


_DEFAULTS = {
    "fp32": Tolerance(max_abs=1e-4, max_rel=1e-3, cosine_min=0.9999, mean_abs=1e-4),
    "int16": Tolerance(max_abs=2e-3, max_rel=1e-2, cosine_min=0.9995, mean_abs=2e-4),
    "fp16": Tolerance(max_abs=2e-2, max_rel=5e-2, cosine_min=0.999, mean_abs=2e-3),
    "int8": Tolerance(max_abs=1e-1, max_rel=2e-1, cosine_min=0.98, mean_abs=2e-2),
}


def default_tolerance(precision: str, peak: float = 1.0) -> Tolerance:
    """Return the tolerance for "fp32", "fp16", "int8" or "int16" kernels and a reference whose largest item is `peak`.

    fp32: Paddle-Lite and PaddlePaddle agree on the PP-OCR models to about 3e-6 (same arithmetic, another order of
    summation), real mistakes are off by 1e-2 and more; 1e-4 lies between, with a margin for deeper models;
    a last layer times 1.0001 is no fault.  fp16 keeps 11
    bits (5e-4 an operation), int8 weights keep 8 and int16 weights keep 16; theirs have the same kind of margin.  Measured
    on twelve models (bench/precisions.py), in shares of the largest value: Paddle-Lite's int16 weights on x86_64, where it
    computes them rightly (convolutions; not fully connected layers), 6e-5; its int8 weights 0.03 to 0.07; fp16 weights in
    PaddlePaddle 0.002.  All are below half of the limits.  fp16 kernels and 8-bit activations exist on ARM only: reasoned.
    Rounding grows with the values that are summed, so the absolute limits scale with peaks above 1 (raw scores).
    Raises KeyError for another precision.
    """
    base = _DEFAULTS[precision]
    scale = max(1.0, peak) if math.isfinite(peak) else 1.0
    return Tolerance(base.max_abs * scale, base.max_rel, base.cosine_min, base.mean_abs * scale)


def in_agreement(limits: Tolerance, want: Sequence[float]) -> Tolerance:
    """Return the limits with `mean_abs` and `cosine_min` widened as far as the limits of single items need for this reference.

    Three limits of one output must not contradict each other: differences that every item may have, the mean may have too.

    - The mean of few values is about the largest of them: up to four values it may be what each item may differ by.  Of n
      values with differences of a normal distribution the largest is about sqrt(1 + pi * ln(n / 4)) times the mean (4.3 for
      1,000 values, 6.3 for 1,000,000; within 4 % of the exact expectation from 100 values on), so the mean may be that part.
    - The cosine counts where values stand clear of these limits: a difference of the relative size e, as the mean permits it,
      leaves a cosine of sqrt(1 - e * e) in the worst direction; where e is 1 or more, the cosine says nothing.

    Limits that are wider already stay.
    """
    count = len(want)
    size = sum(map(abs, want)) / count if count else 0.0
    if not count or not math.isfinite(size):
        return limits
    items = limits.max_abs + limits.max_rel * size
    mean_abs = max(limits.mean_abs, items / math.sqrt(1.0 + math.pi * math.log(max(1.0, count / 4.0))))
    length = math.sqrt(sum(map(operator.mul, want, want)) / count)
    off = _DEVIATION_OF_MEAN * mean_abs / length if length else math.inf
    cosine = math.sqrt(1.0 - off * off) if off < 1.0 else -1.0
    return replace(limits, mean_abs=mean_abs, cosine_min=min(limits.cosine_min, cosine))


def values(tensor: Array) -> Sequence[float]:
    """Return the items as a flat sequence of numbers."""
    if tensor.dtype == "float16":
        return struct.unpack("<%de" % tensor.count, tensor.data)
    items = array.array(_CODES[tensor.dtype])
    items.frombytes(native(tensor.data, DTYPES[tensor.dtype]))
    return items


def peak(tensor: Array) -> float:
    """Return the largest |item|, 0.0 for an empty tensor."""
    return float(max(map(abs, values(tensor)), default=0.0))


def compare(expected: Array, actual: Array, tolerance: Tolerance) -> Comparison:
    """Compare an output with its reference; shape and type must be equal, and every item finite."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        reason = "it is %s %s where the reference is %s %s" % (
            actual.dtype, list(actual.shape), expected.dtype, list(expected.shape),
        )  # fmt: skip
        return Comparison(False, reason, cosine=0.0)
    want, got = values(expected), values(actual)
    bad = len(want) - sum(map(math.isfinite, want))
    if bad:
        return Comparison(False, "%d items of the reference itself are NaN or Inf" % bad, cosine=0.0)
    bad = len(got) - sum(map(math.isfinite, got))
    if bad:
        return Comparison(False, "%d of %d items are NaN or Inf" % (bad, len(got)), cosine=0.0, non_finite=bad)
    return _measure(want, got, expected, tolerance) if want else Comparison(True, "")


def _measure(want: Sequence[float], got: Sequence[float], expected: Array, tolerance: Tolerance) -> Comparison:
    """Measure two flat sequences of the same length, not empty, all finite."""
    size = list(map(abs, want))
    off = list(map(abs, map(operator.sub, got, want)))
    minimum = max(size) * 1e-6 or 1.0
    relative = list(map(operator.truediv, off, [s if s > minimum else minimum for s in size]))
    excess = max(map(operator.sub, off, map(float(tolerance.max_rel).__mul__, map(float, size))))
    found = Comparison(
        True, "", _cap(max(off)), _cap(sum(off) / len(off)), _cap(max(relative)), _cap(sum(relative) / len(off)),
        _cosine(want, got), _top1(want, got, expected),
    )  # fmt: skip
    reason = _reason(found, excess, tolerance)
    return Comparison(**dict(asdict(found), ok=not reason, reason=reason))


def _cap(figure: float) -> float:
    """Return a figure that JSON and every reader of it can hold: differences of float64 items may overflow."""
    return min(float(figure), _LARGEST_FIGURE)


def _reason(found: Comparison, excess: float, tolerance: Tolerance) -> str:
    details = "max abs error %.3g (allowed %.3g + %.3g of the value)" % (
        found.max_abs, tolerance.max_abs, tolerance.max_rel,
    )  # fmt: skip
    if excess > tolerance.max_abs:
        return "%s, cosine %.4f" % (details, found.cosine)
    if found.cosine < tolerance.cosine_min:
        return "cosine %.5f (allowed %.5g or more), %s" % (found.cosine, tolerance.cosine_min, details)
    if found.mean_abs > tolerance.mean_abs:
        return "mean abs error %.3g (allowed %.3g), %s" % (found.mean_abs, tolerance.mean_abs, details)
    return ""


def _cosine(want: Sequence[float], got: Sequence[float]) -> float:
    """Return the cosine; 1 for two zero tensors, 0 for one zero tensor."""
    a, b = math.sqrt(sum(map(operator.mul, want, want))), math.sqrt(sum(map(operator.mul, got, got)))
    if a == 0 or b == 0:
        return 1.0 if a == b else 0.0
    cosine = sum(map(operator.mul, want, got)) / a / b
    return max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else 0.0


def _top1(want: Sequence[float], got: Sequence[float], expected: Array) -> Optional[float]:
    """Return the share of rows whose argmax agrees, None where the last axis is not one of class scores."""
    classes = expected.shape[-1] if expected.shape else 0
    if len(expected.shape) < 2 or classes < 2 or not expected.dtype.startswith("float"):
        return None
    same = rows = 0
    for start in range(0, len(want), classes):
        row = want[start : start + classes]
        if len(expected.shape) > 2 and (abs(sum(row) - 1) > 0.01 or min(row) < 0):
            return None  # no softmax along this axis: a map or a sequence, not classes
        other = got[start : start + classes]
        same += row.index(max(row)) == other.index(max(other))
        rows += 1
    return same / rows if rows else None
