"""The bench's handle of one measured process: starts it, requests runs, pauses it and ends it.  Blocks in `WaitLoop`."""

import os
import signal
import time
from array import array
from dataclasses import replace
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from .. import ARCHIVE_ROOT
from ..errors import AgentError
from ..facts.sensors import memory_of
from ..findings import Finding, finding
from ..formats.checked import each, items, mapping, number, text, whole
from ..formats.files import Tree
from ..formats.nb import Tensor
from ..formats.npz import Array
from ..protocol import ProtocolError, encode
from ..service.event_loop import EventLoop
from ..service.framing import Channel
from ..service.messages import size_of
from ..service.workers.plan import WorkerPlan
from ..service.workers.process import Process
from ..verification.child_process import ChildResult, decode
from ..verification.verify import paddlelite_finding
from .results import StartReport
from .worker_main import LOADER, RunRequest, StartRequest

_TICK_S = 1.0


class WaitLoop:
    """One event loop for all processes of a bench.  As a context manager it ends them at its exit.

    An exception of `on_tick` (the controller is gone) is passed on to the caller.
    """

    def __init__(self, on_tick: Callable[[], None]) -> None:
        self.loop = EventLoop()
        self._on_tick = on_tick
        self._next_tick = self.loop.now() + _TICK_S
        self._at_end: List[Callable[[], None]] = []

    def __enter__(self) -> "WaitLoop":
        return self

    def __exit__(self, *_: object) -> None:
        for callback in self._at_end:
            callback()
        self.loop.close()

    def at_end(self, callback: Callable[[], None]) -> None:
        """Register a call for the exit; it must not raise, and must be idempotent."""
        self._at_end.append(callback)

    def wait_for(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Wait until `done()`, at most `limit_s` seconds, and return whether it became true."""
        end = self.loop.now() + limit_s
        while not done():
            now = self.loop.now()
            if now >= end:
                return False
            self.tick()
            self.loop.turn(max(0.0, min(end, self._next_tick) - now))
        self.tick()
        return True

    def tick(self) -> None:
        """Call `on_tick` if a second has passed; long computations call this."""
        if self.loop.now() >= self._next_tick:
            self._next_tick = self.loop.now() + _TICK_S
            self._on_tick()


_MOST_BODY = 512 << 20  # bytes of outputs
_FAR, _SLACK_S = 10, 120.0  # times the expected time of a block, and seconds: a device may become slow
_GRACE_S = 1.0  # for a process to end after its socket closed, so that its own signal is seen instead of SIGKILL
_MOST_MS = 1e9  # of one duration
_MOST_CASES, _MOST_OUTPUTS, _MOST_DIMS = 64, 1024, 16  # in one answer

_T = TypeVar("_T")


class BenchWorkerError(AgentError):
    """A measured process ended or failed; `findings` say why."""

    code = "not-measured"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(found.observed for found in findings))
        self.findings = list(findings)


class Block(NamedTuple):
    """Consecutive runs; durations in milliseconds, times on the monotonic clock in seconds."""

    begun: float
    ended: float
    cpu_s: float  # CPU time of all threads
    times: "array[float]"  # of the model alone
    whole: "array[float]"  # with inputs set and outputs copied

    @property
    def seconds(self) -> float:
        """Seconds from the beginning of the first run to the end of the last."""
        return max(self.ended - self.begun, 1e-9)


class BenchWorker:
    """One measured process of a release.  Its failures are raised as BenchWorkerError."""

    def __init__(self, wait_loop: WaitLoop, plan: WorkerPlan, threads: int, low_priority: bool = False) -> None:
        self.plan = plan
        self.threads = threads or plan.threads
        self.ended = False
        self._wait_loop = wait_loop
        self._low_priority = low_priority
        self._answers: List[Tuple[Dict[str, object], bytes]] = []
        self._number = self._due = 0
        self._stage = "starting"
        self._end_reason: Optional[str] = None  # "" = its socket closed; else the error in its frames
        self.begun = time.monotonic()
        argv = (plan.python, "-IB", "-c", LOADER, ARCHIVE_ROOT)  # B: write no bytecode
        try:
            self._process = Process(wait_loop.loop, replace(plan, argv=argv, threads=self.threads))
        except OSError as error:
            observed = "Cannot start a process of %s: %s." % (plan.model.name, error.strerror or error)
            raise BenchWorkerError([finding("LF900", observed)]) from error
        self._channel = Channel(
            wait_loop.loop, self._process.socket, self._check_size, self._frame, self._on_channel_end
        )
        wait_loop.at_end(self.end)
        self._send(self._start_request().header())

    def _start_request(self) -> StartRequest:
        plan = self.plan
        return StartRequest(
            nb=os.path.abspath(plan.nb),
            runtime=os.path.abspath(plan.runtime) if plan.runtime else "",
            inputs=list(plan.model.inputs),
            outputs=[tensor.name for tensor in plan.model.outputs],
            golden=[os.path.abspath(path) for path in plan.golden],
            low_priority=self._low_priority,
            memory_limit=plan.memory_limit_bytes,
            accelerated=plan.accelerated,
            engine=plan.settings._replace(threads=self.threads).to_dict(),
            cache=plan.cache,
            wanted=plan.wanted,
        )

    # --- requests

    def started(self) -> StartReport:
        """Wait until it has run for the first time, and return its report."""
        answer, _ = self._answer(self.plan.start_limit_s)
        return self._parsed(lambda: start_report_of(answer))

    def ask_runs(self, runs: int, until: float, at: float = 0.0, skip: int = 0) -> None:
        """Request `runs` runs, or fewer until the time `until`, not before `at`; the first `skip` ones do not count.

        Times are on the monotonic clock, in seconds.
        """
        self._send(dict(RunRequest(runs, until, at, skip)._asdict(), op="run"))

    def block(self, expected_s: float) -> Block:
        """Return the runs of the oldest request, which should take about `expected_s`."""
        answer, body = self._answer(_FAR * expected_s + _SLACK_S)
        return self._parsed(lambda: block_of(answer, body))

    def outputs(self, of: str) -> List[List[Array]]:
        """Return each case's outputs of its "first" or its "last" run."""
        self._send({"op": "outputs", "of": of})
        answer, body = self._answer(_SLACK_S)
        return self._parsed(lambda: cases_of(answer, body))

    def _parsed(self, parse: Callable[[], _T]) -> _T:
        """Return `parse()`.  Raises BenchWorkerError when the process sent an invalid answer."""
        try:
            return parse()
        except ValueError as error:
            raise BenchWorkerError(
                [finding("LF900", "%s sent an invalid answer: %s." % (self._name, error))]
            ) from error

    def _send(self, header: Dict[str, object]) -> None:
        self._channel.send([encode(dict(header, id=self._number))])
        self._number += 1

    def _answer(self, limit_s: float) -> Tuple[Dict[str, object], bytes]:
        """Return the next answer's result and body.  Raises BenchWorkerError when it fails, ends, or takes too long."""
        if not self._wait_loop.wait_for(lambda: bool(self._answers) or self._end_reason is not None, limit_s):
            observed = "%s was still %s after %.0f s." % (self._name, self._stage, limit_s)
            raise BenchWorkerError([finding("LF408", observed)])
        if not self._answers:
            raise BenchWorkerError(self._end_findings())
        header, body = self._answers.pop(0)
        error = header.get("error")
        if isinstance(error, dict):
            raise BenchWorkerError([paddlelite_finding(str(error.get("kind")), str(error.get("text")), self._stage)])
        return self._parsed(lambda: mapping(header.get("result"), "the result")), body

    @property
    def _name(self) -> str:
        return "The process of %s" % self.plan.model.name

    # --- answers

    def _check_size(self, header: Dict[str, object], size: int) -> None:
        if size > _MOST_BODY:
            raise ProtocolError("a body of %d bytes; the limit is %d" % (size, _MOST_BODY))

    def _frame(self, header: Dict[str, object], body: bytes) -> None:
        if header.get("event") == "stage":
            self._stage = str(header.get("words", ""))[:100]
        elif header.get("re") == self._due and isinstance(header.get("result", header.get("error")), dict):
            self._due += 1
            self._answers.append((header, body))
        else:
            self._end_reason = "an unexpected frame"

    def _on_channel_end(self, why: str) -> None:
        self._end_reason = why

    def _end_findings(self) -> List[Finding]:
        if self._end_reason:
            return [finding("LF900", "%s sent an invalid frame: %s." % (self._name, self._end_reason))]
        self._wait_loop.wait_for(lambda: self._process.ended, _GRACE_S)
        label = "%s, while %s," % (self._name, self._stage)
        early = [finding("LF900", "%s ended early with exit code 0." % label)]
        return decode(self._reap(), label, self._stage) or early

    # --- the process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def pause(self) -> None:
        """Stop it (SIGSTOP): threads of its runtime that still spin would take CPU time from the other process."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if not self.ended:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # its socket reports the end

    def memory(self, tree: Tree) -> Dict[str, int]:
        """Return its {rss, peak, pss, threads} in bytes; values that the kernel does not report are missing."""
        return memory_of(tree, self.pid)

    def rss_bytes(self) -> int:
        """Return its resident memory in bytes, 0 when the kernel does not report it."""
        return self._process.rss_bytes()

    def _reap(self) -> ChildResult:
        self.ended = True
        return self._process.reap()

    def end(self) -> None:
        """Kill it at once.  Idempotent."""
        if not self.ended:
            self._channel.close()
            self._reap()


# --- answers as values


def start_report_of(answer: Dict[str, object]) -> StartReport:
    """Read the answer to "start".  Raises ValueError."""
    import_ms, load_ms, first_run_ms = [
        number(answer.get(name), 0, _MOST_MS, name) for name in ("import_ms", "load_ms", "first_run_ms")
    ]
    runtime, numpy, threads, engine = [
        text(answer.get(name), 100, name) for name in ("runtime_version", "numpy_version", "threads_set_by", "engine")
    ]
    return StartReport(
        number(answer.get("begun"), 0, name="begun"),
        import_ms,
        load_ms,
        first_run_ms,
        whole(answer.get("read_bytes"), name="read_bytes"),
        each(answer.get("rss"), lambda value, name: whole(value, name=name), 8, "rss"),
        runtime,
        numpy,
        threads,
        engine=engine,
    )


def block_of(answer: Dict[str, object], body: bytes) -> Block:
    """Read the answer to "run"; the body holds doubles.  Raises ValueError."""
    begun, ended, cpu_s = (number(answer.get(name), 0, name=name) for name in ("begun", "ended", "cpu_s"))
    values = array("d")
    values.frombytes(body)
    runs = len(values) // 2
    return Block(begun, ended, cpu_s, values[:runs], values[runs:])


def cases_of(answer: Dict[str, object], body: bytes) -> List[List[Array]]:
    """Read the answer to "outputs"; the body holds their data.  Raises ValueError."""
    cases, at = [], 0
    for described in items(answer.get("cases"), _MOST_CASES, "cases"):
        outputs = []
        for output in items(described, _MOST_OUTPUTS, "the outputs"):
            one = mapping(output, "an output")
            dims = tuple(whole(size, 0, 1 << 31, "a size") for size in items(one.get("shape"), _MOST_DIMS, "the shape"))
            tensor = Tensor("", text(one.get("dtype"), 20, "the dtype"), dims)
            size = size_of(tensor)
            try:
                outputs.append(Array(tensor.dtype, tensor.dims, body[at : at + size]))
            except AgentError as error:
                raise ValueError(str(error)) from error
            at += size
        cases.append(outputs)
    if at != len(body):
        raise ValueError("the outputs have %d bytes, and %d were sent" % (at, len(body)))
    return cases
