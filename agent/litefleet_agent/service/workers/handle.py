"""The daemon's handle of one worker process: starts it, sends it batches, limits it and ends it.  Never blocks."""

import enum
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Union

from ...findings import Finding, finding
from ...formats.checked import number_or
from ...protocol import ProtocolError, encode
from ...verification.child_process import decode
from ...verification.confinement import ConfinementReport
from ..event_loop import Deadline, EventLoop
from ..framing import Channel
from ..messages import (
    MAX_RESPONSE,
    Job,
    Rejection,
    RequestOutcome,
    Response,
    body_size,
    facts_of,
    findings_of,
    outcomes_of,
    results_of,
    tensors_to,
)
from ..status import WorkerFacts
from .plan import LoadRequest, WorkerPlan
from .process import Process

_HARD = 1.25  # times the memory limit, at which a worker is killed at once
_BASE_RUN = 100  # the run after which growth is measured
_CHECK_RUNS = 10  # growth is checked every tenth run: it is slow
_CHECK_S = 0.2


class MemoryMonitor:
    """Measures the memory of one worker.

    `resident()` returns its bytes; while `is_working()`, it is measured every 0.2 s, and `on_over_limit(finding)` is called
    once it exceeds its limit by a quarter.
    """

    def __init__(
        self,
        loop: EventLoop,
        plan: WorkerPlan,
        resident: Callable[[], int],
        is_working: Callable[[], bool],
        on_over_limit: Callable[[Finding], None],
    ) -> None:
        self._loop, self._resident, self._is_working, self._on_over_limit = loop, resident, is_working, on_over_limit
        self._name, self._limit, self._growth = plan.model.name, plan.memory_limit_bytes, plan.growth_limit_bytes
        self._base = 0
        self._scheduled = False

    def watch(self) -> None:
        """Start measuring, until the worker no longer works: what it allocates is missing on the whole device."""
        if self._limit and not self._scheduled:
            self._scheduled = True
            self._loop.later(_CHECK_S, self._check)

    def _check(self) -> None:
        self._scheduled = False
        if self._is_working():
            rss_bytes = self._resident()
            if rss_bytes > self._limit * _HARD:
                self._on_over_limit(self._over(rss_bytes))
            self.watch()

    def _over(self, rss_bytes: int) -> Finding:
        observed = "The worker of %s held %d MiB; its limit is %d MiB." % (
            self._name,
            rss_bytes >> 20,
            self._limit >> 20,
        )
        return finding("LF411", observed)

    def too_large(self) -> Optional[Finding]:
        """Return LF411 when the worker exceeds its memory limit now, else None."""
        rss_bytes = self._resident() if self._limit else 0
        return self._over(rss_bytes) if rss_bytes > self._limit else None

    def check_growth(self, runs: int) -> Optional[Finding]:
        """Return why the worker must be replaced after its run number `runs`, None when it need not be.

        LF411: above the memory limit.  LF419: grown by more than the limit since its hundredth run.
        """
        over = self.too_large()
        if over is not None or runs % _CHECK_RUNS:
            return over
        rss_bytes = self._resident()
        if runs == _BASE_RUN:
            self._base = rss_bytes
        if not self._base or rss_bytes - self._base <= self._growth:
            return None
        observed = "The worker of %s grew from %d to %d MiB between its run %d and its run %d."
        return finding("LF419", observed % (self._name, self._base >> 20, rss_bytes >> 20, _BASE_RUN, runs))


_TIMEOUT_S = 1.0  # for a worker to end after it was stopped
_GRACE_S = 0.5  # for a worker to end after its socket closed, so that its own signal is seen instead of SIGKILL
_POLL_S = 0.01
_MOST_STAGE = 100  # characters


class State(str, enum.Enum):
    """The state of a worker."""

    STARTING = "starting"  # loads, and runs its goldens
    READY = "ready"
    BUSY = "busy"
    ENDING = "ending"  # stopped or crashed; not reaped yet
    DEAD = "dead"


OnReady = Callable[["WorkerHandle", WorkerFacts], None]
OnAnswer = Callable[["WorkerHandle", List[Job], List[Union[Response, Rejection]], float], None]
OnEnd = Callable[["WorkerHandle", List[Finding], List[Job]], None]
OnProbe = Callable[[bool, List[Finding], float], None]


@dataclass(frozen=True)
class _Task:
    """One request to a worker; `on_probe` is set for a golden run, which has no jobs."""

    number: int
    jobs: List[Job]
    limit_s: float
    stage: str
    on_probe: Optional[OnProbe] = None


