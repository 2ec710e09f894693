"""A worker process as the daemon sees it: started, given one batch at a time, watched, ended.  Never waits."""

import enum
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from ...findings import Finding, finding
from ...protocol import ProtocolError, encode
from ...verification.child_process import decode
from ..event_loop import Deadline, Loop
from ..framing import Channel
from ..messages import (
    MAX_ANSWER,
    Answer,
    Job,
    Refusal,
    Told,
    body_size,
    facts_of,
    findings_of,
    number,
    results_of,
    tensors_to,
    told_of,
)
from .plan import WorkerPlan, plan_of
from .process import Process

__all__ = ["Answer", "Scales", "State", "Worker", "WorkerPlan", "plan_of"]


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


_PATIENCE_S = 1.0  # for a worker that was told to end
_GRACE_S = 0.5  # for one whose socket closed, so that its own end is seen rather than ours
_POLL_S = 0.01


class State(str, enum.Enum):
    """What a worker is at."""

    STARTING = "starting"  # loads, and runs its goldens
    READY = "ready"
    BUSY = "busy"
    ENDING = "ending"  # told to end, or found dead; not reaped yet
    DEAD = "dead"


OnReady = Callable[["Worker", Dict[str, Any]], None]
OnAnswer = Callable[["Worker", List[Job], List[Union[Answer, Refusal]], float], None]
OnEnd = Callable[["Worker", List[Finding], List[Job]], None]
OnProbe = Callable[[bool, List[Finding], float], None]


@dataclass(frozen=True)
class _Task:
    """What a worker was asked."""

    number: int
    jobs: List[Job]
    limit_s: float
    stage: str
    on_probe: Optional[OnProbe] = None


