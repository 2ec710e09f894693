"""Measures whether a golden can tell a right model from a wrong one: pure, from the reference's answers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

from litefleet_agent.formats.npz import Array as WireArray
from litefleet_agent.verification.comparison import TENSOR, ComparisonSpec, OutputPair, compare_output
from litefleet_agent.verification.comparison.rules import DetectionsRule

from ...common.lazy import numpy as np
from .files import Array

Answers = Mapping[str, Array]  # one case's outputs by name
Verdict = Literal["strong", "weak", "refused"]
_MAX_PAIRS = 21  # of cases compared with each other: all pairs of 7 cases, neighbours beyond
_MAX_CONSTANTS = 6  # cases whose answers are tried as the constant answer
# Items: a sample's largest differences are at most the whole's; its means and cosines are about the same
_SAMPLE = 1 << 17
# Damages that a golden must reject, by the precision that it judges.  A layer in the middle times 1.01 ("scaled_middle")
# moves answers less than rounding to fp16 does, so it is measured and not required; fp16 and int8 move them as far as others.
_MUST_REJECT: Mapping[str, frozenset[str]] = {
    "fp32": frozenset({"scaled", "noise", "int8", "swapped"}),
    "int16": frozenset({"noise", "int8", "swapped"}),
    "fp16": frozenset({"noise", "swapped"}),
    "int8": frozenset({"swapped"}),
}
# Outputs of these kinds are right while classes, boxes and outlines are, so that a layer times 1.01 is hardly a fault.
_COARSE = frozenset({"detections", "counts", "labels"})


@dataclass(frozen=True)
class Damaged:
    """What the reference engine answered with damaged weights, one entry per case (see `perturb.Perturbation`)."""

    name: str
    sentence: str
    harmless: bool
    answers: tuple[Answers, ...]


@dataclass(frozen=True)
class OutputPower:
    """What the golden can tell by one output; distances are in tolerances (1: just accepted), at most 1e9.

    `constant` names the constant answer that would be accepted for every case ("" for none), `permuted` the permutations
    of the right answers that would be.  `same`: the output has the same value in every case, as a constant of the model
    has; `empty`: it holds nothing in any case.
    """

    name: str
    compare: str
    apart_min: float
    apart_median: float
    apart_max: float
    constant: str
    permuted: tuple[str, ...]
    same: bool
    empty: bool


@dataclass(frozen=True)
class DamagePower:
    """Whether one way of damaging the weights is rejected, and the largest distance over cases and outputs.

    `counts`: a golden of this precision must reject it.  `no_effect`: the damaged weights give exactly the right answers.
    """

    name: str
    sentence: str
    distance: float
    rejected: bool
    harmless: bool
    counts: bool
    no_effect: bool


@dataclass(frozen=True)
class GoldenPower:
    """The power of a golden at one precision: `verdict`, one sentence that says why, and what was measured."""

    precision: str
    cases: int
    verdict: Verdict
    sentence: str
    outputs: tuple[OutputPower, ...]
    damages: tuple[DamagePower, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form for the golden's record."""
        return asdict(self)

    @property
    def more_cases_may_help(self) -> bool:
        """Return whether other inputs could make the golden stronger: not where it is strong or too strict."""
        return self.verdict != "strong" and not any(d.harmless and d.rejected for d in self.damages)


def measure_power(
    cases: Sequence[Answers],
    specs: Mapping[str, ComparisonSpec],
    precision: str,
    damaged: Sequence[Damaged] = (),
) -> GoldenPower:
    """Return a golden's power when outputs are compared by `specs` (by name; a tensor without one) at a precision.

    `cases` holds the reference's answers, at least one case, each with the same outputs (else ValueError).
    """
    if not cases or any(set(case) != set(cases[0]) for case in cases):
        raise ValueError("every case must have the same outputs")
    judge = _Judge(cases, specs, precision)
    outputs = tuple(_output_power(judge, name) for name in cases[0])
    damages = tuple(_damage_power(judge, one, precision) for one in damaged)
    verdict, sentence = _verdict(outputs, damages, len(cases))
    return GoldenPower(precision, len(cases), verdict, sentence, outputs, damages)


