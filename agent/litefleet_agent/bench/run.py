"""Runs one bench on this device: checks, measurements, findings."""

import sys
import time
from dataclasses import replace
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..facts import Facts
from ..facts.sensors import available_bytes
from ..findings import Finding, decide, finding, ranked
from ..findings.environment import static_findings
from ..formats.files import Tree
from ..formats.nb import NbError
from ..releases.activation import open_leases
from ..releases.selector import ReleaseSelector
from ..releases.store import Store, StoreError
from ..service.settings import load_settings
from ..service.workers.plan import plan_of, proof_of
from ..verification.engine import BINDING, recorded_engine
from .golden_check import GoldenCheck
from .latency import ColdStarts, compare_ab, steady
from .plan import BenchOptions, options_of_request
from .recorder import Recorder
from .report_text import caveats_of
from .results import BenchResult, Cell, PairComparison, ReleaseResult
from .throughput import ThroughputMatrix
from .trends import memory_growth, throttled
from .worker_handle import BenchWorker, BenchWorkerError, WaitLoop


def require_no_lease(store: Store) -> None:
    """Raise StoreError "busy" while a switch waits for its confirmation: the bench's lock would prevent its revert."""
    for model, operation in open_leases(store).items():
        left = operation.lease.remaining_s(store.clock) if operation.lease is not None else 0.0
        message = "the switch of %s waits for its confirmation (another %.0f s): measure after it" % (model, left)
        raise StoreError(message, "busy")


def releases_of(store: Store, header: Mapping[str, object]) -> List[str]:
    """Return the ids named by {model, release?, against?}: the release to measure, then the one to compare it with.

    Raises StoreError as `ReleaseSelector` does.
    """
    model, against = header.get("model"), header.get("against")
    first = ReleaseSelector.parse(model, header.get("release")).resolve(store)
    return [first] if against is None else [first, ReleaseSelector.parse(model, against).resolve(store)]


_MOST_FINDINGS = 50


class BenchEnvironment(NamedTuple):
    """The machine that a bench reads and the interpreter that it starts; tests replace both."""

    tree: Tree = Tree("/")
    python: str = sys.executable


def bench(
    store: Store,
    facts: Facts,
    header: Mapping[str, object],
    on_tick: Callable[[], None],
    environment: BenchEnvironment = BenchEnvironment(),  # noqa: B008 - a value
) -> BenchResult:
    """Measure as {model, release?, against?, runs?, seconds?, threads?, workers?, low_priority?} says (see docs/bench.md).

    The caller holds the store's lock, so that a bench and a verification do not disturb each other.  `on_tick` is called
    about every second; an exception of it ends all processes and is passed on.

    Raises AgentError for an invalid request, for a release that is missing, or neither current nor verified here, and
    "busy" while a switch waits for its confirmation.
    """
    options = options_of_request(header, facts.cpu.cores)
    require_no_lease(store)
    identities = releases_of(store, header)
    with WaitLoop(on_tick) as wait_loop:
        return _Bench(wait_loop, facts, options, environment.tree).run(store, identities, environment.python)


def _latest_engine(store: Store, identities: Sequence[str]) -> str:
    """Return the engine of the latest proof among these releases: two are compared with the one that the newer runs with."""
    proofs = [proof for proof in (proof_of(store, identity) for identity in reversed(identities)) if proof is not None]
    return recorded_engine(max(proofs, key=lambda proof: proof.at).measurements) if proofs else BINDING


class MeasuredRelease:
    """One release and its measurements so far."""

    def __init__(self, golden_check: GoldenCheck, starts: ColdStarts, proven_by: str) -> None:
        self.golden_check, self.starts, self.proven_by = golden_check, starts, proven_by
        self.recorder = Recorder()
        self.memory: Dict[str, int] = {}
        self.right: Optional[bool] = None  # whether its outputs match its goldens

    @property
    def memory_bytes(self) -> int:
        """The known memory of one process, 0 before the first start."""
        first = self.starts.reports[-1].rss.get("after_first_run", 0) if self.starts.reports else 0
        return max(first, self.memory.get("peak", 0))

    def result(self) -> ReleaseResult:
        """Return the measurements."""
        plan, reports = self.golden_check.plan, self.starts.reports
        return ReleaseResult(
            release=plan.model.release,
            right=self.right,
            cases=len(plan.golden),
            cases_left_out=self.golden_check.left_out,
            starts=tuple(reports),
            memory=dict(reports[-1].rss if reports else {}, **self.memory),
            over_time=self.recorder.over_time(),
            proven_by=self.proven_by,
        )


