"""Two releases against each other on one device, in short blocks by turns: what disturbs one of them disturbs the other."""

from typing import Any, Dict, List, Sequence, Tuple

from ..facts.tree import Tree
from ..findings import finding
from ..ranks import median
from .floor import Floor
from .machine import Machine
from .pairs import compare_pairs
from .steady import warm_up
from .subject import Block, Subject, SubjectError
from .watched import Watched

__all__ = ["versus"]

_BLOCK_S = 0.03  # of one block, where there is time for enough of them
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
    count = max(1, int(min(_BLOCK_S, seconds / (2 * _WANTED)) / run_s))
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
