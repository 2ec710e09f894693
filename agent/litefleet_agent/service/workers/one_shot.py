"""Validated inference without a daemon: one worker, for as long as its answers take.  Waits."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ...errors import AgentError
from ...findings import Finding
from ...formats.nb import Tensor
from ...protocol import MAX_BODY
from ..event_loop import Loop
from ..messages import Job, Refusal, in_order, screen_inputs
from .handle import Answer, State, Worker
from .plan import WorkerPlan

__all__ = ["OnceError", "bounded", "run_once"]

Request = Tuple[Tuple[Tensor, ...], bytes]  # inputs, and their data one after the other
_TURN_S = 1.0
_END_S = 3.0


def bounded(size: int) -> int:
    """Return how many bytes outputs have together; Refusal "too-large" as soon as that is more than can be sent."""
    if size > MAX_BODY:
        text = "the outputs have %d bytes together or more, and %d can be sent: ask with fewer inputs"
        raise Refusal(text % (size, MAX_BODY), "too-large")
    return size


class OnceError(AgentError):
    """The release could not be made ready here; `findings` say why."""

    code = "not-ready"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(found.seen for found in findings) or "the worker ended before it was ready")
        self.findings = list(findings)


def run_once(
    plan: WorkerPlan, requests: Sequence[Request], limit_s: float, on_tick: Optional[Callable[[], None]] = None
) -> List[Union[Answer, Refusal]]:
    """Load the release, pass its goldens, run each request within `limit_s`, and return what became of them in their order.

    `on_tick` is called about every second; what it raises ends the worker and goes on.  A request that ends the worker is
    refused, as are those after it.  Raises OnceError when the release does not pass, Refusal for more than can be sent.
    """
    loop = Loop()
    once = _Once(loop, plan, requests, limit_s)
    try:
        while not once.over:
            loop.turn(_TURN_S)
            if on_tick is not None:
                on_tick()
        if once.failed is not None:
            raise OnceError(once.failed)
        return once.results
    finally:
        once.end()
        loop.close()


class _Once:
    """One worker and the requests that it has still to run."""

    def __init__(self, loop: Loop, plan: WorkerPlan, requests: Sequence[Request], limit_s: float) -> None:
        self._loop, self._plan, self._limit_s = loop, plan, limit_s
        self._rest = list(requests)
        self.results: List[Union[Answer, Refusal]] = []
        self.failed: Optional[List[Finding]] = None
        self.over = False
        self._size = 0
        self._worker = Worker(loop, plan, self._ready, self._answer, self._end)

    def _ready(self, worker: Worker, facts: Dict[str, Any]) -> None:
        self._next()

    def _next(self) -> None:
        while self._rest:
            inputs, body = self._rest.pop(0)
            try:
                screen_inputs(self._plan.model, inputs, len(body))
            except Refusal as refusal:
                self.results.append(refusal)
                continue
            now = self._loop.now()
            ordered, data = in_order(self._plan.model, inputs, body)
            job = Job(self._plan.model.name, ordered, data, now, now + self._limit_s)
            self._worker.run([job], self._limit_s)
            return
        self.over = True

    def _answer(self, worker: Worker, jobs: List[Job], results: List[Union[Answer, Refusal]], took_ms: float) -> None:
        self.results += results
        self._size = bounded(self._size + sum(len(one.body) for one in results if isinstance(one, Answer)))
        self._next()

    def _end(self, worker: Worker, findings: List[Finding], jobs: List[Job]) -> None:
        self.over = True
        if not jobs:
            self.failed = findings
            return
        first = findings[0] if findings else None
        code = "timed-out" if first is not None and first.code == "LF408" else "crashed"
        said = "the worker ended while it ran this request: %s" % (first.seen if first else "no reason was seen")
        self.results.append(Refusal(said, code, first))
        self.results += [Refusal("a request before this one ended the worker", "crashed", first) for _ in self._rest]

    def end(self) -> None:
        """See the worker's process off."""
        self._worker.stop()
        until = self._loop.now() + _END_S
        while self._worker.state is not State.DEAD and self._loop.now() < until:
            self._loop.turn(0.05)
