"""Compares plain numbers, maps of probabilities and embeddings: outputs whose items correspond by position."""

import math
import operator
from dataclasses import asdict, replace
from typing import Dict, Sequence, Tuple

from .result import FARTHEST, Comparison, OutputComparison, OutputPair, Tolerance, compare, ratio, rows_of, values
from .rules import EmbeddingRule, MaskRule
from .spec import ComparisonSpec

_JUST_OVER = 1.0 + 1e-9  # the distance of an output that failed by less than a float can represent


def elementwise(pair: OutputPair, tolerance: Tolerance) -> Tuple[Comparison, float]:
    """Return the elementwise comparison and its distance in tolerances; passed means at most 1, and only then.

    Both have one shape, one dtype, and items.  The comparison is `compare.compare`'s, but zeros for a reference that is not
    zero never pass.
    """
    found = compare(pair.expected, pair.actual, tolerance)
    if found.ok and found.cosine == 0.0 and not any(values(pair.actual)):  # whatever the tolerance
        reason = "every item is 0 where the reference's largest is %.3g" % found.max_abs
        return replace(found, ok=False, reason=reason), FARTHEST
    if found.max_abs == 0:  # equal, or not comparable
        return found, 0.0 if found.ok else FARTHEST
    distance = max(
        _item_distance(pair, tolerance),
        ratio(1.0 - found.cosine, 1.0 - tolerance.cosine_min),
        ratio(found.mean_abs, tolerance.mean_abs),
    )
    return found, min(distance, 1.0) if found.ok else max(distance, _JUST_OVER)


def _item_distance(pair: OutputPair, tolerance: Tolerance) -> float:
    """Return the largest |difference| / (max_abs + max_rel * |expected|)."""
    want, got = values(pair.expected), values(pair.actual)
    off = map(abs, map(operator.sub, got, want))
    if tolerance.max_rel == 0:
        return ratio(float(max(off)), tolerance.max_abs)
    # One division per item is dearer than one subtraction; a floor keeps a limit of 0 at an expected 0 from dividing by 0.
    floor = max(tolerance.max_abs, 1e-300)
    scaled = map(tolerance.max_rel.__mul__, map(float, map(abs, want)))
    return min(float(max(map(operator.truediv, off, map(floor.__add__, scaled)))), FARTHEST)


def compare_tensor(pair: OutputPair, spec: ComparisonSpec, precision: str) -> OutputComparison:
    """Compare by the elementwise rule."""
    found, distance = elementwise(pair, spec.tolerance(precision, pair.expected))
    measures = {"max_abs": found.max_abs, "mean_abs": found.mean_abs, "cosine": found.cosine}
    return _dense(spec.kind, found, distance, found.reason, measures)


def _dense(
    kind: str, found: Comparison, distance: float, reason: str, measures: Dict[str, float], note: str = ""
) -> OutputComparison:
    unreadable = found.non_finite or (reason and found.max_abs == 0)  # of the output, of the reference
    problem = "" if not reason else "non-finite" if unreadable else "differs"
    return OutputComparison(kind, not reason, distance, reason, note, problem, measures, found)


def compare_mask(pair: OutputPair, spec: ComparisonSpec, precision: str, rule: MaskRule) -> OutputComparison:
    """Compare by the elementwise rule; where that fails, by the cut-out at the threshold."""
    found, distance = elementwise(pair, spec.tolerance(precision, pair.expected))
    want, got = values(pair.expected), values(pair.actual)
    inside, outside = _overlaps(want, got, rule.threshold)
    measures = {"max_abs": found.max_abs, "mean_abs": found.mean_abs, "iou": min(inside, outside)}
    if found.ok:
        return _dense(spec.kind, found, distance, "", measures)
    if not _two_sided(want, rule.threshold):
        words = "%s; the whole reference lies on one side of %g" % (found.reason, rule.threshold)
        return _dense(spec.kind, found, distance, words, measures)
    outliers = sum(map(rule.off.__lt__, map(abs, map(operator.sub, got, want)))) / len(want)
    measures["outliers"] = outliers
    cut_out = max(ratio(1.0 - measures["iou"], 1.0 - rule.iou), ratio(outliers, rule.outliers))
    if cut_out <= 1.0:
        note = "accepted by its cut-out at %g; the items alone differ: %s" % (rule.threshold, found.reason)
        return _dense(spec.kind, _accepted(found), cut_out, "", measures, note)
    words = "the cut-out at %g has IoU %.4f (%.4g or more is required), %.3g %% of the items differ by more than %g" % (
        rule.threshold, measures["iou"], rule.iou, 100 * outliers, rule.off,
    )  # fmt: skip
    words += " (%.3g %% may)" % (100 * rule.outliers)
    return _dense(spec.kind, found, min(cut_out, distance), words, measures)


def _accepted(found: Comparison) -> Comparison:
    return Comparison(**dict(asdict(found), ok=True, reason=""))


def _two_sided(want: Sequence[float], threshold: float) -> bool:
    return min(want) <= threshold < max(want)


def _overlaps(want: Sequence[float], got: Sequence[float], threshold: float) -> Tuple[float, float]:
    """Return the IoU of the items above the threshold and of those that are not; 1.0 where neither has any."""
    expected, actual = bytes(map(threshold.__lt__, want)), bytes(map(threshold.__lt__, got))
    both = sum(map(operator.and_, expected, actual))
    either = expected.count(1) + actual.count(1) - both
    neither, not_both = len(expected) - either, len(expected) - both
    return both / either if either else 1.0, neither / not_both if not_both else 1.0


def compare_embedding(pair: OutputPair, spec: ComparisonSpec, precision: str, rule: EmbeddingRule) -> OutputComparison:
    """Compare each vector along the last axis by its cosine and its length."""
    found, _ = elementwise(pair, spec.tolerance(precision, pair.expected))
    width = pair.expected.shape[-1] if pair.expected.shape else 1
    vectors = [rows_of(values(value), width) for value in pair]
    angles, lengths = zip(*map(_direction, *vectors))  # noqa: B905 - 3.7
    worst, change = min(angles), max(lengths)
    distance = max(ratio(1.0 - worst, 1.0 - rule.cosine), ratio(change, rule.length))
    measures = {"cosine": worst, "length": change, "vectors": float(len(angles))}
    if distance <= 1.0:
        return _dense(spec.kind, _accepted(found), distance, "", measures)
    words = "the farthest of %d vectors has cosine %.6f (%.7g or more is required)" % (len(angles), worst, rule.cosine)
    words += ", a length differs by %.3g %% (%.3g %% is allowed)" % (100 * change, 100 * rule.length)
    return _dense(spec.kind, found, distance, words, measures)


def _direction(want: Sequence[float], got: Sequence[float]) -> Tuple[float, float]:
    """Return the cosine of two vectors and the share by which the second's length differs; zero agrees with zero only."""
    expected, actual = math.sqrt(sum(map(operator.mul, want, want))), math.sqrt(sum(map(operator.mul, got, got)))
    if expected == 0 or actual == 0:
        return (1.0, 0.0) if expected == actual else (0.0, FARTHEST)
    cosine = sum(map(operator.mul, want, got)) / expected / actual
    return max(-1.0, min(1.0, cosine)), abs(actual / expected - 1.0)
