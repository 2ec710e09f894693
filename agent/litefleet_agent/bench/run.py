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
from ..releases.store import Store, StoreError, release_named
from ..service.settings import load_settings
from ..service.workers.plan import plan_of
from .golden_check import Truth
from .latency import Starts, steady, versus
from .plan import BenchPlan, plan_of_request
from .recorder import Watched
from .report_text import notes_of
from .throughput import Cells
from .trends import growth, throttled
from .worker_handle import Floor, Subject, SubjectError

__all__ = ["Place", "bench", "no_lease", "releases_of"]


def no_lease(store: Store) -> None:
    """Raise StoreError "busy" while a switch waits for its confirmation: a held lock would keep the device from going back."""
    for model, operation in open_leases(store).items():
        left = operation.lease.remaining_s(store.clock) if operation.lease is not None else 0.0
        seen = "the switch of %s waits for its confirmation (another %.0f s): measure after it" % (model, left)
        raise StoreError(seen, "busy")


def releases_of(store: Store, header: Mapping[str, Any]) -> List[str]:
    """Return the ids of {model, release?, against?}: the one to measure, then the one to compare it with, if any.

    Raises StoreError as `release_named` does.
    """
    model, against = header.get("model"), header.get("against")
    first = release_named(store, model, header.get("release"))
    return [first] if against is None else [first, release_named(store, model, against)]


_MOST_FINDINGS = 50


class Place(NamedTuple):
    """Where a bench runs; tests name others."""

    tree: Tree = Tree("/")
    python: str = sys.executable


def bench(
    store: Store,
    facts: Facts,
    header: Mapping[str, Any],
    on_tick: Callable[[], None],
    place: Place = Place(),  # noqa: B008 - a value
) -> Dict[str, Any]:
    """Measure {model, release?, against?, runs?, seconds?, threads?, workers?, low_priority?}; docs/bench.md has the answer.

    The caller holds the store's lock, so that no proof disturbs the figures and no figure disturbs a proof.  `on_tick` is
    called about every second; what it raises ends all processes.  Raises AgentError for a release that is not here, or
    neither current nor proven here; while a switch waits for its confirmation; for a request that does not fit.
    """
    plan = plan_of_request(header, facts.cpu.cores)
    no_lease(store)
    identities = releases_of(store, header)
    with Floor(on_tick) as floor:
        return _Bench(floor, facts, plan, place.tree).run(store, identities, place.python)


class Measured:
    """One release, and what was measured of it."""

    def __init__(self, truth: Truth, starts: Starts) -> None:
        self.truth, self.starts = truth, starts
        self.watched = Watched()
        self.memory: Dict[str, int] = {}
        self.right: Optional[bool] = None  # whether it computed what its goldens say

    @property
    def memory_bytes(self) -> int:
        """What one process of it is known to take, 0 before the first start."""
        first = self.starts.told[-1]["rss"]["after_first_run"] if self.starts.told else 0
        return max(int(first), self.memory.get("peak", 0))

    def told(self) -> Dict[str, Any]:
        """Return the JSON form."""
        plan, last = self.truth.plan, self.starts.told[-1] if self.starts.told else {}
        words = {name: last.get(name, "") for name in ("runtime_version", "numpy_version", "threads_set_by")}
        figures = self.watched.told() if self.watched.runs else {}
        return dict(
            words,
            release=plan.model.release,
            right=self.right,
            cases=len(plan.golden),
            cases_left_out=self.truth.left_out,
            cold=self.starts.figures(),
            memory=dict(last.get("rss", {}), **self.memory),
            **figures,
        )


