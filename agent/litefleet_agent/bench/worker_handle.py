"""The other end of a process that is measured: started, asked, stopped for a while, ended.  Waits on the floor."""

import os
import signal
import time
from array import array
from dataclasses import replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import ARCHIVE_ROOT
from ..errors import AgentError
from ..facts.sensors import memory_of
from ..facts.tree import Tree
from ..findings import Finding, finding
from ..formats.nb import Tensor
from ..formats.npz import Array
from ..protocol import ProtocolError, encode
from ..service.event_loop import EventLoop
from ..service.framing import Channel
from ..service.messages import size_of
from ..service.workers.plan import WorkerPlan
from ..service.workers.process import Process
from ..verification.child_process import decode
from ..verification.verify import paddlelite_finding
from .worker_main import LOADER

__all__ = ["BenchWorker", "BenchWorkerError", "Block", "WaitLoop"]


_TICK_S = 1.0


class WaitLoop:
    """One loop for all processes of a bench.  As a context it ends them, whatever happened.

    What `on_tick` raises (the controller is gone) goes through to the caller.
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
        """Have `leave` called when all is over; it must not raise, and may be called twice."""
        self._at_end.append(callback)

    def wait_for(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Wait until `done()`, and say whether it came true within `limit_s`."""
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
        """Tell that the bench still runs, if it is time to; long computations call it."""
        if self.loop.now() >= self._next_tick:
            self._next_tick = self.loop.now() + _TICK_S
            self._on_tick()


_MOST_BODY = 512 << 20  # bytes of outputs
_FAR, _SLACK_S = 10, 120.0  # times what a block should take, and seconds: a device may become slow
_GRACE_S = 1.0  # for one whose socket closed, so that its own end is seen rather than ours


class BenchWorkerError(AgentError):
    """A measured process ended or failed; `findings` say why."""

    code = "not-measured"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(found.observed for found in findings))
        self.findings = list(findings)


class Block(NamedTuple):
    """Runs that followed each other; times in milliseconds, moments on the monotonic clock in seconds."""

    begun: float
    ended: float
    cpu_s: float  # CPU time of all threads
    times: "array[float]"  # of the model alone
    whole: "array[float]"  # with inputs set and outputs copied

    @property
    def seconds(self) -> float:
        """From its first run's beginning to its last run's end."""
        return max(self.ended - self.begun, 1e-9)


