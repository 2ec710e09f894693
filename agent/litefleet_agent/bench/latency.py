"""Starts a release's process again and again: what the first answer costs."""

from typing import Any, Dict, List, Sequence, Tuple

from ..facts.tree import Tree
from ..findings import finding
from ..verification.golden_cases import median
from .golden_check import Truth
from .plan import BenchPlan
from .recorder import Watched
from .statistics import compare_pairs
from .system_load import Machine, forget_files
from .worker_handle import Block, Floor, Subject, SubjectError
from .worker_main import MOST_RUNS

__all__ = ["Starts", "steady", "versus", "warm_up"]


_SHARE = 0.3  # of the time of a bench, for further starts
_MOST = 4


class Starts:
    """The cold starts of one release: the first from storage, as far as the kernel lets go of the files."""

    def __init__(self, floor: Floor, truth: Truth, plan: BenchPlan) -> None:
        self._floor, self._truth, self._plan = floor, truth, plan
        self.told: List[Dict[str, Any]] = []

    def start(self) -> Subject:
        """Return a process that has run for the first time.  Raises SubjectError."""
        plan = self._truth.plan
        if not self.told:
            forget_files([plan.nb] + ([plan.runtime] if plan.runtime else []))
        subject = Subject(self._floor, plan, self._plan.threads[0], self._plan.low_priority)
        told = subject.started()
        told["process_ms"] = round((told["begun"] - subject.begun) * 1e3, 3)
        told["total_ms"] = round(sum(told[part] for part in _PARTS), 3)
        self.told.append(told)
        return subject

    @property
    def further(self) -> int:
        """How many more starts there is time for, at least one."""
        took_s = max(self.told[-1]["total_ms"] / 1e3, 0.001)
        return max(1, min(_MOST, int(_SHARE * min(self._plan.seconds, 60.0) / took_s)))

    def figures(self) -> Dict[str, Any]:
        """Return {first, again}: {total_ms, process_ms, import_ms, load_ms, first_run_ms, read_bytes} of each start."""
        starts = [{name: told[name] for name in _KEPT} for told in self.told]
        return {"first": starts[0], "again": starts[1:]} if starts else {}


_PARTS: Tuple[str, ...] = ("process_ms", "import_ms", "load_ms", "first_run_ms")
_KEPT = ("total_ms",) + _PARTS + ("read_bytes",)


_WARM_RUNS, _WARM_S = 10, 0.5
_BLOCK_S = (0.1, 1.0)
_BLOCKS = 60  # or more, of the whole time


def warm_up(floor: Floor, subject: Subject) -> float:
    """Run a few times, which do not count, and return about how long a run takes, in seconds."""
    subject.ask_runs(_WARM_RUNS, floor.loop.now() + _WARM_S)
    block = subject.block(_WARM_S)
    return max(median(block.whole) / 1e3, 1e-6) if block.whole else _WARM_S


def steady(floor: Floor, subject: Subject, watched: Watched, tree: Tree, seconds: float, runs: int) -> None:
    """Run for `seconds`, or `runs` times if that ends sooner (0: no limit), and fill `watched`.  Raises SubjectError.

    One block is always asked for ahead, so that the process never waits for us.
    """
    run_s = warm_up(floor, subject)
    watched.begun = floor.loop.now()
    blocks = _Blocks(subject, watched.begun + seconds, min(_BLOCK_S[1], max(_BLOCK_S[0], seconds / _BLOCKS)), runs)
    machine = Machine(tree, [subject.pid])
    blocks.ask(floor.loop.now(), run_s)
    while blocks.open:
        blocks.ask(floor.loop.now(), run_s)
        block = subject.block(blocks.block_s)
        blocks.open -= 1
        run_s = block.seconds / len(block.times) if block.times else run_s
        watched.take(block)
        watched.see(floor.loop.now(), subject, machine.look())
        watched.others = machine.others()


class _Blocks:
    """Asks for one block after the other, each of about `block_s` seconds, until `end`."""

    def __init__(self, subject: Subject, end: float, block_s: float, runs: int) -> None:
        self._subject, self._end, self.block_s = subject, end, block_s
        self._left = runs or 1 << 62
        self.open = 0  # asked for and not yet read

    def ask(self, now: float, run_s: float) -> None:
        """Ask for one more, if there is to be one."""
        runs = min(self._left, MOST_RUNS, max(1, int(self.block_s / run_s)))
        if now < self._end and runs:
            self._subject.ask_runs(runs, self._end)
            self._left -= runs
            self.open += 1


_PAIR_BLOCK_S = 0.03  # of one block, where there is time for enough of them
_WANTED = 40  # pairs, or more
_LONGEST_S = 60.0  # that one run may take
_FEWEST = 6  # pairs, even if it takes longer than it should


def versus(
    floor: Floor, subjects: Sequence[Subject], watched: Sequence[Watched], tree: Tree, seconds: float, runs: int
) -> Dict[str, Any]:
    """Run both by turns, fill `watched`, and return how the second compares with the first (see pairs).

    One of them runs, the other one is stopped: threads of its runtime may spin for a while after each run.  The order
    changes from pair to pair (A B, B A), so that a drift counts for neither.  Raises SubjectError.
    """
    for subject in subjects:
        subject.pause()
    run_s = max(_alone(subject, lambda s=subject: warm_up(floor, s)) for subject in subjects)
    count = max(1, int(min(_PAIR_BLOCK_S, seconds / (2 * _WANTED)) / run_s))
    begun = floor.loop.now()
    for one in watched:
        one.begun = begun
    machine = Machine(tree, [subject.pid for subject in subjects])
    pairs: List[Tuple[float, float]] = []
    while _goes_on(floor.loop.now() - begun, seconds, len(pairs), runs and watched[0].runs >= runs):
        order = (0, 1) if len(pairs) % 2 == 0 else (1, 0)
        blocks = {which: _block(floor, subjects[which], count, count * run_s) for which in order}
        pairs.append((median(blocks[0].times), median(blocks[1].times)))
        seen, others = machine.look(), machine.others()
        for which, block in blocks.items():
            watched[which].take(block)
            watched[which].see(floor.loop.now(), subjects[which], seen)
            watched[which].others = others
    for subject in subjects:
        subject.resume()
    return compare_pairs(pairs)


def _goes_on(passed_s: float, seconds: float, pairs: int, enough: Any) -> bool:
    return pairs < _FEWEST or (passed_s < seconds and not enough)


def _alone(subject: Subject, work: Any) -> Any:
    """Let one process go on for as long as `work` takes."""
    subject.resume()
    try:
        return work()
    finally:
        subject.pause()


def _block(floor: Floor, subject: Subject, count: int, expected_s: float) -> Block:
    """Run one block; its first run, which finds the caches full of the other release, does not count."""

    def work() -> Block:
        subject.ask_runs(count, floor.loop.now() + 10 * expected_s + _LONGEST_S, skip=1)
        return subject.block(expected_s)

    block: Block = _alone(subject, work)
    if not block.times:
        raise SubjectError([finding("LF408", "No run ended within %.0f s." % (10 * expected_s + _LONGEST_S))])
    return block
