"""Starts a release's process again and again: what the first answer costs."""

from typing import Any, Dict, List, Tuple

from .floor import Floor
from .machine import forget_files
from .plan import BenchPlan
from .subject import Subject
from .truth import Truth

__all__ = ["Starts"]

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
