"""Handles the requests of clients: validates the header, answers at once or has a model's service answer, and replies."""

from typing import Callable, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from ..formats.npz import MAX_LOD_LEVELS
from .connections import Connection
from .event_loop import EventLoop
from .framing import Backpressure
from .messages import (
    Job,
    Rejection,
    Response,
    SentTensor,
    ServedModel,
    in_order,
    tensors_of,
    tensors_to,
    validate_inputs,
)
from .metrics import ServiceCounters, metrics_text
from .model_service import ModelService
from .status import ServiceStatus

_OPERATIONS = "infer, status, health, models, metrics"


class _ValidRequest(NamedTuple):
    """An `infer` request whose header is valid."""

    service: ModelService
    model: ServedModel  # active when the header arrived
    tensors: Tuple[SentTensor, ...]
    limit_s: float


class _Requester(NamedTuple):
    """The connection that sent a request, and the request's number on it."""

    connection: Connection
    number: object


class RequestHandler:
    """Dispatches requests and sends their answers; `status` returns the whole status."""

    def __init__(
        self,
        loop: EventLoop,
        models: Mapping[str, ModelService],
        counters: ServiceCounters,
        status: Callable[[], ServiceStatus],
    ) -> None:
        self._loop, self._models, self._counters = loop, models, counters
        self._status = status

    # --- headers

    def validate_request(
        self, connection: Connection, header: Dict[str, object], body_size: int
    ) -> Optional[_ValidRequest]:
        """Return the valid `infer` request, None for the other operations; called before the body is read.

        Raises Rejection, and Backpressure while a model loads for the first time, so that a restart only delays clients.
        """
        try:
            return self._validated(connection, header, body_size)
        except Rejection as rejection:
            self._count_rejection(header, rejection)
            raise

    def _validated(self, connection: Connection, header: Dict[str, object], body_size: int) -> Optional[_ValidRequest]:
        if header.get("op") != "infer":
            if body_size:
                raise Rejection("only `infer` takes a body", "bad-request")
            return None
        service = self._service(header.get("model"))
        limit_s = _limit(header.get("deadline_ms"), service.run_limit_s)
        if service.warming:
            since = self._loop.now() if connection.paused_since is None else connection.paused_since
            if "deadline_ms" in header and self._loop.now() - since >= limit_s:
                raise Rejection("the request waited until its deadline; %s" % service.not_ready(), "timed-out")
            raise Backpressure()
        model = service.model
        if model is None:
            raise service.not_ready()
        tensors = tensors_of(header.get("inputs"))
        validate_inputs(model, tensors, body_size)
        return _ValidRequest(service, model, tensors, limit_s)

    def _count_rejection(self, header: Dict[str, object], rejection: Rejection) -> None:
        name = header.get("model")
        if name is None and len(self._models) == 1:
            name = next(iter(self._models))
        self._counters.rejected(str(name or ""), rejection.code)

    def _service(self, name: object) -> ModelService:
        if name is None and len(self._models) == 1:
            return next(iter(self._models.values()))
        service = self._models.get(name) if isinstance(name, str) else None
        if service is None:
            raise Rejection(
                "unknown model %.80r; known are: %s" % (name, ", ".join(self._models) or "none"), "unknown-model"
            )
        return service

    # --- whole requests

    def handle(self, connection: Connection, header: Dict[str, object], body: bytes, request: object) -> None:
        """Answer a whole request, now or once a worker has; `request` is what `validate_request` returned."""
        number = header.get("id")
        try:
            if isinstance(request, _ValidRequest):
                self._submit(request, body, _Requester(connection, number))
            else:
                connection.reply({"re": number, "result": self._query(header.get("op"))})
        except Rejection as rejection:
            self._count_rejection(header, rejection)
            connection.reply({"re": number, "error": rejection.to_dict()})

    def _query(self, operation: object) -> Dict[str, object]:
        if operation == "status":
            return self._status().to_dict()
        if operation == "health":
            return self._status().health_dict()
        if operation == "metrics":
            return {"text": metrics_text(self._status())}
        if operation == "models":
            served = [s.model.to_dict() for s in self._models.values() if s.model is not None]
            return {"models": served, "lod_levels": MAX_LOD_LEVELS}
        raise Rejection("unknown request %.40r; known are %s" % (operation, _OPERATIONS), "bad-request")

    def _submit(self, request: _ValidRequest, body: bytes, requester: _Requester) -> None:
        service, model = request.service, request.service.model
        if model is None:
            raise service.not_ready()
        if model is not request.model:  # another release became active while the body arrived
            validate_inputs(model, request.tensors, len(body))
        inputs, data = in_order(model, request.tensors, body)
        now = self._loop.now()
        service.submit(Job(service.name, inputs, data, now, now + request.limit_s, requester))

    # --- answers

    def answered(self, job: Job, result: Union[Response, Rejection], wait_s: float, run_s: float, batch: int) -> None:
        """Send the result of a request to its client."""
        assert isinstance(job.tag, _Requester)
        connection, number = job.tag
        if isinstance(result, Rejection):
            self._counters.answered(job.model, result.code, wait_s, run_s)
            connection.reply({"re": number, "error": result.to_dict()})
            return
        self._counters.answered(job.model, "ok", wait_s, run_s)
        content: Dict[str, object] = {
            "model": job.model,
            "release": result.release,
            "outputs": tensors_to(result.outputs),
            "ms": {"wait": round(wait_s * 1e3, 3), "run": round(run_s * 1e3, 3)},
            "batch": batch,
        }
        connection.reply({"re": number, "result": content}, result.body)

    def connection_closed(self, connection: Connection) -> None:
        """Drop the waiting requests of a closed connection."""
        for service in self._models.values():
            service.drop(lambda job: isinstance(job.tag, _Requester) and job.tag.connection is connection)


def _limit(deadline_ms: object, most_s: float) -> float:
    """Return a request's time limit in seconds.  Raises Rejection "bad-request"."""
    if deadline_ms is None:
        return most_s
    if isinstance(deadline_ms, bool) or not isinstance(deadline_ms, (int, float)) or not 0 < deadline_ms < 1e9:
        raise Rejection("`deadline_ms` is %.40r; it must be a number above 0" % (deadline_ms,), "bad-request")
    return min(deadline_ms / 1e3, most_s)
