"""How much memory a worker holds: looked at while it works, and weighed after its runs."""

from typing import Callable, Optional

from ..findings import Finding, finding
from .loop import Loop
from .plan import WorkerPlan

__all__ = ["Scales"]

_HARD = 1.25  # times the memory limit, at which a worker is ended at once
_BASE_RUN = 100  # after which growth is measured
_WEIGH_RUNS = 10  # growth is slow
_LOOK_S = 0.2


class Scales:
    """Weighs one worker: `resident()` bytes, for as long as `working()`; `too_heavy(why)` when it has to be ended at once."""

    def __init__(
        self,
        loop: Loop,
        plan: WorkerPlan,
        resident: Callable[[], int],
        working: Callable[[], bool],
        too_heavy: Callable[[Finding], None],
    ) -> None:
        self._loop, self._resident, self._working, self._too_heavy = loop, resident, working, too_heavy
        self._name, self._limit, self._growth = plan.model.name, plan.memory_limit_bytes, plan.growth_limit_bytes
        self._base = 0
        self._looks = False

    def watch(self) -> None:
        """Look at a working worker again and again: what it allocates it may take from the whole device."""
        if self._limit and not self._looks:
            self._looks = True
            self._loop.later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looks = False
        if self._working():
            held = self._resident()
            if held > self._limit * _HARD:
                self._too_heavy(self._over(held))
            self.watch()

    def _over(self, held: int) -> Finding:
        said = "The worker of %s held %d MiB; its limit is %d MiB." % (self._name, held >> 20, self._limit >> 20)
        return finding("LF411", said)

    def too_large(self) -> Optional[Finding]:
        """Return why it holds too much now; None when it does not."""
        held = self._resident() if self._limit else 0
        return self._over(held) if held > self._limit else None

    def weigh(self, runs: int) -> Optional[Finding]:
        """Return why it is to be replaced after so many runs; None when it is not."""
        over = self.too_large()
        if over is not None or runs % _WEIGH_RUNS:
            return over
        held = self._resident()
        if runs == _BASE_RUN:
            self._base = held
        if not self._base or held - self._base <= self._growth:
            return None
        said = "The worker of %s grew from %d to %d MiB between its run %d and its run %d."
        return finding("LF419", said % (self._name, self._base >> 20, held >> 20, _BASE_RUN, runs))
