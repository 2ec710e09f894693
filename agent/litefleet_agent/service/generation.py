"""One release of one model with its workers: warms up, serves, replaces workers that die, and is retired without a gap."""

import enum
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Union

from ..findings import Finding
from .loop import Loop, Timer
from .values import Job, Refusal, ServedModel
from .workers import Answer, State, Worker, WorkerPlan

__all__ = ["Generation", "Stage"]

_BACKOFF_S = (0.1, 30.0)  # before a worker that died is replaced: first, longest
_CALM_RUNS = 100  # after which a worker's death counts as a first one again


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
        """A worker has answered a batch."""
        raise NotImplementedError

    def worker_died(self, generation: "Generation", findings: List[Finding], jobs: Sequence[Job]) -> None:
        """A worker ended beside these requests; it will be replaced."""
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
        self.deaths = 0
        self._in_a_row = 0
        self._timers: List[Timer] = []
        self._spawn()

    @property
    def release(self) -> str:
        """Its release's id."""
        return self.plan.model.release

    @property
    def ready(self) -> List[Worker]:
        """The workers that wait for work."""
        return [worker for worker in self.workers if worker.state is State.READY]

    @property
    def busy(self) -> bool:
        """Whether any request is being run."""
        return any(worker.state is State.BUSY for worker in self.workers)

    @property
    def alive(self) -> bool:
        """Whether any of its processes is there."""
        return any(worker.state is not State.DEAD for worker in self.workers)

    def _spawn(self) -> None:
        if self.stage in (Stage.RETIRED, Stage.FAILED) or len(self.workers) >= self.count:
            return
        self.workers.append(Worker(self.loop, self.plan, self._on_ready, self._on_answer, self._on_end))

    def _fill(self) -> None:
        while len(self.workers) < self.count and self.stage is Stage.READY:
            self._spawn()

    def _on_ready(self, worker: Worker, facts: Dict[str, Any]) -> None:
        if self.stage is Stage.WARMING:  # the others start once one has shown that it can be done
            self.stage, self.facts = Stage.READY, facts
            self.model = replace(self.plan.model, batches=bool(facts.get("batches")))
            self._fill()
            self.owner.generation_ready(self)
        if self.stage is Stage.RETIRED:
            worker.stop()
        else:
            self.owner.worker_free(self)

    def _on_answer(
        self, worker: Worker, jobs: Sequence[Job], results: Sequence[Union[Answer, Refusal]], ms: float
    ) -> None:
        if worker.runs >= _CALM_RUNS:
            self._in_a_row = 0
        self.owner.answered(self, jobs, results, ms)
        if self.stage is Stage.RETIRED:
            worker.stop()
        elif worker.worn:  # replaced between two requests
            self.workers.remove(worker)
            worker.stop()
            self._spawn()
        else:
            self.owner.worker_free(self)

    def _on_end(self, worker: Worker, findings: List[Finding], jobs: Sequence[Job]) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
        if self.stage is Stage.WARMING:
            self.stage, self.findings = Stage.FAILED, findings
            self.owner.generation_failed(self, findings)
            return
        if self.stage is Stage.RETIRED and not findings:
            return
        self.deaths += 1
        self.findings = findings
        self.owner.worker_died(self, findings, jobs)
        if self.stage is Stage.READY:
            pause = min(_BACKOFF_S[0] * 2**self._in_a_row, _BACKOFF_S[1])
            self._in_a_row = min(self._in_a_row + 1, 16)
            self._timers.append(self.loop.later(pause, self._spawn))

    def idle(self) -> Optional[Worker]:
        """Return a worker that waits for work, the one that ran least; None when there is none."""
        free = self.ready
        return min(free, key=lambda worker: worker.runs) if free else None

    def retire(self) -> None:
        """Take no more work, finish what is being run, and end."""
        self.stage = Stage.RETIRED
        for timer in self._timers:
            timer.cancel()
        for worker in list(self.workers):
            if worker.state is not State.BUSY:
                worker.stop()
