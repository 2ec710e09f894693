"""What callers ask: screened by its header, answered at once or by a model's service, and told in the wire's form."""

from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from ..formats.nb import Tensor
from .connections import Caller
from .event_loop import Loop
from .framing import NotYet
from .messages import Job, Refusal, ServedModel, in_order, screen_inputs, tensors_of, tensors_to
from .metrics import ServiceFigures, metrics_text
from .model_service import ModelService
from .settings import Settings
from .status import health_dict
from .workers.handle import Answer

__all__ = ["Desk"]

_OPERATIONS = "infer, status, health, models, metrics"


class _Asked(NamedTuple):
    """An inference that was screened."""

    service: ModelService
    model: ServedModel  # as it was then
    tensors: Tuple[Tensor, ...]
    limit_s: float


class Desk:
    """Takes requests in and sends answers out; `status` makes the whole status."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        models: Mapping[str, ModelService],
        figures: ServiceFigures,
        status: Callable[[], Dict[str, Any]],
    ) -> None:
        self._loop, self._settings, self._models, self._figures, self._status = loop, settings, models, figures, status

    # --- by its header

    def screen(self, caller: Caller, header: Dict[str, Any], body_size: int) -> Optional[_Asked]:
        """Refuse by its header what need not be read.

        Raises Refusal; NotYet while a model is being loaded for the first time, so that a restart costs callers a wait.
        """
        try:
            return self._screened(caller, header, body_size)
        except Refusal as refusal:
            self._refused(header, refusal)
            raise

    def _screened(self, caller: Caller, header: Dict[str, Any], body_size: int) -> Optional[_Asked]:
        if header.get("op") != "infer":
            if body_size:
                raise Refusal("only `infer` takes a body", "bad-request")
            return None
        service = self._service(header.get("model"))
        limit_s = _limit(header.get("deadline_ms"), self._settings.time_limit_s)
        if service.warming:
            since = self._loop.now() if caller.parked_since is None else caller.parked_since
            if "deadline_ms" in header and self._loop.now() - since >= limit_s:
                raise Refusal("the request waited until its deadline; %s" % service.not_ready(), "timed-out")
            raise NotYet()
        model = service.model
        if model is None:
            raise service.not_ready()
        tensors = tensors_of(header.get("inputs"))
        screen_inputs(model, tensors, body_size)
        return _Asked(service, model, tensors, limit_s)

    def _refused(self, header: Dict[str, Any], refusal: Refusal) -> None:
        name = header.get("model")
        if name is None and len(self._models) == 1:
            name = next(iter(self._models))
        self._figures.refused(str(name or ""), refusal.code)

    def _service(self, name: Any) -> ModelService:
        if name is None and len(self._models) == 1:
            return next(iter(self._models.values()))
        service = self._models.get(name) if isinstance(name, str) else None
        if service is None:
            raise Refusal(
                "there is no model %.80r; there are %s" % (name, ", ".join(self._models) or "none"), "unknown-model"
            )
        return service

    # --- whole

    def request(self, caller: Caller, header: Dict[str, Any], body: bytes, asked: Optional[_Asked]) -> None:
        """Answer a whole request, now or when a worker has."""
        number = header.get("id")
        try:
            if asked is None:
                caller.reply({"re": number, "result": self._told(header.get("op"))})
            else:
                self._submit(asked, body, (caller, number))
        except Refusal as refusal:
            self._refused(header, refusal)
            caller.reply({"re": number, "error": refusal.to_dict()})

    def _told(self, operation: Any) -> Dict[str, Any]:
        if operation == "status":
            return self._status()
        if operation == "health":
            return health_dict(self._status())
        if operation == "metrics":
            return {"text": metrics_text(self._status())}
        if operation == "models":
            return {"models": [s.model.to_dict() for s in self._models.values() if s.model is not None]}
        raise Refusal("unknown request %.40r; known are %s" % (operation, _OPERATIONS), "bad-request")

    def _submit(self, asked: _Asked, body: bytes, tag: Tuple[Caller, Any]) -> None:
        service, model = asked.service, asked.service.model
        if model is None:
            raise service.not_ready()
        if model is not asked.model:  # another release took over while the body came in
            screen_inputs(model, asked.tensors, len(body))
        inputs, data = in_order(model, asked.tensors, body)
        now = self._loop.now()
        service.submit(Job(service.name, inputs, data, now, now + asked.limit_s, tag))

    # --- answers

    def answered(self, job: Job, result: Union[Answer, Refusal], wait_s: float, run_s: float, batch: int) -> None:
        """Tell whoever asked what came of it."""
        caller, number = job.tag
        if isinstance(result, Refusal):
            self._figures.answered(job.model, result.code, wait_s, run_s)
            caller.reply({"re": number, "error": result.to_dict()})
            return
        self._figures.answered(job.model, "ok", wait_s, run_s)
        told = {
            "model": job.model,
            "release": result.release,
            "outputs": tensors_to(result.outputs),
            "ms": {"wait": round(wait_s * 1e3, 3), "run": round(run_s * 1e3, 3)},
            "batch": batch,
        }
        caller.reply({"re": number, "result": told}, result.body)

    def gone(self, caller: Caller) -> None:
        """Forget what a caller that is gone still waits for."""
        for service in self._models.values():
            service.drop(lambda job: job.tag[0] is caller)


def _limit(deadline_ms: Any, most_s: float) -> float:
    if deadline_ms is None:
        return most_s
    if isinstance(deadline_ms, bool) or not isinstance(deadline_ms, (int, float)) or not 0 < deadline_ms < 1e9:
        raise Refusal("`deadline_ms` is %.40r; it must be a number above 0" % (deadline_ms,), "bad-request")
    return min(deadline_ms / 1e3, most_s)
