"""Throughput by workers and threads: several processes of one release at once, as a service would run them."""

from typing import Any, Dict, List

from ..facts.sensors import available_bytes
from ..facts.tree import Tree
from ..findings import Finding, finding
from ..verification.golden_cases import median
from .golden_check import Truth
from .latency import warm_up
from .plan import BenchPlan
from .statistics import Samples
from .worker_handle import Block, Floor, Subject, SubjectError
from .worker_main import MOST_RUNS

__all__ = ["Cells"]

_START_S = 0.1  # for all to be told before they start together
_LONGEST = 500  # characters
_ROOM = 0.9  # of the memory that is there, at most


class Cells:
    """Measures one pair of workers and threads after the other; `findings` say what went wrong in one of them."""

    def __init__(self, floor: Floor, tree: Tree, plan: BenchPlan, seconds: float) -> None:
        self._floor, self._tree, self._plan, self._seconds = floor, tree, plan, seconds
        self.findings: List[Finding] = []

    def measure(self, truth: Truth, workers: int, threads: int, peak_bytes: int) -> Dict[str, Any]:
        """Return the figures of one cell; `peak_bytes` is what one process took, and decides whether there is room."""
        told: Dict[str, Any] = {"workers": workers, "threads": threads}
        free = available_bytes(self._tree)
        if free is not None and workers * peak_bytes > free * _ROOM:
            need = "%d processes would take about %d MB, and %d MB are free" % (
                workers, workers * peak_bytes / 1e6, free / 1e6,
            )  # fmt: skip
            return dict(told, skipped=need)
        subjects: List[Subject] = []
        try:
            for _ in range(workers):
                subjects.append(Subject(self._floor, truth.plan, threads, self._plan.low_priority))
            told.update(self._figures(subjects))
            wrong: List[Finding] = [found for subject in subjects for found in truth.judge(subject)]
        except SubjectError as error:
            wrong = error.findings
            told["skipped"] = ("it failed: %s" % error)[:_LONGEST]
        finally:
            for subject in subjects:
                subject.end()
        self.findings += [_where(found, workers, threads) for found in wrong]
        return told

    def _figures(self, subjects: List[Subject]) -> Dict[str, Any]:
        for subject in subjects:
            subject.started()
        for subject in subjects:
            warm_up(self._floor, subject)
        blocks = [block for block in self._together(subjects) if block.times]
        if not blocks:
            raise SubjectError([finding("LF408", "No run ended within %.1f s." % self._seconds)])
        times = Samples()
        for block in blocks:
            times.add(block.times)
        p50 = [median(block.times) for block in blocks]
        memory = [subject.memory(self._tree) for subject in subjects]
        return {
            "seconds": round(max(block.seconds for block in blocks), 3),
            "runs": times.count,
            "runs_per_s": round(sum(len(block.times) / block.seconds for block in blocks), 3),
            "cores": round(sum(block.cpu_s / block.seconds for block in blocks), 3),
            "latency": times.figures(),
            "worker_p50": {"fastest": round(min(p50), 4), "slowest": round(max(p50), 4)},
            "rss_bytes": max(told.get("rss", 0) for told in memory),
            "pss_bytes": sum(told["pss"] for told in memory) if all("pss" in told for told in memory) else None,
        }

    def _together(self, subjects: List[Subject]) -> List[Block]:
        at = self._floor.loop.now() + _START_S
        for subject in subjects:
            subject.ask_runs(MOST_RUNS, at + self._seconds, at)
        return [subject.block(self._seconds) for subject in subjects]


def _where(found: Finding, workers: int, threads: int) -> Finding:
    at = "%d at once" % workers if workers > 1 else "alone"
    with_threads = " with %d threads" % threads if threads else ""
    return Finding(found.code, "Running %s%s: %s" % (at, with_threads, found.seen), found.certainty)
