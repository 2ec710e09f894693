"""A worker process as the daemon sees it: started, given one batch at a time, watched, ended.  Never waits."""

import enum
import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from ..child import decode
from ..findings import Finding, finding
from ..protocol import ProtocolError, encode
from .answers import MAX_ANSWER, Answer, body_size, facts_of, findings_of, number, results_of
from .channel import Channel
from .deadline import Deadline
from .loop import Loop
from .plan import WorkerPlan, plan_of
from .process import Process
from .values import Job, Refusal, tensors_to

__all__ = ["Answer", "State", "Worker", "WorkerPlan", "plan_of"]

_HARD = 1.25  # times the memory limit, at which a worker is ended at once
_BASE_RUN = 100  # after which growth is measured
_LOOK_S = 0.2  # between looks at the memory of a worker that works
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


class Worker:
    """One worker.  Callbacks come from the loop, never from within a call.

    `on_ready(worker, facts)` once it passed its goldens; `on_answer(worker, jobs, results, ms)` after each batch, and without
    jobs after each probe: it is free again; `on_end(worker, findings, jobs in flight)` once it is dead and reaped, unless it
    was stopped between two batches.
    """

    def __init__(self, loop: Loop, plan: WorkerPlan, on_ready: OnReady, on_answer: OnAnswer, on_end: OnEnd) -> None:
        self.plan = plan
        self.state = State.STARTING
        self.runs = 0
        self.worn = False  # has grown too large: to be replaced between two requests
        self._loop = loop
        self._on_ready, self._on_answer, self._on_end = on_ready, on_answer, on_end
        self._jobs: List[Job] = []
        self._on_probe: Optional[OnProbe] = None
        self._number = 0
        self._stage = "starting"
        self._why: List[Finding] = []
        self._stop_wanted = self._quiet = False
        self._base_rss = 0
        self._limit = Deadline(loop, self._too_late)
        self._looks = False
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
        self._look()

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
        """End it at once; `why` is what `on_end` will tell."""
        if self.state is State.DEAD or self._why:
            return
        self._why, self._quiet = [why], False
        self._end_phase()
        self._end_now()

    def _end_phase(self) -> None:
        self._limit.clear()
        if not self._jobs:  # one with jobs stays busy until they are given back
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
        jobs, self._jobs = self._jobs, []
        if not self._quiet:
            self._on_end(self, self._why or findings, jobs)

    def _too_late(self, seconds: float) -> None:
        seen = "The worker of %s was still %s after %.3g s." % (self.plan.model.name, self._stage, seconds)
        self.kill(finding("LF408", seen))

    # --- its memory

    def _look(self) -> None:
        """Look at a working worker again and again: what it allocates it may take from the whole device."""
        self._looks = bool(self.plan.memory_limit_bytes) and self.state in (State.STARTING, State.BUSY)
        if not self._looks:
            return
        rss = self.rss_bytes()
        if rss > self.plan.memory_limit_bytes * _HARD:
            self.kill(self._over(rss))
        self._loop.later(_LOOK_S, self._look)

    def _over(self, rss: int) -> Finding:
        said = "The worker of %s, while %s, held %d MiB; its limit is %d MiB." % (
            self.plan.model.name, self._stage, rss >> 20, self.plan.memory_limit_bytes >> 20,
        )  # fmt: skip
        return finding("LF411", said)

    def _weigh(self) -> None:
        """See after a batch whether it has grown too large."""
        rss = self.rss_bytes()
        if self.runs == _BASE_RUN:
            self._base_rss = rss
        grown = self._base_rss and rss - self._base_rss > self.plan.growth_limit_bytes
        over = self.plan.memory_limit_bytes and rss > self.plan.memory_limit_bytes
        self.worn = self.worn or bool(grown or over)

    # --- what it is asked

    def run(self, jobs: Sequence[Job], limit_s: float) -> None:
        """Have one batch run; it is ended if it takes longer than `limit_s`.  Raises RuntimeError unless it is READY."""
        requests = [{"inputs": tensors_to(job.inputs)} for job in jobs]
        frame = {"op": "run", "requests": requests}
        self._ask(frame, [job.body for job in jobs], "running %d requests" % len(jobs), limit_s)
        self._jobs = list(jobs)
        self._flush()

    def probe(self, limit_s: float, on_done: OnProbe) -> None:
        """Have the first golden run; `on_done(ok, findings, ms)`, unless it ends before.  Raises as `run` does."""
        self._ask({"op": "probe"}, [], "running a golden", limit_s)
        self._on_probe = on_done
        self._flush()

    def _ask(self, frame: Dict[str, Any], bodies: List[bytes], stage: str, limit_s: float) -> None:
        if self.state is not State.READY or self._channel is None:
            raise RuntimeError("the worker is %s" % self.state.value)
        self._number += 1
        self._parts = [encode(dict(frame, id=self._number), sum(map(len, bodies)))] + bodies
        self.state, self._stage = State.BUSY, stage
        self._limit.set(limit_s)
        if not self._looks and self.plan.memory_limit_bytes:
            self._looks = True
            self._loop.later(_LOOK_S, self._look)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if self._channel is not None:
            self._channel.send(parts)

    # --- what it tells

    def _screen(self, header: Dict[str, Any], size: int) -> None:
        """Raise ProtocolError before memory is taken for a body that is not as the header says."""
        due = 0
        if "re" in header and self._jobs:
            due = body_size(header, len(self._jobs), self.plan.model)
        if size != due or size > MAX_ANSWER:
            raise ProtocolError("%d bytes where %d were due, and at most %d are taken" % (size, due, MAX_ANSWER))

    def _frame(self, header: Dict[str, Any], body: bytes) -> None:
        event = header.get("event")
        if self._why:
            return  # it is being ended; what it still says is late
        if self.state is State.STARTING and event in ("stage", "ready", "failed"):
            self._started(str(event), header)
        elif self.state is State.BUSY and header.get("re") == self._number:
            self._answered(header, body)
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
        rss = self.rss_bytes()
        if self.plan.memory_limit_bytes and rss > self.plan.memory_limit_bytes:
            self.kill(self._over(rss))  # it would be replaced after each request, for ever
            return
        self.state = State.READY
        self._limit.clear()
        self._on_ready(self, facts_of(header))

    def _answered(self, header: Dict[str, Any], body: bytes) -> None:
        result = header.get("result")
        if not isinstance(result, dict):
            self._misbehaved("an answer without a result")
            return
        took_ms = number(result.get("ms"))
        jobs, done = self._jobs, self._on_probe
        try:
            results = results_of(header, body, jobs, self.plan.model) if done is None else []
        except ProtocolError as error:
            self._misbehaved(str(error))
            return
        self._jobs, self._on_probe = [], None
        self._limit.clear()
        self.runs += 1
        self._weigh()
        self.state = State.READY
        if done is not None:
            done(result.get("ok") is True, findings_of(result.get("findings")), took_ms)
        if self.state is State.READY:
            self._on_answer(self, jobs, results, took_ms)
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
    }
