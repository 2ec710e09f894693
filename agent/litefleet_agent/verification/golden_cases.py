"""Judges what a model did against its goldens: fit before the run, outputs and gates after it.  Pure."""

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..findings import Finding, finding
from ..formats.nb import NbModel, Tensor
from ..formats.npz import Array
from .compare import Comparison, Tolerance, compare, default_tolerance, peak, values

__all__ = [
    "Golden",
    "OutputCheck",
    "check_outputs",
    "exceeded_gates",
    "fits_inputs",
    "latency",
    "median",
    "nearest_rank",
    "precision_of",
    "tolerance_for",
]


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of the values do not exceed; they are sorted, and at least one."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle value, for an even count the mean of the two in the middle; ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass(frozen=True)
class Golden:
    """One case: the model's inputs by name, and the reference outputs in the order of its fetches."""

    inputs: Dict[str, Array]
    outputs: Tuple[Array, ...]


@dataclass(frozen=True)
class OutputCheck:
    """The findings about the outputs and the figures behind them (one object per output and case)."""

    findings: List[Finding]
    comparisons: List[Dict[str, Any]]


# outputs of one case: first the first run's, by position; then, for each later run that differed, (position, output)
Runs = Tuple[Sequence[Array], Sequence[Tuple[int, Array]]]


def precision_of(model: NbModel) -> str:
    """Return the precision that decides the default tolerance: "int8", "int16", "fp16" or "fp32"."""
    for dtype in ("int8", "int16"):
        if dtype in model.weight_dtypes or dtype in model.kernels_by_precision():
            return dtype
    return "fp16" if "fp16" in model.kernels_by_precision() else "fp32"


def fits_inputs(model: NbModel, arrays: Mapping[str, Array], label: str) -> Tuple[Optional[Golden], List[Finding]]:
    """Divide a golden's arrays into inputs and outputs; the findings say what does not fit (then no Golden).

    Outputs are matched by name; those that are left, by position, when as many arrays are left.
    """
    wrong = [problem for tensor in model.inputs for problem in _input_problems(tensor, arrays)]
    rest = {name: value for name, value in arrays.items() if name not in {t.name for t in model.inputs}}
    unnamed = [t for t in model.outputs if t.name not in rest]
    spare = [name for name in rest if name not in {t.name for t in model.outputs}]
    if len(unnamed) != len(spare):
        wrong.append(
            "the model has the outputs %s and the golden has %s"
            % (", ".join(t.name for t in model.outputs), ", ".join(rest) or "none")
        )
    if wrong:
        return None, [finding("LF412", "%s: %s." % (label, problem)) for problem in wrong]
    by_position = {tensor.name: spare[i] for i, tensor in enumerate(unnamed)}
    outputs = tuple(rest[by_position.get(t.name, t.name)] for t in model.outputs)
    bad = [t.name for i, t in enumerate(model.outputs) if not all(map(math.isfinite, values(outputs[i])))]
    found = [finding("LF412", "%s: the reference for %s holds NaN or Inf" % (label, name)) for name in bad]
    return Golden({t.name: arrays[t.name] for t in model.inputs}, outputs), found


def _input_problems(tensor: Tensor, arrays: Mapping[str, Array]) -> List[str]:
    value = arrays.get(tensor.name)
    if value is None:
        return ["it lacks the input %s (it holds %s)" % (tensor.name, ", ".join(arrays) or "nothing")]
    problems = []
    if tensor.dtype not in ("unknown", value.dtype):
        problems.append("input %s is %s, the model takes %s" % (tensor.name, value.dtype, tensor.dtype))
    same_rank = len(tensor.dims) == len(value.shape)
    if tensor.dims and not (same_rank and all(d in (-1, value.shape[i]) for i, d in enumerate(tensor.dims))):
        problems.append(
            "input %s has shape %s, the model takes %s" % (tensor.name, list(value.shape), list(tensor.dims))
        )
    if not value.count:
        problems.append("input %s is empty" % tensor.name)
    return problems


