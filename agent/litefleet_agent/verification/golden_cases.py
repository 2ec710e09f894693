"""Checks a model against its goldens: inputs before the run, outputs, latency and gates after it.  Pure."""

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..findings import Finding, finding
from ..formats.nb import NbModel, Tensor
from ..formats.npz import Array
from .compare import Comparison, Tolerance, compare, default_tolerance, peak, values

__all__ = [
    "Golden",
    "Latency",
    "OutputCheck",
    "OutputComparison",
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
    """Return the value that a `share` (0 to 1) of the sorted, non-empty values do not exceed: the nearest-rank percentile."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median; ValueError for no values."""
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


class OutputComparison(NamedTuple):
    """How far one output of one case is from its reference; see `compare.Comparison` for the figures."""

    name: str  # of the output
    case: int  # from 0
    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    cosine: float
    top1: Optional[float]
    non_finite: int
    ok: bool


class OutputCheck(NamedTuple):
    """The findings about the outputs, and the figures behind them: one per output and case."""

    findings: List[Finding]
    comparisons: List[OutputComparison]


class Latency(NamedTuple):
    """Latency of the timed runs in milliseconds; percentiles by nearest rank."""

    p50: float
    p90: float
    p99: float
    min: float
    runs: int


# the outputs of one case: those of the first run, by position; then, for each later run that differed, (position, output)
Runs = Tuple[Sequence[Array], Sequence[Tuple[int, Array]]]


def precision_of(model: NbModel) -> str:
    """Return the precision whose default tolerance applies: "int8", "int16", "fp16" or "fp32"."""
    for dtype in ("int8", "int16"):
        if dtype in model.weight_dtypes or dtype in model.kernels_by_precision():
            return dtype
    return "fp16" if "fp16" in model.kernels_by_precision() else "fp32"


def fits_inputs(model: NbModel, arrays: Mapping[str, Array], label: str) -> Tuple[Optional[Golden], List[Finding]]:
    """Split a golden's arrays into inputs and reference outputs; where they do not fit the model, return findings and no Golden.

    Outputs are matched by name, the rest by position when as many arrays are left.  `label` names the case in the findings.
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
    model: NbModel, goldens: Sequence[Golden], runs: Sequence[Runs], tolerance: Optional[Mapping[str, object]] = None
) -> OutputCheck:
    """Compare the outputs with the goldens, case by case; `tolerance` (JSON form) overrides the precision's default.

    Raises AgentError for a tolerance that is not well formed.
    """
    findings: List[Finding] = []
    comparisons: List[OutputComparison] = []
    for index, tensor in enumerate(model.outputs):
        found: Dict[str, Finding] = {}  # one of each kind per output is enough
        for case, golden in enumerate(goldens):
            first, _ = runs[case]
            limits = tolerance_for(model, golden.outputs[index], tolerance)
            comparison = compare(golden.outputs[index], first[index], limits)
            comparisons.append(_figures(tensor.name, case, comparison))
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


def tolerance_for(model: NbModel, expected: Array, given: Optional[Mapping[str, object]]) -> Tolerance:
    """Return how far an output may be from `expected`; `given` (JSON form) overrides the precision's default.

    Raises AgentError for a tolerance that is not well formed.
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
        if not between.ok and all(map(math.isfinite, values(first[index]))):  # else reported already
            code = "LF404" if between.non_finite else "LF406"
            observed = "%s, case %d, between two runs of one input: %s" % (name, case + 1, between.reason)
            return [finding(code, observed)]
    return []


def _constant(name: str, index: int, goldens: Sequence[Golden], runs: Sequence[Runs]) -> List[Finding]:
    """Return LF405 where two cases with different references gave the same bytes."""
    observed: Dict[bytes, Tuple[int, bytes]] = {}
    for case, golden in enumerate(goldens):
        expected = golden.outputs[index].data
        before, reference = observed.setdefault(runs[case][0][index].data, (case, expected))
        if reference != expected:
            words = "%s is the same for cases %d and %d, whose references differ" % (name, before + 1, case + 1)
            return [finding("LF405", words)]
    return []


def _figures(name: str, case: int, found: Comparison) -> OutputComparison:
    return OutputComparison(
        name, case, found.max_abs, found.mean_abs, found.max_rel, found.mean_rel, found.cosine, found.top1,
        found.non_finite, found.ok,
    )  # fmt: skip


def latency(times_ms: Sequence[float]) -> Latency:
    """Return the percentiles of at least one time in milliseconds."""
    ordered = sorted(times_ms)
    p50, p90, p99 = (nearest_rank(ordered, share) for share in (0.5, 0.9, 0.99))
    return Latency(p50, p90, p99, ordered[0], len(ordered))


def exceeded_gates(gates: Mapping[str, float], times: Latency, peak_rss_bytes: int) -> List[Finding]:
    """Return a finding for each gate (p50_ms, p90_ms, p99_ms, peak_rss_bytes) that the measurements exceed."""
    found = []
    for rank, took_ms in (("p50", times.p50), ("p90", times.p90), ("p99", times.p99)):
        allowed_ms = gates.get(rank + "_ms", math.inf)
        if took_ms > allowed_ms:
            found.append(finding("LF409", "%s is %.1f ms; %.1f ms are allowed" % (rank, took_ms, allowed_ms)))
    if peak_rss_bytes > gates.get("peak_rss_bytes", math.inf):
        allowed = gates["peak_rss_bytes"] / 2**20
        observed = "the peak is %.0f MiB; %.0f MiB are allowed" % (peak_rss_bytes / 2**20, allowed)
        found.append(finding("LF410", observed))
    return found