class Worker:
    """One worker.  Callbacks come from the loop, never from within a call.

    `on_ready(worker, facts)` once it passed its goldens; `on_answer(worker, jobs, results, ms)` after each batch, and without
    jobs after each probe: it may be given work from within that call; `on_end(worker, findings, jobs in flight)` once it is
    dead and reaped, unless it was stopped between two batches; `unbegun` holds what it had been given and did not begin.
    """

    def __init__(self, loop: Loop, plan: WorkerPlan, on_ready: OnReady, on_answer: OnAnswer, on_end: OnEnd) -> None:
        self.plan = plan
        self.state = State.STARTING
        self.runs = 0
        self.loads = 1  # of the model: anew for other input sizes
        self.worn: Optional[Finding] = None  # it has grown too large: to be replaced between two requests
        self.unbegun: List[Job] = []
        self._loop = loop
        self._on_ready, self._on_answer, self._on_end = on_ready, on_answer, on_end
        self._now: Optional[_Task] = None
        self._next: Optional[_Task] = None  # already in its socket: it need not wait for it
        self._told: List[Told] = []  # what the answer that comes announces
        self._number = 0
        self._stage = "starting"
        self._why: List[Finding] = []
        self._stop_wanted = self._quiet = False
        self._limit = Deadline(loop, self._too_late)
        self._scales = Scales(loop, plan, self.rss_bytes, self._works, self.kill)
        self._process: Optional[Process] = None
        self._channel: Optional[Channel] = None
        self._start()

    # --- its life

    def _start(self) -> None:
        try:
            self._process = Process(self._loop, self.plan)
        except OSError as error:
            seen = "A worker of %s can't be started: %s." % (self.plan.model.name, error.strerror or error)
            self._why = [finding("LF900", seen)]
            self.state = State.ENDING
            self._loop.later(0.0, lambda: self._dead([]))
            return
        self._channel = Channel(self._loop, self._process.socket, self._screen, self._frame, self._gone)
        self._channel.send([encode(_load_frame(self.plan))])
        self._limit.set(self.plan.start_limit_s)
        self._scales.watch()

    @property
    def pid(self) -> int:
        """Its process; 0 when it could not be started."""
        return self._process.pid if self._process is not None else 0

    @property
    def stderr_tail(self) -> str:
        """The last of what it printed, to either stream."""
        return self._process.tail if self._process is not None else ""

    def rss_bytes(self) -> int:
        """Return its resident memory, 0 when it is dead."""
        alive = self._process is not None and self.state is not State.DEAD
        return self._process.rss_bytes() if alive and self._process is not None else 0

    def stop(self) -> None:
        """Let it end, after what it runs now; it is ended if it does not within a moment."""
        if self.state in (State.ENDING, State.DEAD):
            return
        if self.state is State.BUSY:
            self._stop_wanted = True
            return
        self._quiet = True
        self._end_phase()
        if self._channel is not None:
            self._channel.finish()
        self._loop.later(_PATIENCE_S, self._end_now)

    def kill(self, why: Finding) -> None:
        """End it at once; `why` is what `on_end` will tell, unless it was stopped before."""
        if self.state is State.DEAD or self._why:
            return
        if not self._quiet:
            self._why = [why]
        self._end_phase()
        self._end_now()

    def _works(self) -> bool:
        return self.state in (State.STARTING, State.BUSY)

    def _end_phase(self) -> None:
        self._limit.clear()
        if self._now is None or not self._now.jobs:  # one with jobs stays busy until they are given back
            self.state = State.ENDING

    def _end_now(self) -> None:
        if self.state is not State.DEAD and self._process is not None:
            self._process.kill()

    def _gone(self, why: str) -> None:
        """The socket closed, or held what is no frame."""
        if why:
            self._misbehaved(why)
        else:
            self._end_phase()
        self._await_end(self._loop.now() + _GRACE_S)

    def _misbehaved(self, why: str) -> None:
        self.kill(finding("LF900", "The worker of %s sent what can't be read: %s." % (self.plan.model.name, why)))

    def _await_end(self, until: float) -> None:
        process = self._process
        if process is None:
            return
        if process.ended:
            self._reaped(process)
            return
        if self._loop.now() >= until:
            process.kill()
        self._loop.later(_POLL_S, lambda: self._await_end(until))

    def _reaped(self, process: Process) -> None:
        result = process.reap()
        what = "The worker of %s, while %s," % (self.plan.model.name, self._stage)
        early = [finding("LF900", "%s ended early with exit code 0." % what)]
        self._dead([] if self._quiet else decode(result, what) or early)

    def _dead(self, findings: List[Finding]) -> None:
        self.state = State.DEAD
        if self._channel is not None:
            self._channel.close()
        jobs = self._now.jobs if self._now is not None else []
        self.unbegun = self._next.jobs if self._next is not None else []
        self._now = self._next = None
        if not self._quiet:
            self._on_end(self, self._why or findings, jobs)

    def _too_late(self, seconds: float) -> None:
        seen = "The worker of %s was still %s after %.3g s." % (self.plan.model.name, self._stage, seconds)
        self.kill(finding("LF408", seen))

    # --- what it is asked

    @property
    def takes_more(self) -> bool:
        """Whether it may be given its next batch while it runs one."""
        busy = self.state is State.BUSY and self._now is not None and self._now.on_probe is None
        return busy and self._next is None and not (self._stop_wanted or self.worn or self._why)

    def run(self, jobs: Sequence[Job], limit_s: float) -> None:
        """Have one batch run, now or after the one that it runs; it is ended if one takes longer than its `limit_s`.

        Raises RuntimeError unless it is READY or `takes_more`.
        """
        if self.state is not State.READY and not self.takes_more:
            raise RuntimeError("the worker is %s" % self.state.value)
        frame = {"op": "run", "requests": [{"inputs": tensors_to(job.inputs)} for job in jobs]}
        self._ask(frame, list(jobs), limit_s, "running %d requests" % len(jobs))

    def probe(self, limit_s: float, on_done: OnProbe) -> None:
        """Have the first golden run; `on_done(ok, findings, ms)`, unless it ends before.  Raises RuntimeError unless READY."""
        if self.state is not State.READY:
            raise RuntimeError("the worker is %s" % self.state.value)
        self._ask({"op": "probe"}, [], limit_s, "running a golden", on_done)

    def _ask(
        self, frame: Dict[str, Any], jobs: List[Job], limit_s: float, stage: str, on_probe: Optional[OnProbe] = None
    ) -> None:
        self._number += 1
        task = _Task(self._number, jobs, limit_s, stage, on_probe)
        if self.state is State.BUSY:
            self._next = task
        else:
            self._begin(task)
        bodies = [job.body for job in jobs]
        if self._channel is not None:
            self._channel.send([encode(dict(frame, id=task.number), sum(map(len, bodies)))] + bodies)

    def _begin(self, task: _Task) -> None:
        self._now, self._next = task, None
        self.state, self._stage = State.BUSY, task.stage
        for job in task.jobs:
            job.begun = True
        self._limit.set(task.limit_s)
        self._scales.watch()

    # --- what it tells

    def _screen(self, header: Dict[str, Any], size: int) -> None:
        """Raise ProtocolError before memory is taken for a body that is not as the header says."""
        count = len(self._now.jobs) if self._now is not None else 0
        self._told = told_of(header, count, self.plan.model) if "re" in header and count else []
        due = body_size(self._told)
        if size != due or size > MAX_ANSWER:
            raise ProtocolError("%d bytes where %d were due, and at most %d are taken" % (size, due, MAX_ANSWER))

    def _frame(self, header: Dict[str, Any], body: bytes) -> None:
        event = header.get("event")
        if self._why:
            return  # it is being ended; what it still says is late
        if self.state is State.STARTING and event in ("stage", "ready", "failed"):
            self._started(str(event), header)
        elif self.state is State.BUSY and self._now is not None and header.get("re") == self._now.number:
            self._answered(self._now, header, body)
        elif event != "stage" and self.state is not State.ENDING:
            self._misbehaved("an unexpected frame")

    def _started(self, event: str, header: Dict[str, Any]) -> None:
        if event == "stage":
            self._stage = str(header.get("words", ""))[:100]
            return
        if event == "failed":
            told = findings_of(header.get("findings"))
            self.kill(told[0] if told else finding("LF900", "A worker failed and did not say why."))
            self._why = told or self._why
            return
        over = self._scales.too_large()
        if over is not None:
            self.kill(over)  # it would be replaced after each request, for ever
            return
        self.state = State.READY
        self._limit.clear()
        self._on_ready(self, facts_of(header))

    def _answered(self, task: _Task, header: Dict[str, Any], body: bytes) -> None:
        result = header.get("result")
        if not isinstance(result, dict):
            self._misbehaved("an answer without a result")
            return
        took_ms = number(result.get("ms"))
        self.loads = int(number(result.get("loads"))) or self.loads
        results = results_of(self._told, body, self.plan.model.release, took_ms) if task.jobs else []
        self._limit.clear()
        self._told, self._now, self.state = [], None, State.READY
        self.runs += 1
        self.worn = self._scales.weigh(self.runs)
        if self._next is not None:
            self._begin(self._next)
        if task.on_probe is not None:
            task.on_probe(result.get("ok") is True, findings_of(result.get("findings")), took_ms)
        if self.state in (State.READY, State.BUSY):
            self._on_answer(self, task.jobs, results, took_ms)
        if self._stop_wanted and self.state is State.READY:
            self.stop()


def _load_frame(plan: WorkerPlan) -> Dict[str, Any]:
    return {
        "op": "load",
        "name": plan.model.name,
        "release": plan.model.release,
        "nb": os.path.abspath(plan.nb),
        "nb_sha256": plan.nb_sha256,
        "runtime": os.path.abspath(plan.runtime) if plan.runtime else "",
        "golden": [os.path.abspath(path) for path in plan.golden],
        "tolerance": plan.tolerance,
        "threads": plan.threads,
        "power_mode": plan.power_mode,
        "input_sizes": plan.input_sizes,
        "memory_limit": plan.memory_limit_bytes,
    }
