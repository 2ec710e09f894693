"""Runs the goldens before a worker serves, and one of them again on request.  Runs in the worker."""

import time
from dataclasses import replace
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import AgentError
from ...findings import Finding, Severity, finding
from ...formats.nb import NbModel
from ...formats.npz import Array, read_lod, read_npz
from ...verification.comparison import FREE_ROWS, ModelComparison, OutputPair, compare_output
from ...verification.engine import Engine
from ...verification.golden_cases import CaseComparison, Golden, check_outputs, fits_inputs, precision_of
from .batching import are_batchable, first_size, free_first, join_inputs, split_outputs

OutputType = Tuple[str, Tuple[int, ...]]  # dtype and dims of an output; -1 = free


class _Deviation(NamedTuple):
    """The largest differences of one output from its references, over all cases."""

    name: str
    max_abs: float
    mean_abs: float
    cosine: float


def infer(paddlelite: Engine, inputs: Mapping[str, Array], lods: bool = False) -> List[Array]:
    """Run the model once, with a predictor for the sizes of these inputs, and return copies of its outputs.

    `lods`: with their sequences.
    """
    paddlelite.select_predictor(inputs)
    paddlelite.set_inputs(inputs)
    paddlelite.run()
    outputs = paddlelite.outputs()
    if not lods:
        return outputs
    return [_with_lod(value, lod) for value, lod in zip(outputs, paddlelite.output_lods())]  # noqa: B905 - 3.7


def _with_lod(value: Array, lod: Sequence[Sequence[int]]) -> Array:
    """Return an output with its sequences, without them where they do not fit it.

    Paddle-Lite's operators pass the LoD of their input on, also where their output has other rows.
    """
    try:
        return replace(value, lod=read_lod(lod, value.shape))
    except AgentError:
        return value


