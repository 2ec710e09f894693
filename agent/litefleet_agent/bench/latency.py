"""Starts a release's process again and again: what the first answer costs."""

from typing import Any, Dict, List, Sequence, Tuple

from ..facts.tree import Tree
from ..findings import finding
from ..verification.golden_cases import median
from .golden_check import GoldenCheck
from .plan import BenchOptions
from .recorder import Recorder
from .statistics import compare_pairs
from .system_load import SystemLoad, forget_files
from .worker_handle import BenchWorker, BenchWorkerError, Block, WaitLoop
from .worker_main import MOST_RUNS

__all__ = ["ColdStarts", "compare_ab", "steady", "warm_up"]


_SHARE = 0.3  # of the time of a bench, for further starts
_MOST = 4


class ColdStarts:
    """The cold starts of one release: the first from storage, as far as the kernel lets go of the files."""

    def __init__(self, wait_loop: WaitLoop, golden_check: GoldenCheck, options: BenchOptions) -> None:
        self._wait_loop, self._golden_check, self._options = wait_loop, golden_check, options
        self.records: List[Dict[str, Any]] = []

    def start(self) -> BenchWorker:
        """Return a process that has run for the first time.  Raises SubjectError."""
        plan = self._golden_check.plan
        if not self.records:
            forget_files([plan.nb] + ([plan.runtime] if plan.runtime else []))
        worker = BenchWorker(self._wait_loop, plan, self._options.threads[0], self._options.low_priority)
        record = worker.started()
        record["process_ms"] = round((record["begun"] - worker.begun) * 1e3, 3)
        record["total_ms"] = round(sum(record[part] for part in _PARTS), 3)
        self.records.append(record)
        return worker

    @property
    def further(self) -> int:
        """How many more starts there is time for, at least one."""
        took_s = max(self.records[-1]["total_ms"] / 1e3, 0.001)
        return max(1, min(_MOST, int(_SHARE * min(self._options.seconds, 60.0) / took_s)))

    def statistics(self) -> Dict[str, Any]:
        """Return {first, again}: {total_ms, process_ms, import_ms, load_ms, first_run_ms, read_bytes} of each start."""
        starts = [{name: record[name] for name in _KEPT} for record in self.records]
        return {"first": starts[0], "again": starts[1:]} if starts else {}


_PARTS: Tuple[str, ...] = ("process_ms", "import_ms", "load_ms", "first_run_ms")
_KEPT = ("total_ms",) + _PARTS + ("read_bytes",)


_WARM_RUNS, _WARM_S = 10, 0.5
_BLOCK_S = (0.1, 1.0)
_BLOCKS = 60  # or more, of the whole time


def warm_up(wait_loop: WaitLoop, worker: BenchWorker) -> float:
    """Run a few times, which do not count, and return about how long a run takes, in seconds."""
    worker.ask_runs(_WARM_RUNS, wait_loop.loop.now() + _WARM_S)
    block = worker.block(_WARM_S)
    return max(median(block.whole) / 1e3, 1e-6) if block.whole else _WARM_S


def steady(wait_loop: WaitLoop, worker: BenchWorker, recorder: Recorder, tree: Tree, seconds: float, runs: int) -> None:
    """Run for `seconds`, or `runs` times if that ends sooner (0: no limit), and fill `watched`.  Raises SubjectError.

    One block is always asked for ahead, so that the process never waits for us.
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
    """Asks for one block after the other, each of about `block_s` seconds, until `end`."""

    def __init__(self, worker: BenchWorker, end: float, block_s: float, runs: int) -> None:
        self._worker, self._end, self.block_s = worker, end, block_s
        self._left = runs or 1 << 62
        self.open = 0  # asked for and not yet read

    def ask(self, now: float, run_s: float) -> None:
        """Ask for one more, if there is to be one."""
        runs = min(self._left, MOST_RUNS, max(1, int(self.block_s / run_s)))
        if now < self._end and runs:
            self._worker.ask_runs(runs, self._end)
            self._left -= runs
            self.open += 1


_PAIR_BLOCK_S = 0.03  # of one block, where there is time for enough of them
_WANTED = 40  # pairs, or more
_LONGEST_S = 60.0  # that one run may take
_FEWEST = 6  # pairs, even if it takes longer than it should


def compare_ab(
    wait_loop: WaitLoop,
    bench_workers: Sequence[BenchWorker],
    recorders: Sequence[Recorder],
    tree: Tree,
    seconds: float,
    runs: int,
) -> Dict[str, Any]:
    """Run both by turns, fill `watched`, and return how the second compares with the first (see pairs).

    One of them runs, the other one is stopped: threads of its runtime may spin for a while after each run.  The order
    changes from pair to pair (A B, B A), so that a drift counts for neither.  Raises SubjectError.
    """
    for worker in bench_workers:
        worker.pause()
    run_s = max(_alone(worker, lambda s=worker: warm_up(wait_loop, s)) for worker in bench_workers)
    count = max(1, int(min(_PAIR_BLOCK_S, seconds / (2 * _WANTED)) / run_s))
    begun = wait_loop.loop.now()
    for one in recorders:
        one.begun = begun
    load = SystemLoad(tree, [worker.pid for worker in bench_workers])
    pairs: List[Tuple[float, float]] = []
    while _continues(wait_loop.loop.now() - begun, seconds, len(pairs), runs and recorders[0].runs >= runs):
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


def _continues(passed_s: float, seconds: float, pairs: int, enough: Any) -> bool:
    return pairs < _FEWEST or (passed_s < seconds and not enough)


def _alone(worker: BenchWorker, work: Any) -> Any:
    """Let one process go on for as long as `work` takes."""
    worker.resume()
    try:
        return work()
    finally:
        worker.pause()


def _block(wait_loop: WaitLoop, worker: BenchWorker, count: int, expected_s: float) -> Block:
    """Run one block; its first run, which finds the caches full of the other release, does not count."""

    def work() -> Block:
        worker.ask_runs(count, wait_loop.loop.now() + 10 * expected_s + _LONGEST_S, skip=1)
        return worker.block(expected_s)

    block: Block = _alone(worker, work)
    if not block.times:
        raise BenchWorkerError([finding("LF408", "No run ended within %.0f s." % (10 * expected_s + _LONGEST_S))])
    return block