def check_outputs(
    model: NbModel, goldens: Sequence[Golden], runs: Sequence[Runs], tolerance: Optional[Dict[str, Any]] = None
) -> OutputCheck:
    """Compare what ran with the goldens, case by case; `tolerance` (JSON form) overrides the precision's own.

    Raises AgentError for a tolerance that is none.
    """
    findings: List[Finding] = []
    comparisons: List[Dict[str, Any]] = []
    for index, tensor in enumerate(model.outputs):
        found: Dict[str, Finding] = {}  # one of each kind per output is enough
        for case, golden in enumerate(goldens):
            first, _ = runs[case]
            limits = tolerance_for(model, golden.outputs[index], tolerance)
            comparison = compare(golden.outputs[index], first[index], limits)
            comparisons.append(_comparison_dict(tensor.name, case, comparison))
            problem = _problem(comparison, golden.outputs[index], first[index])
            if problem:
                observed = "%s, case %d: %s" % (tensor.name, case + 1, comparison.reason)
                found.setdefault(problem, finding(problem, observed))
            for item in _unstable(tensor.name, index, case, runs[case], limits):
                found.setdefault(item.code, item)
        for item in _constant(tensor.name, index, goldens, runs):
            found.setdefault(item.code, item)
        findings += [found[code] for code in ("LF407", "LF404", "LF405", "LF406", "LF403") if code in found]
    return OutputCheck(findings, comparisons)


def tolerance_for(model: NbModel, expected: Array, given: Optional[Dict[str, Any]]) -> Tolerance:
    """Return what an output may differ by from `expected`; `given` (JSON form) overrides the precision's own.

    Raises AgentError for a tolerance that is none.
    """
    default = default_tolerance(precision_of(model), peak(expected))
    return default if given is None else Tolerance.from_dict(given, default)


def _problem(comparison: Comparison, expected: Array, actual: Array) -> str:
    if comparison.ok:
        return ""
    if (expected.shape, expected.dtype) != (actual.shape, actual.dtype):
        return "LF407"
    return "LF404" if comparison.non_finite else "LF403"


def _unstable(name: str, index: int, case: int, runs: Runs, limits: Tolerance) -> List[Finding]:
    first, others = runs
    for position, other in others:
        if position != index:
            continue
        between = compare(first[index], other, limits)
        if not between.ok and all(map(math.isfinite, values(first[index]))):  # else said already
            code = "LF404" if between.non_finite else "LF406"
            observed = "%s, case %d, between two runs of one input: %s" % (name, case + 1, between.reason)
            return [finding(code, observed)]
    return []


def _constant(name: str, index: int, goldens: Sequence[Golden], runs: Sequence[Runs]) -> List[Finding]:
    """Find cases with different inputs and references that gave the same bytes."""
    observed: Dict[bytes, Tuple[int, bytes]] = {}
    for case, golden in enumerate(goldens):
        expected = golden.outputs[index].data
        before, reference = observed.setdefault(runs[case][0][index].data, (case, expected))
        if reference != expected:
            words = "%s is the same for cases %d and %d, whose references differ" % (name, before + 1, case + 1)
            return [finding("LF405", words)]
    return []


def _comparison_dict(name: str, case: int, found: Comparison) -> Dict[str, Any]:
    keys = ("max_abs", "mean_abs", "max_rel", "mean_rel", "cosine", "top1", "non_finite", "ok")
    return dict({"name": name, "case": case}, **{key: getattr(found, key) for key in keys})


def latency(times_ms: Sequence[float]) -> Dict[str, float]:
    """Return min, p50, p90, p99 (nearest rank, milliseconds) and the number of runs."""
    ordered = sorted(times_ms)
    ranks = {name: nearest_rank(ordered, share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return dict(ranks, min=ordered[0], runs=len(ordered))


def exceeded_gates(gates: Mapping[str, float], times: Mapping[str, float], peak_rss_bytes: int) -> List[Finding]:
    """Return the gates that the measurements do not pass; `times` as `latency` gives them, in milliseconds."""
    found = []
    for rank in ("p50", "p90", "p99"):
        allowed_ms = gates.get(rank + "_ms", math.inf)
        if times[rank] > allowed_ms:
            found.append(finding("LF409", "%s is %.1f ms; %.1f ms are allowed" % (rank, times[rank], allowed_ms)))
    if peak_rss_bytes > gates.get("peak_rss_bytes", math.inf):
        allowed = gates["peak_rss_bytes"] / 2**20
        observed = "the peak is %.0f MiB; %.0f MiB are allowed" % (peak_rss_bytes / 2**20, allowed)
        found.append(finding("LF410", observed))
    return found
