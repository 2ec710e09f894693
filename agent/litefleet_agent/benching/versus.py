"""Two releases against each other on one device, in short blocks by turns: what disturbs one of them disturbs the other."""

from typing import Any, Dict, List, Sequence, Tuple

from ..facts.tree import Tree
from ..ranks import median
from .floor import Floor
from .machine import Machine
from .pairs import compare_pairs
from .steady import warm_up
from .subject import Block, Subject
from .watched import Watched

__all__ = ["versus"]

_BLOCK_S = 0.03  # of one block, where there is time for enough of them
_WANTED = 40  # pairs, or more
_FEWEST = 6  # pairs, even if it takes longer than it should


def versus(
    floor: Floor, subjects: Sequence[Subject], tree: Tree, seconds: float, runs: int
) -> Tuple[List[Watched], Dict[str, Any]]:
    """Return what was watched of both, and how the second compares with the first (see pairs).  Raises SubjectError.

    One of them runs, the other one is stopped: threads of its runtime may spin for a while after each run.  The order
    changes from pair to pair (A B, B A), so that a drift counts for neither.
    """
    for subject in subjects:
        subject.pause()
    run_s = max(_alone(subject, lambda s=subject: warm_up(floor, s)) for subject in subjects)
    count = max(1, int(min(_BLOCK_S, seconds / (2 * _WANTED)) / run_s))
    begun = floor.loop.now()
    watched = [Watched(begun) for _ in subjects]
    machine = Machine(tree, [subject.pid for subject in subjects])
    pairs: List[Tuple[float, float]] = []
    while _goes_on(floor.loop.now() - begun, seconds, len(pairs), runs and watched[0].runs >= runs):
        order = (0, 1) if len(pairs) % 2 == 0 else (1, 0)
        blocks = {which: _block(floor, subjects[which], count, count * run_s) for which in order}
        pairs.append((median(blocks[0].times), median(blocks[1].times)))
        seen = machine.look()
        for which, block in blocks.items():
            watched[which].take(block)
            watched[which].see(floor.loop.now(), subjects[which], seen)
    for number, subject in enumerate(subjects):
        watched[number].others = machine.others()
        subject.resume()
    return watched, compare_pairs(pairs)


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
        subject.ask_runs(count, floor.loop.now() + 10 * expected_s + 60.0, skip=1)
        return subject.block(expected_s)

    block: Block = _alone(subject, work)
    return block
