"""Decides how each output of a configured model is compared: by litefleet.yaml, else as recognised in the source model."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from litefleet_agent.errors import AgentError
from litefleet_agent.formats.npz import Array as WireArray
from litefleet_agent.verification.comparison import TENSOR, ComparisonSpec

from ...common.errors import ConfigError
from ...common.lazy import numpy as np
from ..conversion.program import Program
from .files import Tensor, read_npz
from .recognise import Recognised, recognise

_CONFIGURED = "as litefleet.yaml says"
_LIMITS = (
    "agree",
    "iou",
    "tie",
    "score",
    "box",
    "missing",
    "differ",
    "off",
    "outliers",
    "cosine",
    "length",
)  # of rules
_BY_POSITION = frozenset({"topk", "mask", "embedding"})  # kinds whose items correspond, as a tensor's do


@dataclass(frozen=True)
class OutputMeaning:
    """How one output is compared, and why; `name` is the source model's, or the .nb's where there is no source."""

    name: str
    spec: ComparisonSpec
    why: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form: {name, compare, why}."""
        return {"name": self.name, "compare": self.spec.kind, "why": self.why}


def meanings_of(
    model: str,
    outputs: Sequence[Tensor],
    program: Program | None,
    configured: Mapping[str, Mapping[str, Any]],
    tolerance: Mapping[str, float],
) -> tuple[OutputMeaning, ...]:
    """Return how each output is compared, in the order of `outputs`.

    `configured` is `models.NAME.outputs`; `tolerance` is `models.NAME.tolerance`, which is for elementwise comparison:
    where it is given, scores, maps and vectors that `configured` does not name are compared as tensors with it.

    Raises: ConfigError for a name that is no output of the model, or that a parameter names and is none.
    """
    names = [tensor.name for tensor in outputs]
    problems = [
        f"models.{model}.outputs: the model has no output '{name}'; it has {', '.join(names) or 'none'}."
        for name in configured
        if name not in names
    ]
    recognised = recognise(program) if program is not None else {}
    found = [_meaning(name, recognised.get(name), configured.get(name), tolerance) for name in names]
    for one in found:
        for key in ("scores", "rows"):
            other = dict(one.spec.given).get(key)
            if other is not None and other not in names:
                problems.append(
                    f"models.{model}.outputs.{one.name}.{key}: the model has no output '{other}'; it has "
                    f"{', '.join(names)}."
                )
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _meaning(
    name: str, recognised: Recognised | None, configured: Mapping[str, Any] | None, tolerance: Mapping[str, float]
) -> OutputMeaning:
    if configured is not None:
        spec, why = ComparisonSpec.from_dict(dict(configured), f"outputs.{name}"), _CONFIGURED
        if recognised is not None and recognised.spec.kind == spec.kind:  # the detector's own thresholds stay known
            spec = recognised.spec.with_given(**dict(spec.given))
        return OutputMeaning(name, spec, why)
    if recognised is None or (recognised.spec.kind == "tensor" and not recognised.why):
        return OutputMeaning(name, TENSOR, "item by item, as nothing else was recognised")
    if tolerance and (recognised.spec.kind in _BY_POSITION or recognised.spec.kind == "tensor"):
        return OutputMeaning(name, TENSOR, "item by item, with `tolerance:` of litefleet.yaml")
    return OutputMeaning(name, recognised.spec, recognised.why)


def data_set_decides(meanings: Sequence[OutputMeaning]) -> tuple[OutputMeaning, ...]:
    """Return the meanings for a file of reduced precision whose accuracy a data set decides: the golden bounds hardly more.

    Scores, maps and vectors become tensors, for which the release then has a tolerance of that kind.
    """
    why = "the data set decides about this precision"
    return tuple(
        one if one.why == _CONFIGURED else replace(one, spec=_LENIENT.get(one.spec.kind, _as_tensor)(one.spec), why=why)
        for one in meanings
    )


def _as_tensor(spec: ComparisonSpec) -> ComparisonSpec:
    return TENSOR


_LENIENT: Mapping[str, Callable[[ComparisonSpec], ComparisonSpec]] = {
    "labels": lambda spec: spec.with_given(agree=0.0, iou=0.0),
    "detections": lambda spec: spec.with_given(missing=1.0),
    "counts": lambda spec: spec.with_given(differ=1.0),
}


def with_fp16_weights(meanings: Sequence[OutputMeaning], golden: Sequence[Path]) -> tuple[OutputMeaning, ...]:
    """Return the meanings for a model whose weights were rounded to fp16 after its golden was made.

    Its kernels compute with 32 bits, so a device would judge it at fp32's limits, which rounding exceeds; fp16's are for it.
    `golden` names the cases, whose largest values scale the limits of plain numbers.  What litefleet.yaml says stays.

    Raises: FindingError for a case that cannot be read.
    """
    peaks = _peaks(golden)
    why = "the weights are rounded to fp16, and the golden is not of these weights"
    return tuple(
        one if one.why == _CONFIGURED else replace(one, spec=_at_fp16(one.spec, peaks.get(one.name, 1.0)), why=why)
        for one in meanings
    )


def _peaks(golden: Sequence[Path]) -> dict[str, float]:
    """Return the largest finite magnitude of each array of numbers, by name."""
    peaks: dict[str, float] = {}
    for path in golden:
        for name, value in read_npz(path).items():
            size = np.abs(value.astype("f8")) if value.dtype.kind in "fiu" else np.zeros(0)
            peaks[name] = max(peaks.get(name, 0.0), float(size.max(where=np.isfinite(size), initial=0.0)))
    return peaks


def _at_fp16(spec: ComparisonSpec, peak: float) -> ComparisonSpec:
    if spec.kind == "tensor":
        expected = WireArray("float64", (1,), struct.pack("<d", peak))
        limits = asdict(spec.tolerance("fp16", expected))
        # The mean and the angle follow from these two for each reference (`in_agreement`).
        return spec.with_given(max_abs=limits["max_abs"], max_rel=limits["max_rel"])
    limits = asdict(spec.rule("fp16"))
    return spec.with_given(**{name: limits[name] for name in _LIMITS if name in limits and not spec.gives(name)})


def by_position(meanings: Sequence[OutputMeaning], names: Sequence[str]) -> tuple[OutputMeaning, ...]:
    """Return the meanings under the names that another program of the model has for its outputs.

    A converter may rename outputs and keeps their order: equal names go together, the others in their order.
    """
    if len(names) != len(meanings):
        return tuple(one for one in meanings if one.name in names)
    rest = iter([name for name in names if name not in {one.name for one in meanings}])
    renamed = {one.name: one.name if one.name in names else next(rest) for one in meanings}
    return tuple(replace(one, name=renamed[one.name], spec=_renamed(one.spec, renamed)) for one in meanings)


def _renamed(spec: ComparisonSpec, renamed: Mapping[str, str]) -> ComparisonSpec:
    given = dict(spec.given)
    changes = {key: renamed[given[key]] for key in ("scores", "rows") if given.get(key) in renamed}
    try:
        return spec.with_given(**changes) if changes else spec
    except AgentError:
        return spec
