"""Compares devices' outputs with each other and with the reference engine's.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from litefleet_agent.formats.npz import Array as Dense
from litefleet_agent.verification.compare import Comparison, Tolerance, compare, default_tolerance, peak

from ..build.golden.files import Array

__all__ = ["Difference", "Limits", "against_reference", "among_devices"]

Outputs = Mapping[str, Array]
_LOOSEST = ("int8", "fp16", "int16", "fp32")
_MOST_KINDS = 16  # different answers to one input that are compared each with each


@dataclass(frozen=True)
class Limits:
    """Tolerances: by each device's precision ("fp32", ...), overridden by `given`."""

    precisions: Mapping[str, str]
    given: Mapping[str, float]

    def between(self, one: str, other: str, expected: Dense) -> Tolerance:
        """Return the tolerance between two devices' answers: the looser one's; "" stands for the reference."""
        both = {self.precisions.get(name, "fp32") for name in (one, other)}
        precision = next((p for p in _LOOSEST if p in both), "fp32")
        return Tolerance.from_dict(dict(self.given), default_tolerance(precision, peak(expected)))


@dataclass(frozen=True)
class Difference:
    """One device's output for one input against another's; `against` is a device's name, or "reference"."""

    device: str
    case: str
    output: str
    against: str
    found: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        about = {"device": self.device, "input": self.case, "output": self.output, "against": self.against}
        return {**about, **asdict(self.found)}


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
        if other == head or all(d.found.ok for d in _compared(other, case, head, answers[head], answers[other], limits))
    )


def _compared(
    device: str, case: str, against: str, expected: Outputs, given: Outputs, limits: Limits
) -> list[Difference]:
    shown = against or "reference"
    if len(expected) != len(given):
        observed = f"it gave {len(given)} outputs where {shown} gave {len(expected)}"
        return [Difference(device, case, "", shown, Comparison(False, observed, cosine=0.0))]
    # engines may use other output names: then the order counts
    names = list(given) if set(given) == set(expected) else list(expected)
    pairs = zip(given, names, strict=True)
    return [
        Difference(device, case, name, shown, _measured(expected[other], given[name], device, against, limits))
        for name, other in pairs
    ]


def _measured(expected: Array, given: Array, device: str, against: str, limits: Limits) -> Comparison:
    want, got = _dense(expected), _dense(given)
    return compare(want, got, limits.between(device, against, want))


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