class BenchWorker:
    """One measured process of a release.  Whatever it does ends as a SubjectError."""

    def __init__(self, wait_loop: WaitLoop, plan: WorkerPlan, threads: int, low_priority: bool = False) -> None:
        self.plan = plan
        self.threads = threads or plan.threads
        self.ended = False
        self._wait_loop = wait_loop
        self._low_priority = low_priority
        self._answers: List[Tuple[Dict[str, Any], bytes]] = []
        self._number = self._due = 0
        self._stage = "starting"
        self._end_reason: Optional[str] = None  # it is gone, or says what can't be read
        self.begun = time.monotonic()
        argv = (plan.python, "-IB", "-c", LOADER, ARCHIVE_ROOT)  # B: nothing is written, no bytecode either
        try:
            self._process = Process(wait_loop.loop, replace(plan, argv=argv, threads=self.threads))
        except OSError as error:
            observed = "A process of %s can't be started: %s." % (plan.model.name, error.strerror or error)
            raise BenchWorkerError([finding("LF900", observed)]) from error
        self._channel = Channel(
            wait_loop.loop, self._process.socket, self._check_size, self._frame, self._on_channel_end
        )
        wait_loop.at_end(self.end)
        self._send(self._job())

    def _job(self) -> Dict[str, Any]:
        plan = self.plan
        return {
            "op": "start",
            "nb": os.path.abspath(plan.nb),
            "runtime": os.path.abspath(plan.runtime) if plan.runtime else "",
            "inputs": [tensor.name for tensor in plan.model.inputs],
            "outputs": [tensor.name for tensor in plan.model.outputs],
            "golden": [os.path.abspath(path) for path in plan.golden],
            "threads": self.threads,
            "power_mode": plan.power_mode,
            "low_priority": self._low_priority,
        }

    # --- asking

    def started(self) -> Dict[str, Any]:
        """Wait until it has run for the first time, and return what it told of its start (see measured)."""
        answer, _ = self._answer(self.plan.start_limit_s)
        return answer

    def ask_runs(self, runs: int, until: float, at: float = 0.0, skip: int = 0) -> None:
        """Have it run `runs` times or until the moment `until`, not before `at`; the first `skip` runs do not count."""
        self._send({"op": "run", "runs": runs, "until": until, "at": at, "skip": skip})

    def block(self, expected_s: float) -> Block:
        """Return the runs that were asked for first; they should take about `expected_s`."""
        answer, body = self._answer(_FAR * expected_s + _SLACK_S)
        values = array("d")
        values.frombytes(body)
        runs = len(values) // 2
        return Block(answer["begun"], answer["ended"], answer["cpu_s"], values[:runs], values[runs:])

    def outputs(self, of: str) -> List[List[Array]]:
        """Return each case's outputs of its "first" or its "last" run."""
        self._send({"op": "outputs", "of": of})
        answer, body = self._answer(_SLACK_S)
        cases, at = [], 0
        for described in answer["cases"]:
            outputs = []
            for output in described:
                tensor = Tensor("", output["dtype"], tuple(output["shape"]))
                size = size_of(tensor)
                outputs.append(Array(tensor.dtype, tensor.dims, body[at : at + size]))
                at += size
            cases.append(outputs)
        return cases

    def _send(self, header: Dict[str, Any]) -> None:
        self._channel.send([encode(dict(header, id=self._number))])
        self._number += 1

    def _answer(self, limit_s: float) -> Tuple[Dict[str, Any], bytes]:
        """Return the next answer's result and body; SubjectError when it fails, ends, or takes too long."""
        if not self._wait_loop.wait_for(lambda: bool(self._answers) or self._end_reason is not None, limit_s):
            observed = "%s was still %s after %.0f s." % (self._name, self._stage, limit_s)
            raise BenchWorkerError([finding("LF408", observed)])
        if not self._answers:
            raise BenchWorkerError(self._end_findings())
        header, body = self._answers.pop(0)
        error = header.get("error")
        if isinstance(error, dict):
            raise BenchWorkerError([paddlelite_finding(str(error.get("kind")), str(error.get("text")), self._stage)])
        return header["result"], body

    @property
    def _name(self) -> str:
        return "The process of %s" % self.plan.model.name

    # --- what it tells

    def _check_size(self, header: Dict[str, Any], size: int) -> None:
        if size > _MOST_BODY:
            raise ProtocolError("%d bytes, and at most %d are taken" % (size, _MOST_BODY))

    def _frame(self, header: Dict[str, Any], body: bytes) -> None:
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
            return [finding("LF900", "%s sent what can't be read: %s." % (self._name, self._end_reason))]
        self._wait_loop.wait_for(lambda: self._process.ended, _GRACE_S)
        label = "%s, while %s," % (self._name, self._stage)
        early = [finding("LF900", "%s ended early with exit code 0." % label)]
        return decode(self._reap(), label) or early

    # --- its life

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def pause(self) -> None:
        """Stop it where it is: threads of its runtime that still spin would take CPU from whatever runs now."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if not self.ended:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # its socket tells

    def memory(self, tree: Tree) -> Dict[str, int]:
        """Return its {rss, peak, pss, threads}; what can't be told is left out."""
        return memory_of(tree, self.pid)

    def rss_bytes(self) -> int:
        """Return its resident memory, 0 when that can't be told."""
        return self._process.rss_bytes()

    def _reap(self) -> Any:
        self.ended = True
        return self._process.reap()

    def end(self) -> None:
        """End it at once; twice is once."""
        if not self.ended:
            self._channel.close()
            self._reap()
