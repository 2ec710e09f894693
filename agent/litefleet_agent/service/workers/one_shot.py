"""Validated inference without a daemon: starts one worker, runs requests, and ends it.  Blocks."""

from typing import Callable, List, Optional, Sequence, Tuple, Union

from ...errors import AgentError
from ...findings import Finding
from ...protocol import MAX_BODY
from ..event_loop import EventLoop
from ..messages import Job, Rejection, Response, SentTensor, in_order, validate_inputs
from ..status import WorkerFacts
from .handle import State, WorkerHandle
from .plan import WorkerPlan

Request = Tuple[Tuple[SentTensor, ...], bytes]  # inputs, and their data one after the other
_TURN_S = 1.0
_END_S = 3.0  # for the worker to end


def check_body_size(size: int) -> int:
    """Return `size`, the bytes of all outputs so far; Rejection "too-large" when one frame cannot hold them."""
    if size > MAX_BODY:
        text = "the outputs have %d bytes or more, and %d can be sent: send fewer inputs"
        raise Rejection(text % (size, MAX_BODY), "too-large")
    return size


class OneShotError(AgentError):
    """The worker did not become ready; `findings` give the reasons."""

    code = "not-ready"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(found.observed for found in findings) or "the worker ended before it was ready")
        self.findings = list(findings)


def run_one_shot(
    plan: WorkerPlan, requests: Sequence[Request], limit_s: float, on_tick: Optional[Callable[[], None]] = None
) -> List[Union[Response, Rejection]]:
    """Load the release, pass its goldens, run each request within `limit_s`, and return the results in their order.

    `on_tick` is called about every second; an exception of it ends the worker and is passed on.  A request that crashes the
    worker is rejected, as are those after it.

    Raises OneShotError when the release does not pass, Rejection "too-large" for outputs that no frame can hold.
    """
    loop = EventLoop()
    one_shot = _OneShot(loop, plan, requests, limit_s)
    try:
        while not one_shot.finished:
            loop.turn(_TURN_S)
            if on_tick is not None:
                on_tick()
        if one_shot.failed is not None:
            raise OneShotError(one_shot.failed)
        return one_shot.results
    finally:
        one_shot.end()
        loop.close()


class _OneShot:
    """One worker and its remaining requests."""

    def __init__(self, loop: EventLoop, plan: WorkerPlan, requests: Sequence[Request], limit_s: float) -> None:
        self._loop, self._plan, self._limit_s = loop, plan, limit_s
        self._rest = list(requests)
        self.results: List[Union[Response, Rejection]] = []
        self.failed: Optional[List[Finding]] = None
        self.finished = False
        self._size = 0
        self._worker = WorkerHandle(loop, plan, self._ready, self._answer, self._end)

    def _ready(self, worker: WorkerHandle, facts: WorkerFacts) -> None:
        self._next()

    def _next(self) -> None:
        while self._rest:
            inputs, body = self._rest.pop(0)
            try:
                validate_inputs(self._plan.model, inputs, len(body))
            except Rejection as rejection:
                self.results.append(rejection)
                continue
            now = self._loop.now()
            ordered, data = in_order(self._plan.model, inputs, body)
            job = Job(self._plan.model.name, ordered, data, now, now + self._limit_s)
            self._worker.run([job], self._limit_s)
            return
        self.finished = True

    def _answer(
        self, worker: WorkerHandle, jobs: List[Job], results: List[Union[Response, Rejection]], took_ms: float
    ) -> None:
        self.results += results
        self._size = check_body_size(self._size + sum(len(one.body) for one in results if isinstance(one, Response)))
        self._next()

    def _end(self, worker: WorkerHandle, findings: List[Finding], jobs: List[Job]) -> None:
        self.finished = True
        if not jobs:
            self.failed = findings
            return
        first = findings[0] if findings else None
        code = "timed-out" if first is not None and first.code == "LF408" else "crashed"
        message = "the worker ended while it ran this request: %s" % (first.observed if first else "no reason is known")
        self.results.append(Rejection(message, code, first))
        self.results += [Rejection("a request before this one ended the worker", "crashed", first) for _ in self._rest]

    def end(self) -> None:
        """Stop the worker and wait up to 3 s for its end."""
        self._worker.stop()
        until = self._loop.now() + _END_S
        while self._worker.state is not State.DEAD and self._loop.now() < until:
            self._loop.turn(0.05)
