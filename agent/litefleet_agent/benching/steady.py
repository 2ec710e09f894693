"""One process that runs without a break: latency percentiles, and how latency and memory change over time."""

from ..facts.tree import Tree
from ..ranks import median
from .floor import Floor
from .machine import Machine
from .measured import MOST_RUNS
from .subject import Subject
from .watched import Watched

__all__ = ["steady", "warm_up"]

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