class Warmup:
    """The goldens of one release, and how its outputs are compared with them."""

    def __init__(self, paddlelite: Engine, model: NbModel, comparison: ModelComparison) -> None:
        self.paddlelite, self.model, self.comparison = paddlelite, model, comparison
        self.findings: List[Finding] = []
        self.statistics: Dict[str, object] = {}  # {cases, outputs: [{name, max_abs, mean_abs, cosine}]}
        self.batches = False
        self.output_types: Tuple[OutputType, ...] = ()  # of each output, as it was for the goldens
        self.lod_levels: Dict[str, int] = {}  # of the inputs that take sequences: the file does not say it
        self.lods = False  # any output had sequences
        self._first: Optional[Golden] = None
        self._accepted: List[Array] = []  # outputs of the first case that passed

    def run(self, paths: Sequence[str], stage: Callable[[str], None]) -> bool:
        """Run every golden and return whether all passed; otherwise `findings` give the reasons.

        `stage` is called with the name of each step before it begins.
        """
        goldens = self._read(paths)
        if self.findings or not goldens:
            return False
        stage("setting the inputs of case 1")
        self.paddlelite.set_inputs(goldens[0].inputs, check=True)
        stage("running case 1")
        warm = infer(self.paddlelite, goldens[0].inputs)
        results = []
        for number, golden in enumerate(goldens):
            stage("running case %d" % (number + 1))
            results.append(infer(self.paddlelite, golden.inputs, lods=True))
        self._check_outputs(goldens, results, warm)
        if any(found.severity is Severity.ERROR for found in self.findings):
            return False
        self._first, self._accepted = goldens[0], results[0]
        self.lod_levels = {name: len(value.lod) for name, value in goldens[0].inputs.items() if value.lod}
        self.lods = any(value.lod for outputs in results for value in outputs)
        self.output_types = tuple(self._output_type(index, results) for index in range(len(self.model.outputs)))
        stage("running a batch of two cases")
        self.batches = self._batches(goldens, results)
        return True

    def _read(self, paths: Sequence[str]) -> List[Golden]:
        goldens = []
        for number, path in enumerate(paths):
            try:
                golden, found = fits_inputs(self.model, read_npz(path), "Case %d" % (number + 1))
            except AgentError as error:
                golden, found = None, [finding("LF412", str(error))]
            self.findings += found
            if golden is not None:
                goldens.append(golden)
        if not paths:
            self.findings.append(finding("LF412", "The release has no goldens."))
        return goldens

    def _check_outputs(self, goldens: Sequence[Golden], results: Sequence[List[Array]], warm: List[Array]) -> None:
        counts = {len(outputs) for outputs in results}
        if counts != {len(self.model.outputs)}:
            observed = "The file declares %d outputs, the runtime gave %s." % (len(self.model.outputs), sorted(counts))
            self.findings.append(finding("LF407", observed))
            return
        others = [(i, value) for i, value in enumerate(warm) if value.data != results[0][i].data]
        runs = [(outputs, others if case == 0 else []) for case, outputs in enumerate(results)]
        output_check = check_outputs(self.model, goldens, runs, self.comparison)
        self.findings += output_check.findings
        self.statistics = _summary(len(goldens), output_check.comparisons)

    def _output_type(self, index: int, results: Sequence[List[Array]]) -> OutputType:
        """Return the dtype and dims that every answer must have: sizes that the file declares and all cases gave."""
        given = [outputs[index] for outputs in results]
        tensor = self.model.outputs[index]
        free = self._rows_vary(tensor.name) or len({len(value.shape) for value in given}) > 1
        if free or len(tensor.dims) != len(given[0].shape):
            return given[0].dtype, (-1,) * len(given[0].shape)
        kept = [size if all(v.shape[i] == size for v in given) else -1 for i, size in enumerate(tensor.dims)]
        return given[0].dtype, tuple(kept)

    def _rows_vary(self, name: str) -> bool:
        """Return whether an output has a row per thing found, whatever its declared dims say."""
        return self.comparison.of(name).kind in FREE_ROWS

    def _batches(self, goldens: Sequence[Golden], results: Sequence[List[Array]]) -> bool:
        """Return whether two different cases give the same outputs together as one by one."""
        if not (free_first(self.model.inputs) and free_first(self.model.outputs)):
            return False
        if any(self._rows_vary(tensor.name) for tensor in self.model.outputs):
            return False  # rows of several pictures cannot be told apart by their number
        for other in range(1, len(goldens)):
            pair = [goldens[0].inputs, goldens[other].inputs]
            if are_batchable(pair):
                return self._batch_matches(pair, [results[0], results[other]])
        return False

    def _batch_matches(self, pair: Sequence[Mapping[str, Array]], alone: Sequence[List[Array]]) -> bool:
        try:
            parts = split_outputs(
                infer(self.paddlelite, join_inputs(pair)), [first_size(inputs) or 0 for inputs in pair]
            )
            after = infer(self.paddlelite, pair[0])  # a smaller batch after a larger one
        except Exception:  # the binding raises any type; requests then run one by one
            return False
        matched = zip([*alone, alone[0]], [*parts, after])  # noqa: B905 - 3.7
        return all(self._within_tolerance(want, got) for want, got in matched)

    def _within_tolerance(self, want: Sequence[Array], got: Sequence[Array]) -> bool:
        names = [tensor.name for tensor in self.model.outputs]
        pairs = {name: OutputPair(want[place], got[place]) for place, name in enumerate(names)}
        return all(
            pair.expected.data == pair.actual.data
            or compare_output(pair, self.comparison.of(name), precision_of(self.model), pairs).passed
            for name, pair in pairs.items()
        )

    def probe(self) -> Tuple[List[Finding], float]:
        """Run the first golden again; return its errors and the milliseconds that it took."""
        assert self._first is not None
        begun = time.perf_counter()
        outputs = infer(self.paddlelite, self._first.inputs)
        took_ms = (time.perf_counter() - begun) * 1e3
        if [value.data for value in outputs] == [value.data for value in self._accepted]:
            return [], took_ms  # the same bytes have passed before
        if len(outputs) != len(self.model.outputs):
            return [finding("LF407", "The runtime gave %d outputs." % len(outputs))], took_ms
        found = check_outputs(self.model, [self._first], [(outputs, [])], self.comparison).findings
        return [f for f in found if f.severity is Severity.ERROR], took_ms


def _summary(cases: int, comparisons: Sequence[CaseComparison]) -> Dict[str, object]:
    """Return {cases, outputs} with the largest differences of each output over all cases, which bounds its size."""
    outputs: Dict[str, _Deviation] = {}
    for comparison in comparisons:
        worst = outputs.get(comparison.name, _Deviation(comparison.name, 0.0, 0.0, 1.0))
        figures = comparison.found.figures()
        outputs[comparison.name] = _Deviation(
            comparison.name,
            max(worst.max_abs, figures["max_abs"]),
            max(worst.mean_abs, figures["mean_abs"]),
            min(worst.cosine, figures["cosine"]),
        )
    return {"cases": cases, "outputs": [worst._asdict() for worst in outputs.values()]}
