"""One release of one model with its workers: warms up, serves, replaces workers that die, and is retired without a gap."""

import enum
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Union

from ...findings import Finding
from ..event_loop import EventLoop, Timer
from ..messages import Job, Rejection, ServedModel
from .handle import Response, State, WorkerHandle, WorkerPlan

__all__ = ["PoolObserver", "Stage", "WorkerPool"]

_BACKOFF_S = (0.1, 30.0)  # before a worker that died is replaced: first, longest
_SHORT_MS = 20.0  # runs beside which the way to a worker and back counts


class Stage(str, enum.Enum):
    """How far a generation is."""

    WARMING = "warming"  # no worker has passed the goldens yet
    READY = "ready"
    FAILED = "failed"  # the first worker to load it did not pass; nothing of it runs any more
    RETIRED = "retired"


class PoolObserver:
    """Whom a generation tells what happens; the model's service."""

    def pool_ready(self, pool: "WorkerPool") -> None:
        """The first worker passed its goldens."""
        raise NotImplementedError

    def pool_failed(self, pool: "WorkerPool", findings: List[Finding]) -> None:
        """The release can't be served."""
        raise NotImplementedError

    def worker_free(self, pool: "WorkerPool") -> None:
        """A worker waits for work."""
        raise NotImplementedError

    def answered(
        self, pool: "WorkerPool", jobs: Sequence[Job], results: Sequence[Union[Response, Rejection]], ms: float
    ) -> None:
        """A worker has answered a batch; it may have been given the next one by now."""
        raise NotImplementedError

    def worker_recycled(self, pool: "WorkerPool", why: Finding) -> None:
        """A worker has grown too large; another one takes its place."""
        raise NotImplementedError

    def worker_died(
        self, pool: "WorkerPool", findings: List[Finding], jobs: Sequence[Job], not_started: Sequence[Job]
    ) -> None:
        """A worker ended while it ran `jobs`, and had not begun others that it was given; it will be replaced."""
        raise NotImplementedError


class WorkerPool:
    """The workers of one release."""

    def __init__(self, loop: EventLoop, plan: WorkerPlan, count: int, observer: PoolObserver) -> None:
        self.loop, self.plan, self.count, self.observer = loop, plan, count, observer
        self.stage = Stage.WARMING
        self.findings: List[Finding] = []
        self.facts: Dict[str, Any] = {}  # what the first ready worker told: load_ms, runtime_version, golden, ...
        self.model: ServedModel = plan.model
        self.workers: List[WorkerHandle] = []
        self._retiring: List[WorkerHandle] = []  # were told to end, and are not dead yet
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
        return any(worker.state is not State.DEAD for worker in self.workers + self._retiring)

    @property
    def restarting(self) -> bool:
        """Whether no worker is loaded, and those that are being started may well be: none has failed to yet."""
        return not self._failed and all(worker.state not in (State.READY, State.BUSY) for worker in self.workers)

    def idle(self) -> Optional[WorkerHandle]:
        """Return a worker that waits for work, the one that ran least; None when there is none."""
        free = [worker for worker in self.workers if worker.state is State.READY]
        return min(free, key=lambda worker: worker.runs) if len(free) > 1 else free[0] if free else None

    def pipelined(self) -> Optional[WorkerHandle]:
        """Return a worker that can be given its next work already, where runs are short; None when there is none.

        Only where it is alone: what is given to one of several would wait for it even if it hangs.
        """
        if self._run_ms >= _SHORT_MS or len(self.workers) != 1 or not self.workers[0].accepts_more:
            return None
        return self.workers[0]

    # --- its workers

    def _spawn(self) -> None:
        self.workers.append(WorkerHandle(self.loop, self.plan, self._on_ready, self._on_answer, self._on_end))

    def _fill(self) -> None:
        """Have as many workers as there are to be."""
        self._timer = None
        while len(self.workers) < self.count and self.stage is Stage.READY:
            self._spawn()

    def _retire_worker(self, worker: WorkerHandle) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        self._retiring = [one for one in self._retiring if one.state is not State.DEAD and one is not worker] + [worker]
        worker.stop()

    def _on_ready(self, worker: WorkerHandle, facts: Dict[str, Any]) -> None:
        if self.stage is Stage.WARMING:  # the others start once one has shown that it can be done
            self.stage, self.facts = Stage.READY, facts
            self.model = replace(self.plan.model, batches=bool(facts.get("batches")))
            self._fill()
            self.observer.pool_ready(self)
        if self.stage is Stage.RETIRED:
            self._retire_worker(worker)
        else:
            self.observer.worker_free(self)

    def _on_answer(
        self, worker: WorkerHandle, jobs: Sequence[Job], results: Sequence[Union[Response, Rejection]], ms: float
    ) -> None:
        if worker.runs == 1:
            self._failed = 0
        self._run_ms = ms
        if self.stage is Stage.RETIRED:
            self._retire_worker(worker)
        elif worker.recycle_reason is not None and worker in self.workers:  # replaced between two requests
            self._retire_worker(worker)
            self.observer.worker_recycled(self, worker.recycle_reason)
            self._fill()
        elif worker in self.workers:
            self.observer.worker_free(self)  # before the answers go out: the worker need not wait for that
        self.observer.answered(self, jobs, results, ms)

    def _on_end(self, worker: WorkerHandle, findings: List[Finding], jobs: Sequence[Job]) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        if self.stage is Stage.WARMING:
            self.stage, self.findings = Stage.FAILED, findings
            self.observer.pool_failed(self, findings)
            return
        self.findings = findings
        if self.stage is Stage.READY and self._timer is None:
            pause = min(_BACKOFF_S[0] * 2**self._failed, _BACKOFF_S[1])
            self._timer = self.loop.later(pause, self._fill)
        self._failed = 0 if worker.runs else min(self._failed + 1, 16)
        self.observer.worker_died(self, findings, jobs, worker.not_started)

    # --- its end

    def retire(self) -> None:
        """Take no more work, finish what is being run, and end."""
        self.stage = Stage.RETIRED
        if self._timer is not None:
            self._timer.cancel()
        for worker in list(self.workers):
            if worker.state is not State.BUSY:
                self._retire_worker(worker)

    def kill(self, why: Finding) -> None:
        """End all at once, whatever they run."""
        self.retire()
        for worker in self.workers + self._retiring:
            worker.kill(why)