class _Judge:
    """The cases in the agent's form, and the device's own comparison of an answer with them."""

    def __init__(self, cases: Sequence[Answers], specs: Mapping[str, ComparisonSpec], precision: str) -> None:
        self.cases = cases
        self.specs = specs
        self._precision = precision
        self._expected = [{name: self._wire(name, value) for name, value in case.items()} for case in cases]

    def spec(self, name: str) -> ComparisonSpec:
        return self.specs.get(name, TENSOR)

    def _wire(self, name: str, value: Array) -> WireArray:
        """Return the agent's form; of a large output that is compared item by item, a sample (see `_SAMPLE`)."""
        if value.size > _SAMPLE and self.spec(name).kind in ("tensor", "mask"):
            value = value.reshape(-1)[
                :: -(-value.size // _SAMPLE) | 1
            ]  # an odd step meets every column of an even width
        little = value.astype(value.dtype.newbyteorder("<"), copy=False)
        return WireArray(value.dtype.name, value.shape, little.tobytes())

    def distance(self, case: int, name: str, answer: Array, beside: Answers | None = None) -> float:
        """Return how far an answer of one output is from the case's, in tolerances.

        `beside` holds the other outputs of the same answer; without it they are taken as right.
        """
        expected = self._expected[case]
        others = self.cases[case] if beside is None else beside
        pairs = {
            other: OutputPair(value, value if others is self.cases[case] else self._wire(other, others[other]))
            for other, value in expected.items()
            if other in others and other != name
        }
        found = compare_output(
            OutputPair(expected[name], self._wire(name, answer)), self.spec(name), self._precision, {**pairs}
        )
        return found.distance if not found.passed else min(found.distance, 1.0)

    def accepted(self, name: str, answers: Sequence[Array]) -> bool:
        """Return whether one answer per case would be accepted for all cases."""
        return all(self.distance(case, name, answer) <= 1.0 for case, answer in enumerate(answers))


def _output_power(judge: _Judge, name: str) -> OutputPower:
    values = [case[name] for case in judge.cases]
    pairs = list(combinations(range(len(values)), 2))
    if len(pairs) > _MAX_PAIRS:
        pairs = list(pairwise(range(len(values))))[:_MAX_PAIRS]
    apart = [judge.distance(first, name, values[second], judge.cases[second]) for first, second in pairs]
    same = all(other.shape == values[0].shape and np.array_equal(other, values[0]) for other in values[1:])
    permuted = [
        words
        for words, changed in _permutations(judge.spec(name), values)
        if not all(map(np.array_equal, changed, values)) and judge.accepted(name, changed)
    ]
    return OutputPower(
        name=name,
        compare=judge.spec(name).kind,
        apart_min=min(apart, default=0.0),
        apart_median=float(np.median(apart)) if apart else 0.0,
        apart_max=max(apart, default=0.0),
        constant=_constant(judge, name, values),
        permuted=tuple(permuted),
        same=same,
        empty=not any(_holds_something(value) for value in values),
    )


def _holds_something(value: Array) -> bool:
    """Return whether an output says anything; a single -1 is PaddlePaddle's old word for "no box"."""
    return bool(value.size) and not (value.shape == (1, 1) and value.flat[0] == -1)


def _constant(judge: _Judge, name: str, values: Sequence[Array]) -> str:
    """Return which constant answer would be accepted for every case, "" for none of those that are tried."""
    for words, constant in _constants(judge.spec(name), values):
        if judge.accepted(name, [constant] * len(values)):
            return words
    return ""


def _constants(spec: ComparisonSpec, values: Sequence[Array]) -> Iterator[tuple[str, Array]]:
    """Yield constant answers, the most plausible first."""
    one_shape = len({value.shape for value in values}) == 1
    if one_shape and values[0].dtype.kind == "f" and spec.kind != "detections" and values[0].size:
        low, high = np.minimum.reduce(values).astype("f8"), np.maximum.reduce(values).astype("f8")
        # No constant is nearer to all cases at once than the middle of their extremes.
        yield "the middle of all cases", ((low + high) / 2).astype(values[0].dtype)
    for number, value in enumerate(values[:_MAX_CONSTANTS]):
        yield f"case {number + 1}'s answer", value
    if spec.kind == "detections":
        yield "no rows", np.zeros((0, *values[0].shape[1:]), values[0].dtype)
    elif one_shape and values[0].size and values[0].dtype.kind in "iub":
        labels, counts = np.unique(np.concatenate([value.reshape(-1) for value in values]), return_counts=True)
        yield "the most frequent value everywhere", np.full_like(values[0], labels[counts.argmax()])


def _permutations(spec: ComparisonSpec, values: Sequence[Array]) -> Iterator[tuple[str, list[Array]]]:
    """Yield the right answers in a wrong order."""
    if spec.kind == "counts":
        return
    if spec.kind == "detections":
        yield from _permuted_rows(spec, values)
    elif values[0].dtype.kind in "iub":
        yield "the two most frequent labels exchanged", _exchanged(values)
    elif all(value.ndim and value.shape[-1] > 1 for value in values):
        # Neighbours in a map are alike: there a shift by one item is hardly wrong, a shift by a third is.
        steps = [1 if value.ndim < 3 or spec.kind == "topk" else max(1, value.shape[-1] // 3) for value in values]
        yield "the last axis shifted", [np.roll(value, step, -1) for value, step in zip(values, steps, strict=True)]
        yield "the last axis reversed", [np.flip(value, -1) for value in values]
    if spec.kind in ("tensor", "mask") and all(value.ndim > 2 and value.shape[-2] > 1 for value in values):
        yield "the last axis but one reversed", [np.flip(value, -2) for value in values]


def _permuted_rows(spec: ComparisonSpec, values: Sequence[Array]) -> Iterator[tuple[str, list[Array]]]:
    """Yield detections whose columns belong to other rows."""
    rule = spec.rule("fp32")
    columns = list(rule.columns) if isinstance(rule, DetectionsRule) else []
    if not all(value.ndim == 2 and value.shape[1] == len(columns) for value in values if value.size):
        return
    box = [place for place, name in enumerate(columns) if name not in ("class", "score", "image", "-")]
    one, other = [columns.index("class")], [columns.index("score")]
    if any(len(value) > 1 for value in values):
        yield "boxes of other rows", [_with(value, box, np.roll(value, 1, 0)) for value in values]
        yield "scores of other rows", [_with(value, other, np.roll(value, 1, 0)) for value in values]
    if any(len(value) for value in values):
        yield "other classes", [_with(value, one, value + 1) for value in values]


def _with(value: Array, columns: list[int], items: Array) -> Array:
    """Return rows with some columns from other rows of one shape; an empty output as it is."""
    changed = value.copy()
    if value.size:
        changed[:, columns] = items[:, columns]
    return changed


def _exchanged(values: Sequence[Array]) -> list[Array]:
    """Return labels with the two most frequent ones in each other's place; with one label only, that label plus one."""
    labels, counts = np.unique(np.concatenate([value.reshape(-1) for value in values]), return_counts=True)
    if not len(labels):
        return list(values)
    order = labels[np.argsort(-counts, kind="stable")]
    first = order[0]
    second = order[1] if len(order) > 1 else (not first if labels.dtype.kind == "b" else first + 1)
    return [np.where(v == first, second, np.where(v == second, first, v)).astype(v.dtype) for v in values]


def _damage_power(judge: _Judge, damaged: Damaged, precision: str) -> DamagePower:
    farthest, equal = 0.0, True
    for case, answers in enumerate(damaged.answers):
        for name, right in judge.cases[case].items():
            answer = answers.get(name)
            if answer is None:
                raise ValueError(f"damaged weights ({damaged.name}) gave no output {name!r}")
            if answer.shape == right.shape and np.array_equal(answer, right):
                continue
            equal = False
            farthest = max(farthest, judge.distance(case, name, answer, answers))
    coarse = all(judge.spec(name).kind in _COARSE for name in judge.cases[0])
    must = _MUST_REJECT["fp16" if coarse and precision == "fp32" else precision]
    counts = not damaged.harmless and not equal and damaged.name in must
    return DamagePower(
        damaged.name, damaged.sentence, farthest, farthest > 1.0, damaged.harmless, counts, no_effect=equal
    )


def _verdict(outputs: Sequence[OutputPower], damages: Sequence[DamagePower], cases: int) -> tuple[Verdict, str]:
    """Return the verdict and the sentence that says why and what to do."""
    telling = [output for output in outputs if output.compare != "counts" or len(outputs) == 1]
    if all(output.empty for output in telling):
        return "weak", (
            f"The reference finds nothing in any of the {cases} cases, so they prove only that the model runs and finds "
            "nothing either; give inputs in which it finds something (`golden: {files: [...]}`)."
        )
    if all(output.constant for output in telling):
        return "refused", _refusal(telling, cases)
    faults = [
        f"{output.name} could be constant ({output.constant})"
        for output in telling
        if output.constant and not output.same
    ]
    faults += [f"it would accept {words} in {output.name}" for output in telling for words in output.permuted]
    strict = [damage.sentence for damage in damages if damage.harmless and damage.rejected and damage.name == "tiny"]
    if strict:
        return (
            "weak",
            f"The tolerance is too narrow: it rejects a model with {strict[0]}; widen `tolerance:` or `outputs:`.",
        )
    must = [damage for damage in damages if damage.counts]
    missed = [damage for damage in must if not damage.rejected]
    if any(damage.name == "swapped" for damage in missed) or 2 * len(missed) > len(must):
        faults += [f"it would accept {damage.sentence}" for damage in missed]
    if faults:
        return "weak", (
            f"The golden is weak: {'; '.join(faults)}. Give more cases (`golden: {{cases: N}}`) or inputs from the field "
            "(`golden: {files: [...]}`), or narrow `tolerance:`."
        )
    nearest = min((output.apart_min for output in telling if not output.constant), default=0.0)
    rejected = f"{len(must) - len(missed)} of {len(must)} ways of damaging the weights are rejected" if must else ""
    apart = f"the cases lie at least {nearest:.3g} tolerances apart"
    return "strong", f"The golden can tell: {apart}{' and ' + rejected if rejected else ''}."


def _refusal(outputs: Sequence[OutputPower], cases: int) -> str:
    farthest = max(output.apart_max for output in outputs)
    ways = ", ".join(f"{output.name}: {output.constant}" for output in outputs[:3])
    more = f" and {len(outputs) - 3} more" if len(outputs) > 3 else ""
    return (
        f"The golden cannot tell this model from constants: a model that ignores its input would be accepted in all {cases} "
        f"cases ({ways}{more}); the cases lie at most {farthest:.3g} tolerances apart. Give inputs for which the answers "
        "differ (`golden: {files: [a.npz, b.npz]}`), or narrow `tolerance:`."
    )
