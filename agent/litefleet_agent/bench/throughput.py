"""Measures throughput by workers and threads: several processes of one release at once, as the service runs them."""

from typing import List

from ..facts.sensors import available_bytes
from ..findings import Finding, finding
from ..formats.files import Tree
from ..verification.golden_cases import median
from .golden_check import GoldenCheck
from .latency import warm_up
from .plan import BenchOptions
from .results import Cell, CellFigures
from .statistics import Samples
from .worker_handle import BenchWorker, BenchWorkerError, Block, WaitLoop
from .worker_main import MOST_RUNS

_START_S = 0.1  # for all processes to get the request before they start together
_LONGEST = 500  # characters
_MAX_MEMORY_SHARE = 0.9  # of the available memory


class ThroughputMatrix:
    """Measures pairs of workers and threads; `findings` are those of all pairs so far."""

    def __init__(self, wait_loop: WaitLoop, tree: Tree, options: BenchOptions, seconds: float) -> None:
        self._wait_loop, self._tree, self._options, self._seconds = wait_loop, tree, options, seconds
        self.findings: List[Finding] = []

    def measure(self, golden_check: GoldenCheck, workers: int, threads: int, peak_bytes: int) -> Cell:
        """Measure one pair; it is skipped when so many processes of `peak_bytes` do not fit into the available memory."""
        cell = Cell(golden_check.plan.model.release, workers, threads)
        free = available_bytes(self._tree)
        if free is not None and workers * peak_bytes > free * _MAX_MEMORY_SHARE:
            need = "%d processes would take about %d MB, and %d MB are free" % (
                workers, workers * peak_bytes / 1e6, free / 1e6,
            )  # fmt: skip
            return cell._replace(skipped=need)
        bench_workers: List[BenchWorker] = []
        try:
            for _ in range(workers):
                bench_workers.append(
                    BenchWorker(self._wait_loop, golden_check.plan, threads, self._options.low_priority)
                )
            cell = cell._replace(figures=self._figures(bench_workers))
            wrong: List[Finding] = [found for worker in bench_workers for found in golden_check.check(worker)]
        except BenchWorkerError as error:
            wrong = error.findings
            cell = cell._replace(skipped=("it failed: %s" % error)[:_LONGEST])
        finally:
            for worker in bench_workers:
                worker.end()
        self.findings += [_where(found, workers, threads) for found in wrong]
        return cell

    def _figures(self, bench_workers: List[BenchWorker]) -> CellFigures:
        for worker in bench_workers:
            worker.started()
        for worker in bench_workers:
            warm_up(self._wait_loop, worker)
        blocks = [block for block in self._together(bench_workers) if block.times]
        if not blocks:
            raise BenchWorkerError([finding("LF408", "No run ended within %.1f s." % self._seconds)])
        times = Samples()
        for block in blocks:
            times.add(block.times)
        p50 = [median(block.times) for block in blocks]
        memory = [worker.memory(self._tree) for worker in bench_workers]
        return CellFigures(
            seconds=round(max(block.seconds for block in blocks), 3),
            runs=times.count,
            runs_per_s=round(sum(len(block.times) / block.seconds for block in blocks), 3),
            cores=round(sum(block.cpu_s / block.seconds for block in blocks), 3),
            latency=times.statistics(),
            fastest_p50=round(min(p50), 4),
            slowest_p50=round(max(p50), 4),
            rss_bytes=max(one.get("rss", 0) for one in memory),
            pss_bytes=sum(one["pss"] for one in memory) if all("pss" in one for one in memory) else None,
        )

    def _together(self, bench_workers: List[BenchWorker]) -> List[Block]:
        at = self._wait_loop.loop.now() + _START_S
        for worker in bench_workers:
            worker.ask_runs(MOST_RUNS, at + self._seconds, at)
        return [worker.block(self._seconds) for worker in bench_workers]


def _where(found: Finding, workers: int, threads: int) -> Finding:
    at = "%d at once" % workers if workers > 1 else "alone"
    with_threads = " with %d threads" % threads if threads else ""
    return Finding(found.code, "Running %s%s: %s" % (at, with_threads, found.observed), found.certainty)