class _Bench:
    """The parts of one bench, in their order."""

    def __init__(self, floor: Floor, facts: Facts, plan: BenchPlan, tree: Tree) -> None:
        self._floor, self._facts, self._plan, self._tree = floor, facts, plan, tree
        self._measured: List[Measured] = []
        self._findings: List[Finding] = []
        self._cells: List[Dict[str, Any]] = []
        self._comparison: Dict[str, Any] = {}

    def run(self, store: Store, identities: List[str], python: str) -> Dict[str, Any]:
        """Measure, and return the answer; what went wrong is among its findings."""
        begun = time.monotonic()
        try:
            if all(self._ready(store, identity, python) for identity in identities):
                self._over_time()
                self._throughput()
        except SubjectError as error:
            self._findings += error.findings
        model = store.release(identities[0])["model"]["name"]
        return dict(self._answer(), model=model, took_s=round(time.monotonic() - begun, 3))

    def _ready(self, store: Store, identity: str, python: str) -> bool:
        """Read a release, and say whether it may be loaded."""
        plan = replace(plan_of(store, identity, load_settings(store.root)), python=python)
        self._findings += static_findings(plan.nb, self._facts, plan.runtime, plan.nb_sha256)
        if any(found.decides for found in self._findings):
            return False
        try:
            truth = Truth(plan)
        except (NbError, OSError) as error:
            raise StoreError("a file of %s can't be read: %s" % (identity[:12], error), "io-error") from error
        self._measured.append(Measured(truth, Starts(self._floor, truth, self._plan)))
        self._findings += truth.findings
        return not any(found.decides for found in self._findings)

    # --- over time

    def _over_time(self) -> None:
        """Start each release several times, and watch the processes that were started last."""
        subjects = [self._start(one) for one in self._measured]
        for _ in range(min(one.starts.further for one in self._measured)):
            for number, one in enumerate(self._measured):
                subjects[number].end()
                subjects[number] = one.starts.start()
        self._watch(subjects)
        for one, subject in zip(self._measured, subjects):  # noqa: B905 - 3.7
            one.memory = subject.memory(self._tree)
            wrong = one.truth.judge(subject)
            one.right = not wrong
            self._findings += wrong
            subject.end()

    def _start(self, one: Measured) -> Subject:
        """Start a release for the first time; beside another one only where there is room for it."""
        free = available_bytes(self._tree)
        held = max(other.memory_bytes for other in self._measured)
        if held and free is not None and held > free:
            seen = "Two releases at once take about %.0f MB each, and %.0f MB are free." % (held / 1e6, free / 1e6)
            raise SubjectError([finding("LF311", seen)])
        return one.starts.start()

    def _watch(self, subjects: List[Subject]) -> None:
        seconds, runs = self._plan.steady_s(len(subjects)), self._plan.runs
        watched = [one.watched for one in self._measured]
        if len(subjects) == 1:
            steady(self._floor, subjects[0], watched[0], self._tree, seconds, runs)
        else:
            self._comparison = versus(self._floor, subjects, watched, self._tree, seconds, runs)

    def _throughput(self) -> None:
        cells = Cells(self._floor, self._tree, self._plan, self._plan.cell_s(len(self._measured)))
        for workers, threads in self._plan.cells:
            for one in self._measured:
                told = cells.measure(one.truth, workers, threads, one.memory_bytes)
                self._cells.append(dict(told, release=one.truth.plan.model.release))
        self._findings += cells.findings

    # --- the answer

    def _answer(self) -> Dict[str, Any]:
        for one in self._measured:  # what grew until the process died is told as well
            found = growth(one.watched.memory()), throttled(one.watched.series.columns())
            self._findings += [each for each in found if each is not None]
        answer: Dict[str, Any] = {
            "verdict": decide(self._findings).value,
            "findings": [found.to_dict() for found in ranked(self._findings)[:_MOST_FINDINGS]],
            "seconds": self._plan.seconds,
            "low_priority": self._plan.low_priority,
            "cpus": self._facts.cpu.cores,
            "releases": [one.told() for one in self._measured],
            "comparison": self._comparison,
            "cells": self._cells,
        }
        return dict(answer, notes=notes_of(answer))
