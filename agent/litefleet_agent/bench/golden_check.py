"""Checks the outputs of a bench: the release's goldens are compared before the first measurement and after the last."""

from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Tuple

from ..errors import AgentError
from ..findings import Finding, finding
from ..formats.nb import NbModel, read_nb
from ..formats.npz import Array, read_npz
from ..service.workers.plan import WorkerPlan
from ..verification.comparison import ModelComparison
from ..verification.golden_cases import Golden, check_outputs, fits_inputs
from .worker_handle import BenchWorker

_MOST_CASES = 8


class GoldenCheck:
    """One release's goldens; `plan` holds those whose inputs have the same sizes, as a predictor keeps to one size.

    `findings` give the reasons when it cannot be run.  Raises NbError and OSError for a file that cannot be read, AgentError
    for a comparison that is not well formed.
    """

    def __init__(self, plan: WorkerPlan) -> None:
        self.findings: List[Finding] = []
        self._comparison = ModelComparison.parse(plan.outputs, plan.tolerance)
        with open(plan.nb, "rb") as file:
            self._model: NbModel = read_nb(file.read())
        self._accepted: List[List[Array]] = []
        paths = self._same_sizes(plan.golden)
        self.left_out = len(plan.golden) - len(paths)
        self.plan = replace(plan, golden=tuple(paths))

    def _same_sizes(self, paths: Sequence[str]) -> List[str]:
        """Return the cases with the most frequent input sizes, at most 8."""
        groups: Dict[Tuple[Tuple[str, Tuple[int, ...]], ...], List[str]] = {}
        for number, path in enumerate(paths):
            golden = self._golden(number, path)
            if golden is not None:
                sizes = tuple((value.dtype, tuple(value.shape)) for value in golden.inputs.values())
                groups.setdefault(sizes, []).append(path)
        if not paths:
            self.findings.append(finding("LF412", "The release has no goldens."))
        return max(groups.values(), key=len, default=[])[:_MOST_CASES]

    def _golden(self, number: int, path: str) -> Optional[Golden]:
        try:
            golden, found = fits_inputs(self._model, read_npz(path), "Case %d" % (number + 1))
        except AgentError as error:
            golden, found = None, [finding("LF412", str(error))]
        self.findings += found
        return golden

    def check(self, worker: BenchWorker) -> List[Finding]:
        """Return the errors in the first and the last outputs of a process that has run."""
        first, last = worker.outputs("first"), worker.outputs("last")
        if _data(first) == _data(last) == _data(self._accepted):
            return []  # the same bytes have passed before
        counts = {len(outputs) for outputs in first + last}
        if counts != {len(self._model.outputs)}:
            observed = "The file declares %d outputs, the runtime gave %s." % (len(self._model.outputs), sorted(counts))
            return [finding("LF407", observed)]
        found = self._compared(first, last)
        if not found and not self._accepted:
            self._accepted = first
        return found

    def _compared(self, first: List[List[Array]], last: List[List[Array]]) -> List[Finding]:
        goldens = [self._golden(number, path) for number, path in enumerate(self.plan.golden)]
        whole = [golden for golden in goldens if golden is not None]
        runs = []
        for case, outputs in enumerate(first):
            later = [(i, value) for i, value in enumerate(last[case]) if value.data != outputs[i].data]
            runs.append((outputs, later))
        if len(whole) != len(runs):
            return [finding("LF412", "Cannot read a golden again.")]
        return [found for found in check_outputs(self._model, whole, runs, self._comparison).findings if found.decides]


def _data(cases: Sequence[Sequence[Array]]) -> Tuple[bytes, ...]:
    return tuple(value.data for outputs in cases for value in outputs)
