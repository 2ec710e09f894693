"""The workers of one release: they warm up, serve, are replaced when they die, and are retired without a gap."""

import enum
from dataclasses import replace
from typing import Callable, List, NamedTuple, Optional, Sequence, Union

from ...findings import Finding
from ..event_loop import EventLoop, Timer
from ..messages import Job, Rejection, Response, ServedModel
from ..status import WorkerFacts
from .handle import State, WorkerHandle
from .plan import WorkerPlan

_BACKOFF_S = (0.1, 30.0)  # delay before a dead worker is replaced: first, longest
_SHORT_MS = 20.0  # for shorter runs the way to a worker and back matters

Results = Sequence[Union[Response, Rejection]]


class Stage(str, enum.Enum):
    """The stage of a pool."""

    WARMING = "warming"  # no worker has passed the goldens yet
    READY = "ready"
    FAILED = "failed"  # the first worker did not pass; no process is left
    RETIRED = "retired"


class PoolCallbacks(NamedTuple):
    """The calls that a pool makes to its model's service."""

    ready: Callable[["WorkerPool"], None]  # the first worker passed its goldens
    failed: Callable[["WorkerPool", List[Finding]], None]  # the release cannot be served
    worker_free: Callable[["WorkerPool"], None]
    answered: Callable[["WorkerPool", Sequence[Job], Results, float], None]  # a batch, after so many milliseconds
    worker_recycled: Callable[["WorkerPool", Finding], None]  # a worker was replaced because its memory had grown
    # a worker ended (findings) while it ran the first jobs, and had not started the second ones; it will be replaced
    worker_died: Callable[["WorkerPool", List[Finding], Sequence[Job], Sequence[Job]], None]


class WorkerPool:
    """The workers of one release, `count` of them once the first has passed its goldens."""

    def __init__(self, loop: EventLoop, plan: WorkerPlan, count: int, callbacks: PoolCallbacks) -> None:
        self.loop, self.plan, self.count = loop, plan, count
        self.stage = Stage.WARMING
        self.findings: List[Finding] = []
        self.facts: Optional[WorkerFacts] = None  # of the first worker that was ready
        self.model: ServedModel = plan.model
        self.workers: List[WorkerHandle] = []
        self._callbacks = callbacks
        self._retiring: List[WorkerHandle] = []  # stopped, not dead yet
        self._run_ms = _SHORT_MS  # of the latest batch
        self._failed = 0  # workers in a row that ended before their first answer
        self._timer: Optional[Timer] = None  # until the next worker is started
        self._spawn()

    @property
    def release(self) -> str:
        """The release's id."""
        return self.plan.model.release

    @property
    def alive(self) -> bool:
        """Whether any of its processes exists."""
        return any(worker.state is not State.DEAD for worker in self.workers + self._retiring)

    @property
    def restarting(self) -> bool:
        """Whether no worker is loaded but some are loading, and none has failed since the last answer."""
        return not self._failed and all(worker.state not in (State.READY, State.BUSY) for worker in self.workers)

    def idle(self) -> Optional[WorkerHandle]:
        """Return the worker that waits for work and has run least, None when there is none."""
        free = [worker for worker in self.workers if worker.state is State.READY]
        return min(free, key=lambda worker: worker.runs) if len(free) > 1 else free[0] if free else None

    def pipelined(self) -> Optional[WorkerHandle]:
        """Return a busy worker that accepts its next batch already, None when there is none.

        Only a single worker with short runs does: with several, a batch behind a hanging worker would wait needlessly.
        """
        if self._run_ms >= _SHORT_MS or len(self.workers) != 1 or not self.workers[0].accepts_more:
            return None
        return self.workers[0]

    # --- its workers

    def _spawn(self) -> None:
        self.workers.append(WorkerHandle(self.loop, self.plan, self._on_ready, self._on_answer, self._on_end))

    def _fill(self) -> None:
        """Start workers until there are `count`."""
        self._timer = None
        while len(self.workers) < self.count and self.stage is Stage.READY:
            self._spawn()

    def _retire_worker(self, worker: WorkerHandle) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        self._retiring = [one for one in self._retiring if one.state is not State.DEAD and one is not worker] + [worker]
        worker.stop()

    def _on_ready(self, worker: WorkerHandle, facts: WorkerFacts) -> None:
        if self.stage is Stage.WARMING:  # the others start after the first has passed
            self.stage, self.facts = Stage.READY, facts
            self.model = replace(self.plan.model, batches=facts.batches)
            self._fill()
            self._callbacks.ready(self)
        if self.stage is Stage.RETIRED:
            self._retire_worker(worker)
        else:
            self._callbacks.worker_free(self)

    def _on_answer(self, worker: WorkerHandle, jobs: Sequence[Job], results: Results, ms: float) -> None:
        if worker.runs == 1:
            self._failed = 0
        self._run_ms = ms
        if self.stage is Stage.RETIRED:
            self._retire_worker(worker)
        elif worker.recycle_reason is not None and worker in self.workers:  # replaced between two requests
            self._retire_worker(worker)
            self._callbacks.worker_recycled(self, worker.recycle_reason)
            self._fill()
        elif worker in self.workers:
            self._callbacks.worker_free(self)  # before the answers are sent, so that the worker does not idle
        self._callbacks.answered(self, jobs, results, ms)

    def _on_end(self, worker: WorkerHandle, findings: List[Finding], jobs: Sequence[Job]) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        if self.stage is Stage.WARMING:
            self.stage, self.findings = Stage.FAILED, findings
            self._callbacks.failed(self, findings)
            return
        self.findings = findings
        if self.stage is Stage.READY and self._timer is None:
            pause = min(_BACKOFF_S[0] * 2**self._failed, _BACKOFF_S[1])
            self._timer = self.loop.later(pause, self._fill)
        self._failed = 0 if worker.runs else min(self._failed + 1, 16)
        self._callbacks.worker_died(self, findings, jobs, worker.not_started)

    # --- its end

    def retire(self) -> None:
        """Accept no more work, finish the running batches, and end."""
        self.stage = Stage.RETIRED
        if self._timer is not None:
            self._timer.cancel()
        for worker in list(self.workers):
            if worker.state is not State.BUSY:
                self._retire_worker(worker)

    def kill(self, why: Finding) -> None:
        """Kill all workers at once, whatever they run."""
        self.retire()
        for worker in self.workers + self._retiring:
            worker.kill(why)
