"""Compares devices' outputs with each other and with the reference engine's.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litefleet_agent.formats.npz import Array as Dense
from litefleet_agent.verification.comparison import (
    ComparisonSpec,
    ModelComparison,
    OutputComparison,
    OutputPair,
    compare_output,
)
from litefleet_agent.verification.comparison.result import FARTHEST

from ..build.golden.files import Array

Outputs = Mapping[str, Array]
_LOOSEST = ("int8", "fp16", "int16", "fp32")
_MOST_KINDS = 16  # different answers to one input that are compared each with each


@dataclass(frozen=True)
class Limits:
    """How outputs are compared: by each device's precision ("fp32", ...), `given` tolerance, and what outputs mean."""

    precisions: Mapping[str, str]
    given: Mapping[str, float]
    specs: Mapping[str, ComparisonSpec] = field(default_factory=dict)  # by output

    def precision(self, one: str, other: str) -> str:
        """Return the precision of two devices' answers: the looser one; "" stands for the reference."""
        both = {self.precisions.get(name, "fp32") for name in (one, other)}
        return next((p for p in _LOOSEST if p in both), "fp32")

    def spec(self, name: str, other: str) -> ComparisonSpec:
        """Return how an output is compared that is `name` on a device, and `other` where it is compared with."""
        return ModelComparison(self.specs, self.given).of(name if name in self.specs else other)


@dataclass(frozen=True)
class Difference:
    """One device's output for one input against another's; `against` is a device's name, or "reference"."""

    device: str
    case: str
    output: str
    against: str
    found: OutputComparison

    @property
    def agrees(self) -> bool:
        """Whether both are the same within the limits."""
        return self.found.passed

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        about = {"device": self.device, "input": self.case, "output": self.output, "against": self.against}
        return {**about, **self.found.figures(), "reason": self.found.reason}


def against_reference(
    case: str, answers: Mapping[str, Outputs], reference: Outputs, limits: Limits
) -> tuple[Difference, ...]:
    """Compare each device's outputs for one input with the reference engine's."""
    found = [_compared(device, case, "", reference, given, limits) for device, given in answers.items()]
    return tuple(difference for each in found for difference in each)


def among_devices(case: str, answers: Mapping[str, Outputs], limits: Limits) -> tuple[str, tuple[Difference, ...]]:
    """Compare the devices' outputs for one input with the answer that most of them agree on, within the tolerance.

    Return (the device that stands for the most, "" where no more than half of three and more agree; the differences).
    """
    kinds: dict[str, list[str]] = {}
    for device, given in answers.items():
        kinds.setdefault(_mark(given), []).append(device)
    groups = sorted(kinds.values(), key=len, reverse=True)
    heads = [group[0] for group in groups[:_MOST_KINDS]]
    weight = {head: _agreeing(case, head, heads, groups, answers, limits) for head in heads}
    chosen = max(heads, key=lambda head: weight[head])
    differences = [
        difference
        for device, given in answers.items()
        if device != chosen
        for difference in _compared(device, case, chosen, answers[chosen], given, limits)
    ]
    return (chosen if weight[chosen] * 2 > len(answers) else ""), tuple(differences)


def _agreeing(
    case: str,
    head: str,
    heads: Sequence[str],
    groups: Sequence[Sequence[str]],
    answers: Mapping[str, Outputs],
    limits: Limits,
) -> int:
    """Return how many devices agree with `head`, itself among them."""
    return sum(
        len(group)
        for other, group in zip(heads, groups, strict=False)
        if other == head or all(d.agrees for d in _compared(other, case, head, answers[head], answers[other], limits))
    )


def _compared(
    device: str, case: str, against: str, expected: Outputs, given: Outputs, limits: Limits
) -> list[Difference]:
    shown = against or "reference"
    if len(expected) != len(given):
        observed = f"it gave {len(given)} outputs where {shown} gave {len(expected)}"
        return [
            Difference(device, case, "", shown, OutputComparison("tensor", False, FARTHEST, observed, problem="shape"))
        ]
    # engines may use other output names: then the order counts
    names = list(given) if set(given) == set(expected) else list(expected)
    pairs = {name: OutputPair(_dense(expected[o]), _dense(given[name])) for name, o in zip(given, names, strict=True)}
    precision = limits.precision(device, against)
    return [
        Difference(device, case, name, shown, compare_output(pair, limits.spec(name, other), precision, pairs))
        for (name, pair), other in zip(pairs.items(), names, strict=True)
    ]


def _dense(value: Array) -> Dense:
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return Dense(value.dtype.name, tuple(value.shape), little.tobytes())


def _mark(outputs: Outputs) -> str:
    """Return a hash that equal outputs share."""
    digest = hashlib.sha256()
    for name, value in outputs.items():
        digest.update(repr((name, value.dtype.str, value.shape)).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
