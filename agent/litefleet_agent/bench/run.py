"""One bench on this device: what speaks against it, what is measured, and what the figures say."""

import sys
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from ..facts import Facts
from ..facts.sensors import available_bytes
from ..facts.tree import Tree
from ..findings import Finding, decide, finding, ranked
from ..findings.environment import static_findings
from ..formats.nb import NbError
from ..releases.activation import open_leases
from ..releases.selector import ReleaseSelector
from ..releases.store import Store, StoreError
from ..service.settings import load_settings
from ..service.workers.plan import plan_of
from .golden_check import GoldenCheck
from .latency import ColdStarts, compare_ab, steady
from .plan import BenchOptions, options_of_request
from .recorder import Recorder
from .report_text import caveats_of
from .throughput import ThroughputMatrix
from .trends import memory_growth, throttled
from .worker_handle import BenchWorker, BenchWorkerError, WaitLoop

__all__ = ["BenchEnvironment", "bench", "releases_of", "require_no_lease"]


def require_no_lease(store: Store) -> None:
    """Raise StoreError "busy" while a switch waits for its confirmation: a held lock would keep the device from going back."""
    for model, operation in open_leases(store).items():
        left = operation.lease.remaining_s(store.clock) if operation.lease is not None else 0.0
        message = "the switch of %s waits for its confirmation (another %.0f s): measure after it" % (model, left)
        raise StoreError(message, "busy")


def releases_of(store: Store, header: Mapping[str, Any]) -> List[str]:
    """Return the ids of {model, release?, against?}: the one to measure, then the one to compare it with, if any.

    Raises StoreError as `ReleaseSelector` does.
    """
    model, against = header.get("model"), header.get("against")
    first = ReleaseSelector.parse(model, header.get("release")).resolve(store)
    return [first] if against is None else [first, ReleaseSelector.parse(model, against).resolve(store)]


_MOST_FINDINGS = 50


class BenchEnvironment(NamedTuple):
    """Where a bench runs; tests name others."""

    tree: Tree = Tree("/")
    python: str = sys.executable


def bench(
    store: Store,
    facts: Facts,
    header: Mapping[str, Any],
    on_tick: Callable[[], None],
    environment: BenchEnvironment = BenchEnvironment(),  # noqa: B008 - a value
) -> Dict[str, Any]:
    """Measure {model, release?, against?, runs?, seconds?, threads?, workers?, low_priority?}; docs/bench.md has the answer.

    The caller holds the store's lock, so that no proof disturbs the figures and no figure disturbs a proof.  `on_tick` is
    called about every second; what it raises ends all processes.  Raises AgentError for a release that is not here, or
    neither current nor proven here; while a switch waits for its confirmation; for a request that does not fit.
    """
    options = options_of_request(header, facts.cpu.cores)
    require_no_lease(store)
    identities = releases_of(store, header)
    with WaitLoop(on_tick) as wait_loop:
        return _Bench(wait_loop, facts, options, environment.tree).run(store, identities, environment.python)


class MeasuredRelease:
    """One release, and what was measured of it."""

    def __init__(self, golden_check: GoldenCheck, starts: ColdStarts) -> None:
        self.golden_check, self.starts = golden_check, starts
        self.recorder = Recorder()
        self.memory: Dict[str, int] = {}
        self.right: Optional[bool] = None  # whether it computed what its goldens say

    @property
    def memory_bytes(self) -> int:
        """What one process of it is known to take, 0 before the first start."""
        first = self.starts.records[-1]["rss"]["after_first_run"] if self.starts.records else 0
        return max(int(first), self.memory.get("peak", 0))

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form."""
        plan, last = self.golden_check.plan, self.starts.records[-1] if self.starts.records else {}
        words = {name: last.get(name, "") for name in ("runtime_version", "numpy_version", "threads_set_by")}
        statistics = self.recorder.to_dict() if self.recorder.runs else {}
        return dict(
            words,
            release=plan.model.release,
            right=self.right,
            cases=len(plan.golden),
            cases_left_out=self.golden_check.left_out,
            cold=self.starts.statistics(),
            memory=dict(last.get("rss", {}), **self.memory),
            **statistics,
        )


class _Bench:
    """The parts of one bench, in their order."""

    def __init__(self, wait_loop: WaitLoop, facts: Facts, options: BenchOptions, tree: Tree) -> None:
        self._wait_loop, self._facts, self._options, self._tree = wait_loop, facts, options, tree
        self._measured: List[MeasuredRelease] = []
        self._findings: List[Finding] = []
        self._matrix: List[Dict[str, Any]] = []
        self._comparison: Dict[str, Any] = {}

    def run(self, store: Store, identities: List[str], python: str) -> Dict[str, Any]:
        """Measure, and return the answer; what went wrong is among its findings."""
        begun = time.monotonic()
        try:
            if all(self._ready(store, identity, python) for identity in identities):
                self._over_time()
                self._throughput()
        except BenchWorkerError as error:
            self._findings += error.findings
        model = store.release(identities[0]).model
        return dict(self._answer(), model=model, took_s=round(time.monotonic() - begun, 3))

    def _ready(self, store: Store, identity: str, python: str) -> bool:
        """Read a release, and say whether it may be loaded."""
        plan = replace(plan_of(store, identity, load_settings(store.root)), python=python)
        self._findings += static_findings(plan.nb, self._facts, plan.runtime, plan.nb_sha256)
        if any(found.decides for found in self._findings):
            return False
        try:
            golden_check = GoldenCheck(plan)
        except (NbError, OSError) as error:
            raise StoreError("a file of %s can't be read: %s" % (identity[:12], error), "io-error") from error
        self._measured.append(MeasuredRelease(golden_check, ColdStarts(self._wait_loop, golden_check, self._options)))
        self._findings += golden_check.findings
        return not any(found.decides for found in self._findings)

    # --- over time

    def _over_time(self) -> None:
        """Start each release several times, and watch the processes that were started last."""
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
        """Start a release for the first time; beside another one only where there is room for it."""
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
                cell = matrix.measure(one.golden_check, workers, threads, one.memory_bytes)
                self._matrix.append(dict(cell, release=one.golden_check.plan.model.release))
        self._findings += matrix.findings

    # --- the answer

    def _answer(self) -> Dict[str, Any]:
        for one in self._measured:  # what grew until the process died is told as well
            found = memory_growth(one.recorder.memory()), throttled(one.recorder.series.columns())
            self._findings += [each for each in found if each is not None]
        answer: Dict[str, Any] = {
            "verdict": decide(self._findings).value,
            "findings": [found.to_dict() for found in ranked(self._findings)[:_MOST_FINDINGS]],
            "seconds": self._options.seconds,
            "low_priority": self._options.low_priority,
            "cpus": self._facts.cpu.cores,
            "releases": [one.to_dict() for one in self._measured],
            "comparison": self._comparison,
            "cells": self._matrix,
        }
        return dict(answer, notes=caveats_of(answer))
