"""Compares one output, or all outputs of a case, by their specifications."""

from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Tuple

from .classes import compare_counts, compare_labels, compare_topk
from .dense import compare_embedding, compare_mask, compare_tensor
from .detections import compare_detections
from .result import FARTHEST, Array, OutputComparison, OutputPair, family, finite, in_one_dtype, values
from .rules import CountsRule, DetectionsRule, EmbeddingRule, LabelsRule, MaskRule, TopkRule
from .spec import TENSOR, ComparisonSpec

FREE_ROWS = ("detections", "counts")  # kinds whose number of rows may vary


def compare_outputs(
    expected: Mapping[str, Array], actual: Mapping[str, Array], specs: Mapping[str, ComparisonSpec], precision: str
) -> Dict[str, OutputComparison]:
    """Compare all outputs of a case by name; an output without a specification is compared as a tensor.

    `expected` and `actual` hold the same names (else KeyError).
    """
    pairs = {name: OutputPair(value, actual[name]) for name, value in expected.items()}
    return {name: compare_output(pair, specs.get(name, TENSOR), precision, pairs) for name, pair in pairs.items()}


def compare_output(
    pair: OutputPair, spec: ComparisonSpec, precision: str, beside: Optional[Mapping[str, OutputPair]] = None
) -> OutputComparison:
    """Compare one output with its reference; `precision` is one of `rules.PRECISIONS` (else KeyError).

    `beside` holds the other outputs of the same case, for rules that name one (`labels: scores`, `counts: rows`).
    """
    pair, note = _aligned(pair)
    early = _unlike(pair, spec)
    found = early if early is not None else _by_kind(pair, spec, precision, beside or {})
    if not note or not found.passed:
        return found
    joined = "%s; %s" % (note, found.note) if found.note else note
    return replace(found, note=joined)


def _aligned(pair: OutputPair) -> Tuple[OutputPair, str]:
    """Return the pair in one dtype and shape where they differ in form alone, and a note that says so."""
    notes: List[str] = []
    made = in_one_dtype(*pair)
    if pair.expected.dtype != pair.actual.dtype and made.expected.dtype == made.actual.dtype:
        notes.append("the reference is %s, the output %s" % (pair.expected.dtype, pair.actual.dtype))
    shapes = (made.expected.shape, made.actual.shape)
    if shapes in (((), (1,)), ((1,), ())):  # PaddlePaddle 2.6 knows tensors without dimensions, Paddle-Lite has [1]
        made = OutputPair(made.expected, Array(made.actual.dtype, shapes[0], made.actual.data))
        notes.append("the reference has shape %s, the output %s" % (list(shapes[0]), list(shapes[1])))
    return made, "; ".join(notes)


def _unlike(pair: OutputPair, spec: ComparisonSpec) -> Optional[OutputComparison]:
    """Return the result for outputs that cannot be compared item by item, None for all others."""
    expected, actual = pair
    if not expected.count and not actual.count and family(expected.dtype) == family(actual.dtype):
        return OutputComparison(spec.kind, True, 0.0, note="both are empty, so this case proves little")
    if expected.dtype != actual.dtype or (expected.shape != actual.shape and spec.kind not in FREE_ROWS):
        reason = "it is %s %s where the reference is %s %s" % (
            actual.dtype, list(actual.shape), expected.dtype, list(expected.shape),
        )  # fmt: skip
        return OutputComparison(spec.kind, False, FARTHEST, reason, problem="shape")
    # The elementwise comparison looks for NaN and Inf by itself.
    return _not_finite(pair, spec) if family(actual.dtype) == "float" and spec.kind != "tensor" else None


def _not_finite(pair: OutputPair, spec: ComparisonSpec) -> Optional[OutputComparison]:
    bad = pair.actual.count - finite(values(pair.actual))
    if bad:
        reason = "%d of %d items are NaN or Inf" % (bad, pair.actual.count)
        return OutputComparison(spec.kind, False, FARTHEST, reason, problem="non-finite")
    if finite(values(pair.expected)) < pair.expected.count:
        reason = "the reference itself holds NaN or Inf"
        return OutputComparison(spec.kind, False, FARTHEST, reason, problem="non-finite")
    return None


def _by_kind(
    pair: OutputPair, spec: ComparisonSpec, precision: str, beside: Mapping[str, OutputPair]
) -> OutputComparison:
    rule = spec.rule(precision)
    if isinstance(rule, LabelsRule):
        return compare_labels(pair, spec, rule, beside.get(rule.scores))
    if isinstance(rule, TopkRule):
        return compare_topk(pair, spec, precision, rule)
    if isinstance(rule, DetectionsRule):
        return compare_detections(pair, spec, precision, rule)
    if isinstance(rule, CountsRule):
        return compare_counts(pair, spec, rule, beside.get(rule.rows))
    if isinstance(rule, MaskRule):
        return compare_mask(pair, spec, precision, rule)
    if isinstance(rule, EmbeddingRule):
        return compare_embedding(pair, spec, precision, rule)
    return compare_tensor(pair, spec, precision)
