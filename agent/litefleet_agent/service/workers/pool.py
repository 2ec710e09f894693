"""One release of one model with its workers: warms up, serves, replaces workers that die, and is retired without a gap."""

import enum
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Union

from ...findings import Finding
from ..event_loop import Loop, Timer
from ..messages import Job, Refusal, ServedModel
from .handle import Answer, State, Worker, WorkerPlan

__all__ = ["Generation", "Owner", "Stage"]

_BACKOFF_S = (0.1, 30.0)  # before a worker that died is replaced: first, longest
_SHORT_MS = 20.0  # runs beside which the way to a worker and back counts


class Stage(str, enum.Enum):
    """How far a generation is."""

    WARMING = "warming"  # no worker has passed the goldens yet
    READY = "ready"
    FAILED = "failed"  # the first worker to load it did not pass; nothing of it runs any more
    RETIRED = "retired"


class Owner:
    """Whom a generation tells what happens; the model's service."""

    def generation_ready(self, generation: "Generation") -> None:
        """The first worker passed its goldens."""
        raise NotImplementedError

    def generation_failed(self, generation: "Generation", findings: List[Finding]) -> None:
        """The release can't be served."""
        raise NotImplementedError

    def worker_free(self, generation: "Generation") -> None:
        """A worker waits for work."""
        raise NotImplementedError

    def answered(
        self, generation: "Generation", jobs: Sequence[Job], results: Sequence[Union[Answer, Refusal]], ms: float
    ) -> None:
        """A worker has answered a batch; it may have been given the next one by now."""
        raise NotImplementedError

    def worker_worn(self, generation: "Generation", why: Finding) -> None:
        """A worker has grown too large; another one takes its place."""
        raise NotImplementedError

    def worker_died(
        self, generation: "Generation", findings: List[Finding], jobs: Sequence[Job], unbegun: Sequence[Job]
    ) -> None:
        """A worker ended while it ran `jobs`, and had not begun others that it was given; it will be replaced."""
        raise NotImplementedError


class Generation:
    """The workers of one release."""

    def __init__(self, loop: Loop, plan: WorkerPlan, count: int, owner: Owner) -> None:
        self.loop, self.plan, self.count, self.owner = loop, plan, count, owner
        self.stage = Stage.WARMING
        self.findings: List[Finding] = []
        self.facts: Dict[str, Any] = {}  # what the first ready worker told: load_ms, runtime_version, golden, ...
        self.model: ServedModel = plan.model
        self.workers: List[Worker] = []
        self._leaving: List[Worker] = []  # were told to end, and are not dead yet
        self._run_ms = _SHORT_MS  # of the latest batch
        self._failed = 0  # workers in a row that ended before their first answer
        self._timer: Optional[Timer] = None  # until the next worker is started
        self._spawn()

    @property
    def release(self) -> str:
        """Its release's id."""
        return self.plan.model.release

    @property
    def alive(self) -> bool:
        """Whether any of its processes is there."""
        return any(worker.state is not State.DEAD for worker in self.workers + self._leaving)

    @property
    def renewing(self) -> bool:
        """Whether no worker is loaded, and those that are being started may well be: none has failed to yet."""
        return not self._failed and all(worker.state not in (State.READY, State.BUSY) for worker in self.workers)

    def idle(self) -> Optional[Worker]:
        """Return a worker that waits for work, the one that ran least; None when there is none."""
        free = [worker for worker in self.workers if worker.state is State.READY]
        return min(free, key=lambda worker: worker.runs) if len(free) > 1 else free[0] if free else None

    def ahead(self) -> Optional[Worker]:
        """Return a worker that can be given its next work already, where runs are short; None when there is none.

        Only where it is alone: what is given to one of several would wait for it even if it hangs.
        """
        if self._run_ms >= _SHORT_MS or len(self.workers) != 1 or not self.workers[0].takes_more:
            return None
        return self.workers[0]

    # --- its workers

    def _spawn(self) -> None:
        self.workers.append(Worker(self.loop, self.plan, self._on_ready, self._on_answer, self._on_end))

    def _fill(self) -> None:
        """Have as many workers as there are to be."""
        self._timer = None
        while len(self.workers) < self.count and self.stage is Stage.READY:
            self._spawn()

    def _dismiss(self, worker: Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        self._leaving = [one for one in self._leaving if one.state is not State.DEAD and one is not worker] + [worker]
        worker.stop()

    def _on_ready(self, worker: Worker, facts: Dict[str, Any]) -> None:
        if self.stage is Stage.WARMING:  # the others start once one has shown that it can be done
            self.stage, self.facts = Stage.READY, facts
            self.model = replace(self.plan.model, batches=bool(facts.get("batches")))
            self._fill()
            self.owner.generation_ready(self)
        if self.stage is Stage.RETIRED:
            self._dismiss(worker)
        else:
            self.owner.worker_free(self)

    def _on_answer(
        self, worker: Worker, jobs: Sequence[Job], results: Sequence[Union[Answer, Refusal]], ms: float
    ) -> None:
        if worker.runs == 1:
            self._failed = 0
        self._run_ms = ms
        if self.stage is Stage.RETIRED:
            self._dismiss(worker)
        elif worker.worn is not None and worker in self.workers:  # replaced between two requests
            self._dismiss(worker)
            self.owner.worker_worn(self, worker.worn)
            self._fill()
        elif worker in self.workers:
            self.owner.worker_free(self)  # before the answers go out: the worker need not wait for that
        self.owner.answered(self, jobs, results, ms)

    def _on_end(self, worker: Worker, findings: List[Finding], jobs: Sequence[Job]) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        if self.stage is Stage.WARMING:
            self.stage, self.findings = Stage.FAILED, findings
            self.owner.generation_failed(self, findings)
            return
        self.findings = findings
        if self.stage is Stage.READY and self._timer is None:
            pause = min(_BACKOFF_S[0] * 2**self._failed, _BACKOFF_S[1])
            self._timer = self.loop.later(pause, self._fill)
        self._failed = 0 if worker.runs else min(self._failed + 1, 16)
        self.owner.worker_died(self, findings, jobs, worker.unbegun)

    # --- its end

    def retire(self) -> None:
        """Take no more work, finish what is being run, and end."""
        self.stage = Stage.RETIRED
        if self._timer is not None:
            self._timer.cancel()
        for worker in list(self.workers):
            if worker.state is not State.BUSY:
                self._dismiss(worker)

    def kill(self, why: Finding) -> None:
        """End all at once, whatever they run."""
        self.retire()
        for worker in self.workers + self._leaving:
            worker.kill(why)
