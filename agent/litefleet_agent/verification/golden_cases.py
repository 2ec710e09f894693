"""Checks a model against its goldens: inputs before the run, outputs, latency and gates after it.  Pure."""

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..findings import Finding, finding
from ..formats.nb import NbModel, Tensor
from ..formats.npz import Array
from .compare import values
from .comparison import AS_TENSORS, ComparisonSpec, ModelComparison, OutputComparison, OutputPair, compare_output


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


class CaseComparison(NamedTuple):
    """How far one output of one case is from its reference."""

    name: str  # of the output
    case: int  # from 0
    found: OutputComparison

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form: {name, case, max_abs, ..., ok, compare, distance, measures, note?}."""
        return dict({"name": self.name, "case": self.case}, **self.found.figures())


class OutputCheck(NamedTuple):
    """The findings about the outputs, and the figures behind them: one per output and case."""

    findings: List[Finding]
    comparisons: List[CaseComparison]


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
    model: NbModel, goldens: Sequence[Golden], runs: Sequence[Runs], comparison: ModelComparison = AS_TENSORS
) -> OutputCheck:
    """Compare the outputs with the goldens, case by case, each output as `comparison` says."""
    findings: List[Finding] = []
    comparisons: List[CaseComparison] = []
    names = [tensor.name for tensor in model.outputs]
    precision = precision_of(model)
    for index, name in enumerate(names):
        judge = _Judge(name, index, comparison.of(name), precision)
        found: Dict[str, Finding] = {}  # one of each kind per output is enough
        for case, golden in enumerate(goldens):
            beside = {
                other: OutputPair(golden.outputs[i], runs[case][0][i]) for i, other in enumerate(names) if i != index
            }
            compared = judge.compare(golden.outputs[index], runs[case][0][index], beside)
            comparisons.append(CaseComparison(name, case, compared))
            for item in judge.findings(case, compared) + judge.unstable(case, runs[case]):
                found.setdefault(item.code, item)
        for item in judge.constant(goldens, runs):
            found.setdefault(item.code, item)
        findings += [found[code] for code in _ORDER if code in found]
    return OutputCheck(findings, comparisons)


_CODES = {"shape": "LF407", "non-finite": "LF404", "differs": "LF403"}  # of an OutputComparison's problem
_ORDER = ("LF407", "LF404", "LF405", "LF406", "LF403", "LF426")
_PROVES_LITTLE = "proves little"  # in the note of a comparison of outputs that hold nothing


class _Judge(NamedTuple):
    """Judges one output; `place` is its position among the model's outputs."""

    name: str
    place: int
    spec: ComparisonSpec
    precision: str

    def compare(self, expected: Array, actual: Array, beside: Mapping[str, OutputPair]) -> OutputComparison:
        """Compare one case's output with its reference; `beside` holds the case's other outputs."""
        return compare_output(OutputPair(expected, actual), self.spec, self.precision, beside)

    def findings(self, case: int, compared: OutputComparison) -> List[Finding]:
        """Return what a comparison found, as a finding."""
        if not compared.passed:
            observed = "%s, case %d: %s" % (self.name, case + 1, compared.reason)
            return [finding(_CODES[compared.problem], observed)]
        if _PROVES_LITTLE in compared.note:
            return [finding("LF426", "%s, case %d: %s" % (self.name, case + 1, compared.note))]
        return []

    def unstable(self, case: int, runs: Runs) -> List[Finding]:
        """Return LF406 or LF404 where a later run of the same input gave another answer than the first."""
        first = runs[0][self.place]
        for position, other in runs[1]:
            if position != self.place:
                continue
            between = self.compare(first, other, {})
            if not between.passed and all(map(math.isfinite, values(first))):  # else reported already
                code = "LF404" if between.problem == "non-finite" else "LF406"
                observed = "%s, case %d, between two runs of one input: %s" % (self.name, case + 1, between.reason)
                return [finding(code, observed)]
        return []

    def constant(self, goldens: Sequence[Golden], runs: Sequence[Runs]) -> List[Finding]:
        """Return LF405 where two cases gave the same bytes, and their references are more than a tolerance apart."""
        seen: Dict[bytes, int] = {}
        for case, golden in enumerate(goldens):
            before = seen.setdefault(runs[case][0][self.place].data, case)
            first, expected = goldens[before].outputs[self.place], golden.outputs[self.place]
            if before != case and first.data != expected.data and not self.compare(first, expected, {}).passed:
                words = "%s is the same for cases %d and %d, whose references differ" % (
                    self.name,
                    before + 1,
                    case + 1,
                )
                return [finding("LF405", words)]
        return []


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
