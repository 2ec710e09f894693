"""Measures latency: cold starts, one release over time, and two releases in turn."""

from typing import Callable, List, Optional, Sequence, Tuple, TypeVar

from ..findings import finding
from ..formats.files import Tree
from ..verification.golden_cases import median
from .golden_check import GoldenCheck
from .plan import BenchOptions
from .recorder import Recorder
from .results import PairComparison, StartReport
from .statistics import compare_pairs
from .system_load import SystemLoad, forget_files
from .worker_handle import BenchWorker, BenchWorkerError, Block, WaitLoop
from .worker_main import MOST_RUNS

_SHARE = 0.3  # of the time of a bench, for further starts
_MOST = 4  # further starts

_T = TypeVar("_T")


class ColdStarts:
    """The cold starts of one release: the first from storage, as far as the kernel drops the files' pages."""

    def __init__(self, wait_loop: WaitLoop, golden_check: GoldenCheck, options: BenchOptions) -> None:
        self._wait_loop, self._golden_check, self._options = wait_loop, golden_check, options
        self.reports: List[StartReport] = []

    def start(self) -> BenchWorker:
        """Start a process and return it after its first run.  Raises BenchWorkerError."""
        plan = self._golden_check.plan
        if not self.reports:
            forget_files([plan.nb] + ([plan.runtime] if plan.runtime else []))
        worker = BenchWorker(self._wait_loop, plan, self._options.threads[0], self._options.low_priority)
        report = worker.started()
        self.reports.append(report._replace(process_ms=round((report.begun - worker.begun) * 1e3, 3)))
        return worker

    @property
    def further(self) -> int:
        """The number of further starts for which there is time, at least one."""
        took_s = max(self.reports[-1].total_ms / 1e3, 0.001)
        return max(1, min(_MOST, int(_SHARE * min(self._options.seconds, 60.0) / took_s)))


_WARM_RUNS, _WARM_S = 10, 0.5
_BLOCK_S = (0.1, 1.0)  # shortest, longest
_BLOCKS = 60  # or more, in the whole time


def warm_up(wait_loop: WaitLoop, worker: BenchWorker) -> float:
    """Run a few times without recording, and return about how long one run takes, in seconds."""
    worker.ask_runs(_WARM_RUNS, wait_loop.loop.now() + _WARM_S)
    block = worker.block(_WARM_S)
    return max(median(block.whole) / 1e3, 1e-6) if block.whole else _WARM_S


def steady(wait_loop: WaitLoop, worker: BenchWorker, recorder: Recorder, tree: Tree, seconds: float, runs: int) -> None:
    """Run for `seconds`, or `runs` times if that ends sooner (0: no limit), into `recorder`.  Raises BenchWorkerError.

    One block is always requested ahead, so that the process never waits for the bench.
    """
    run_s = warm_up(wait_loop, worker)
    recorder.begun = wait_loop.loop.now()
    blocks = _Blocks(worker, recorder.begun + seconds, min(_BLOCK_S[1], max(_BLOCK_S[0], seconds / _BLOCKS)), runs)
    load = SystemLoad(tree, [worker.pid])
    blocks.ask(wait_loop.loop.now(), run_s)
    while blocks.open:
        blocks.ask(wait_loop.loop.now(), run_s)
        block = worker.block(blocks.block_s)
        blocks.open -= 1
        run_s = block.seconds / len(block.times) if block.times else run_s
        recorder.add(block)
        recorder.observe(wait_loop.loop.now(), worker, load.sample())
        recorder.others = load.others()


class _Blocks:
    """Requests one block after the other, each of about `block_s` seconds, until `end`."""

    def __init__(self, worker: BenchWorker, end: float, block_s: float, runs: int) -> None:
        self._worker, self._end, self.block_s = worker, end, block_s
        self._left = runs or 1 << 62
        self.open = 0  # requested and not read yet

    def ask(self, now: float, run_s: float) -> None:
        """Request one more block, unless time or runs are used up."""
        runs = min(self._left, MOST_RUNS, max(1, int(self.block_s / run_s)))
        if now < self._end and runs:
            self._worker.ask_runs(runs, self._end)
            self._left -= runs
            self.open += 1


_PAIR_BLOCK_S = 0.03  # of one block, where there is time for enough of them
_WANTED = 40  # pairs, or more
_LONGEST_S = 60.0  # for one run
_FEWEST = 6  # pairs, even if they take longer than `seconds`


def compare_ab(
    wait_loop: WaitLoop,
    bench_workers: Sequence[BenchWorker],
    recorders: Sequence[Recorder],
    tree: Tree,
    seconds: float,
    runs: int,
) -> Optional[PairComparison]:
    """Run both in turn, into `recorders`, and return how the second compares with the first.

    While one runs, the other is stopped: threads of its runtime may spin for a while after each run.  The order changes
    from pair to pair (A B, B A), so that a drift counts for neither.  Raises BenchWorkerError.
    """
    for worker in bench_workers:
        worker.pause()
    run_s = max(_alone(worker, lambda: warm_up(wait_loop, worker)) for worker in bench_workers)  # noqa: B023 - at once
    count = max(1, int(min(_PAIR_BLOCK_S, seconds / (2 * _WANTED)) / run_s))
    begun = wait_loop.loop.now()
    for one in recorders:
        one.begun = begun
    load = SystemLoad(tree, [worker.pid for worker in bench_workers])
    pairs: List[Tuple[float, float]] = []
    while _continues(wait_loop.loop.now() - begun, seconds, len(pairs), 0 < runs <= recorders[0].runs):
        order = (0, 1) if len(pairs) % 2 == 0 else (1, 0)
        blocks = {which: _block(wait_loop, bench_workers[which], count, count * run_s) for which in order}
        pairs.append((median(blocks[0].times), median(blocks[1].times)))
        readings, others = load.sample(), load.others()
        for which, block in blocks.items():
            recorders[which].add(block)
            recorders[which].observe(wait_loop.loop.now(), bench_workers[which], readings)
            recorders[which].others = others
    for worker in bench_workers:
        worker.resume()
    return compare_pairs(pairs)


def _continues(passed_s: float, seconds: float, pairs: int, enough: bool) -> bool:
    return pairs < _FEWEST or (passed_s < seconds and not enough)


def _alone(worker: BenchWorker, work: Callable[[], _T]) -> _T:
    """Resume one process (SIGCONT) while `work` runs."""
    worker.resume()
    try:
        return work()
    finally:
        worker.pause()


def _block(wait_loop: WaitLoop, worker: BenchWorker, count: int, expected_s: float) -> Block:
    """Run one block; its first run, with the other release's data in the caches, does not count."""

    def work() -> Block:
        worker.ask_runs(count, wait_loop.loop.now() + 10 * expected_s + _LONGEST_S, skip=1)
        return worker.block(expected_s)

    block = _alone(worker, work)
    if not block.times:
        raise BenchWorkerError([finding("LF408", "No run ended within %.0f s." % (10 * expected_s + _LONGEST_S))])
    return block