class WorkerHandle:
    """One worker.  The loop makes all callbacks, never a call of this class.

    `on_ready(worker, facts)`: it passed its goldens.  `on_answer(worker, jobs, results, ms)`: after each batch, and without
    jobs after each probe; that call may give it work.  `on_end(worker, findings, jobs in flight)`: it is dead and reaped,
    unless it was stopped between two batches; `not_started` then holds the jobs in its socket that it had not begun.
    """

    def __init__(
        self, loop: EventLoop, plan: WorkerPlan, on_ready: OnReady, on_answer: OnAnswer, on_end: OnEnd
    ) -> None:
        self.plan = plan
        self.state = State.STARTING
        self.runs = 0
        self.loads = 1  # of the model: once more for each new input size
        self.recycle_reason: Optional[Finding] = None  # why it must be replaced between two requests
        self.sandbox: Optional[ConfinementReport] = None  # how its process is confined; None until it reports that
        self.not_started: List[Job] = []
        self._loop = loop
        self._on_ready, self._on_answer, self._on_end = on_ready, on_answer, on_end
        self._now: Optional[_Task] = None
        self._next: Optional[_Task] = None  # already in its socket, so that it starts without delay
        self._outcomes: List[RequestOutcome] = []  # announced by the header of the answer that is being read
        self._number = 0
        self._stage = "starting"
        self._end_findings: List[Finding] = []
        self._stop_wanted = self._stop_requested = False
        self._limit = Deadline(loop, self._timed_out)
        self._memory = MemoryMonitor(loop, plan, self.rss_bytes, self._is_working, self.kill)
        self._process: Optional[Process] = None
        self._channel: Optional[Channel] = None
        self._start()

    # --- its life

    def _start(self) -> None:
        try:
            self._process = Process(self._loop, self.plan)
        except OSError as error:
            observed = "Cannot start a worker of %s: %s." % (self.plan.model.name, error.strerror or error)
            self._end_findings = [finding("LF900", observed)]
            self.state = State.ENDING
            self._loop.later(0.0, lambda: self._dead([]))
            return
        self._channel = Channel(self._loop, self._process.socket, self._validate, self._frame, self._on_channel_end)
        self._channel.send([encode(LoadRequest.of(self.plan).header())])
        self._limit.set(self.plan.start_limit_s)
        self._memory.watch()

    @property
    def pid(self) -> int:
        """The process id; 0 when it could not be started."""
        return self._process.pid if self._process is not None else 0

    @property
    def stderr_tail(self) -> str:
        """The last 4 KiB that it printed, to either stream."""
        return self._process.tail if self._process is not None else ""

    def rss_bytes(self) -> int:
        """Return its resident memory in bytes, 0 when it is dead."""
        alive = self._process is not None and self.state is not State.DEAD
        return self._process.rss_bytes() if alive and self._process is not None else 0

    def stop(self) -> None:
        """Stop it after the batch that it runs now; it is killed if it does not end within a second."""
        if self.state in (State.ENDING, State.DEAD):
            return
        if self.state is State.BUSY:
            self._stop_wanted = True
            return
        self._stop_requested = True
        self._end_phase()
        if self._channel is not None:
            self._channel.finish()
        self._loop.later(_TIMEOUT_S, self._end_now)

    def kill(self, why: Finding) -> None:
        """Kill it at once; `on_end` reports `why`, unless it was stopped before."""
        if self.state is State.DEAD or self._end_findings:
            return
        if not self._stop_requested:
            self._end_findings = [why]
        self._end_phase()
        self._end_now()

    def _is_working(self) -> bool:
        return self.state in (State.STARTING, State.BUSY)

    def _end_phase(self) -> None:
        self._limit.clear()
        if self._now is None or not self._now.jobs:  # with jobs it stays BUSY until they are returned
            self.state = State.ENDING

    def _end_now(self) -> None:
        if self.state is not State.DEAD and self._process is not None:
            self._process.kill()

    def _on_channel_end(self, why: str) -> None:
        """The socket closed ("") or carried an invalid frame."""
        if why:
            self._protocol_violated(why)
        else:
            self._end_phase()
        self._await_end(self._loop.now() + _GRACE_S)

    def _protocol_violated(self, why: str) -> None:
        self.kill(finding("LF900", "The worker of %s sent an invalid frame: %s." % (self.plan.model.name, why)))

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
        label = "The worker of %s, while %s," % (self.plan.model.name, self._stage)
        early = [finding("LF900", "%s ended early with exit code 0." % label)]
        limit = self.plan.memory_limit_bytes
        self._dead([] if self._stop_requested else decode(result, label, self._stage, limit) or early)

    def _dead(self, findings: List[Finding]) -> None:
        self.state = State.DEAD
        if self._channel is not None:
            self._channel.close()
        jobs = self._now.jobs if self._now is not None else []
        self.not_started = self._next.jobs if self._next is not None else []
        self._now = self._next = None
        if not self._stop_requested:
            self._on_end(self, self._end_findings or findings, jobs)

    def _timed_out(self, seconds: float) -> None:
        observed = "The worker of %s was still %s after %.3g s." % (self.plan.model.name, self._stage, seconds)
        self.kill(finding("LF408", observed))

    # --- requests

    @property
    def accepts_more(self) -> bool:
        """Whether `run` accepts the next batch while one runs."""
        busy = self.state is State.BUSY and self._now is not None and self._now.on_probe is None
        return busy and self._next is None and not (self._stop_wanted or self.recycle_reason or self._end_findings)

    def run(self, jobs: Sequence[Job], limit_s: float) -> None:
        """Run one batch, now or after the current one; the worker is killed if a batch takes longer than its `limit_s`.

        Raises RuntimeError unless it is READY or `accepts_more`.
        """
        if self.state is not State.READY and not self.accepts_more:
            raise RuntimeError("the worker is %s" % self.state.value)
        frame = {"op": "run", "requests": [{"inputs": tensors_to(job.inputs)} for job in jobs]}
        self._ask(frame, list(jobs), limit_s, "running %d requests" % len(jobs))

    def probe(self, limit_s: float, on_done: OnProbe) -> None:
        """Run the first golden; `on_done(ok, findings, ms)` follows unless the worker ends before.

        Raises RuntimeError unless it is READY.
        """
        if self.state is not State.READY:
            raise RuntimeError("the worker is %s" % self.state.value)
        self._ask({"op": "probe"}, [], limit_s, "running a golden", on_done)

    def _ask(
        self,
        frame: Mapping[str, object],
        jobs: List[Job],
        limit_s: float,
        stage: str,
        on_probe: Optional[OnProbe] = None,
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
        self._memory.watch()

    # --- answers

    def _validate(self, header: Dict[str, object], size: int) -> None:
        """Raise ProtocolError, before memory is allocated, for a body whose size the header does not announce."""
        count = len(self._now.jobs) if self._now is not None else 0
        self._outcomes = outcomes_of(header, count, self.plan.model) if "re" in header and count else []
        due = body_size(self._outcomes)
        if size != due or size > MAX_RESPONSE:
            raise ProtocolError("a body of %d bytes; expected %d, at most %d" % (size, due, MAX_RESPONSE))

    def _frame(self, header: Dict[str, object], body: bytes) -> None:
        event = header.get("event")
        if self._end_findings:
            return  # it is being killed: its frames no longer count
        if self.state is State.STARTING and event in ("confined", "stage", "ready", "failed"):
            self._started(str(event), header)
        elif self.state is State.BUSY and self._now is not None and header.get("re") == self._now.number:
            self._answered(self._now, header, body)
        elif event != "stage" and self.state is not State.ENDING:
            self._protocol_violated("an unexpected frame")

    def _started(self, event: str, header: Dict[str, object]) -> None:
        if event == "stage":
            self._stage = str(header.get("words", ""))[:_MOST_STAGE]
            return
        if event == "confined":
            self._confined(header)
            return
        if event == "failed":
            failures = findings_of(header.get("findings"))
            self.kill(failures[0] if failures else finding("LF900", "A worker failed and gave no reason."))
            self._end_findings = failures or self._end_findings
            return
        over = self._memory.too_large()
        if over is not None:
            self.kill(over)  # otherwise it would be replaced after each request, without end
            return
        self.state = State.READY
        self._limit.clear()
        self._on_ready(self, facts_of(header)._replace(sandbox=self.sandbox))

    def _confined(self, header: Dict[str, object]) -> None:
        try:
            self.sandbox = ConfinementReport.parse(header.get("sandbox"))
        except (ValueError, KeyError):
            self._protocol_violated("no report of its confinement")

    def _answered(self, task: _Task, header: Dict[str, object], body: bytes) -> None:
        result = header.get("result")
        if not isinstance(result, dict):
            self._protocol_violated("an answer without a result")
            return
        took_ms = number_or(0.0, result.get("ms"), 0)
        self.loads = int(number_or(0, result.get("loads"), 0)) or self.loads
        results = results_of(self._outcomes, body, self.plan.model.release, took_ms) if task.jobs else []
        self._limit.clear()
        self._outcomes, self._now, self.state = [], None, State.READY
        self.runs += 1
        self.recycle_reason = self._memory.check_growth(self.runs)
        if self._next is not None:
            self._begin(self._next)
        if task.on_probe is not None:
            task.on_probe(result.get("ok") is True, findings_of(result.get("findings")), took_ms)
        if self.state in (State.READY, State.BUSY):
            self._on_answer(self, task.jobs, results, took_ms)
        if self._stop_wanted and self.state is State.READY:
            self.stop()