class _Bench:
    """The steps of one bench."""

    def __init__(self, wait_loop: WaitLoop, facts: Facts, options: BenchOptions, tree: Tree) -> None:
        self._wait_loop, self._facts, self._options, self._tree = wait_loop, facts, options, tree
        self._measured: List[MeasuredRelease] = []
        self._findings: List[Finding] = []
        self._cells: List[Cell] = []
        self._comparison: Optional[PairComparison] = None

    def run(self, store: Store, identities: List[str], python: str) -> BenchResult:
        """Measure and return the result; a failed step is one of its findings."""
        begun = time.monotonic()
        try:
            engine = _latest_engine(store, identities)
            if all(self._ready(store, identity, python, engine) for identity in identities):
                self._over_time()
                self._throughput()
        except BenchWorkerError as error:
            self._findings += error.findings
        return self._result(store.release(identities[0]).model, begun)

    def _ready(self, store: Store, identity: str, python: str, engine: str) -> bool:
        """Read a release, and return whether it may be loaded."""
        own = plan_of(store, identity, load_settings(store.root))
        plan = replace(own, python=python, wanted=engine)
        self._findings += static_findings(plan.nb, self._facts, plan.runtime, plan.nb_sha256, plan.engine)
        if any(found.decides for found in self._findings):
            return False
        try:
            golden_check = GoldenCheck(plan)
        except (NbError, OSError) as error:
            raise StoreError("cannot read a file of %s: %s" % (identity[:12], error), "io-error") from error
        starts = ColdStarts(self._wait_loop, golden_check, self._options)
        self._measured.append(MeasuredRelease(golden_check, starts, own.wanted))
        self._findings += golden_check.findings
        return not any(found.decides for found in self._findings)

    # --- over time

    def _over_time(self) -> None:
        """Start each release several times, and measure the processes that were started last."""
        bench_workers = [self._start(one) for one in self._measured]
        for _ in range(min(one.starts.further for one in self._measured)):
            for number, one in enumerate(self._measured):
                bench_workers[number].end()
                bench_workers[number] = one.starts.start()
        self._watch(bench_workers)
        for one, worker in zip(self._measured, bench_workers):  # noqa: B905 - 3.7
            one.memory = worker.memory(self._tree)
            wrong = one.golden_check.check(worker)
            one.right = not wrong
            self._findings += wrong
            worker.end()

    def _start(self, one: MeasuredRelease) -> BenchWorker:
        """Start a release for the first time.  Raises BenchWorkerError when a second one does not fit into memory."""
        free = available_bytes(self._tree)
        peak_bytes = max(other.memory_bytes for other in self._measured)
        if peak_bytes and free is not None and peak_bytes > free:
            observed = "Two releases at once take about %.0f MB each, and %.0f MB are free." % (
                peak_bytes / 1e6,
                free / 1e6,
            )
            raise BenchWorkerError([finding("LF311", observed)])
        return one.starts.start()

    def _watch(self, bench_workers: List[BenchWorker]) -> None:
        seconds, runs = self._options.steady_s(len(bench_workers)), self._options.runs
        recorders = [one.recorder for one in self._measured]
        if len(bench_workers) == 1:
            steady(self._wait_loop, bench_workers[0], recorders[0], self._tree, seconds, runs)
        else:
            self._comparison = compare_ab(self._wait_loop, bench_workers, recorders, self._tree, seconds, runs)

    def _throughput(self) -> None:
        matrix = ThroughputMatrix(self._wait_loop, self._tree, self._options, self._options.cell_s(len(self._measured)))
        for workers, threads in self._options.matrix:
            for one in self._measured:
                self._cells.append(matrix.measure(one.golden_check, workers, threads, one.memory_bytes))
        self._findings += matrix.findings

    def _result(self, model: str, begun: float) -> BenchResult:
        for one in self._measured:  # also of a process that died: its memory may have grown before
            found = memory_growth(one.recorder.memory()), throttled(one.recorder.series.columns())
            self._findings += [each for each in found if each is not None]
        releases = tuple(one.result() for one in self._measured)
        return BenchResult(
            model=model,
            took_s=round(time.monotonic() - begun, 3),
            verdict=decide(self._findings).value,
            findings=tuple(ranked(self._findings)[:_MOST_FINDINGS]),
            seconds=self._options.seconds,
            low_priority=self._options.low_priority,
            cpus=self._facts.cpu.cores,
            releases=releases,
            comparison=self._comparison,
            cells=tuple(self._cells),
            notes=tuple(caveats_of(releases, self._options.low_priority)),
        )
