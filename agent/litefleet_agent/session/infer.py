"""A session's `infer`: requests through a validated model, by the service if it has that release loaded, else by one worker."""

import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..client import Client, Result, ServiceError
from ..errors import AgentError
from ..facts import Facts
from ..findings import Finding, ranked
from ..findings.environment import static_findings
from ..formats.nb import Tensor, read_nb
from ..formats.npz import Array
from ..protocol import Answered
from ..releases.store import Store, release_named
from ..service.listener import socket_path
from ..service.messages import Refusal, in_order, screen_inputs, size_of, tensors_of, tensors_to
from ..service.settings import load_settings
from ..service.workers.batching import all_finite
from ..service.workers.handle import Answer
from ..service.workers.one_shot import OnceError, bounded, run_once
from ..service.workers.plan import WorkerPlan, plan_of
from ..verification.golden_cases import precision_of

__all__ = ["MAX_BODY", "MAX_REQUESTS", "infer"]

MAX_BODY = 256 << 20  # bytes, of all requests together and of all answers together
MAX_REQUESTS = 256
_SYSTEM_SOCKET = "/run/litefleet/agent.sock"
_HELLO_S = 2.0  # for a service to say what it serves
_LIMIT_S = (0.05, 3600.0)
# what the service answers when it is not the one to ask: a worker of our own is started instead
_ELSEWHERE = ("not-running", "not-allowed", "not-ready", "unknown-model", "stopping", "protocol")

Request = Tuple[Tuple[Tensor, ...], bytes]


class _Elsewhere(Exception):
    """The service does not answer for this release."""


def infer(store: Store, facts: Facts, header: Mapping[str, Any], body: bytes, on_tick: Callable[[], None]) -> Answered:
    """Return the answers to {model, release?, requests: [{inputs: [{name, dtype, dims}]}], limit_s?}.

    The body holds all data, request by request; `limit_s` holds for each.  The result is {model, release, precision, by,
    findings, requests: [{outputs, ms} or {error}]}; findings say why nothing was run.

    Raises AgentError, and has run nothing: no such release here (as `release_named`), or a request that does not fit.
    """
    identity = release_named(store, header.get("model"), header.get("release"))
    plan = plan_of(store, identity, load_settings(store.root))
    requests = _requests(plan, header.get("requests"), body)
    limit_s = _limit(header.get("limit_s", 30.0))
    told: Dict[str, Any] = {
        "model": plan.model.name,
        "release": identity,
        "precision": _precision(plan),
        "findings": [],
    }
    for path in _sockets(store.root):
        try:
            answered = _by_service(path, plan, requests, limit_s, on_tick)
        except _Elsewhere:
            continue
        return Answered(dict(told, by="service", **answered.result), answered.body)
    answered = _one_shot(store, facts, plan, requests, limit_s, on_tick)
    return Answered(dict(told, by="one-shot", **answered.result), answered.body)


# --- what is asked


def _precision(plan: WorkerPlan) -> str:
    with open(plan.nb, "rb") as file:
        return precision_of(read_nb(file.read()))


def _limit(value: Any) -> float:
    low, high = _LIMIT_S
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise Refusal("`limit_s` must be a number from %s to %s" % (low, high), "bad-request")
    return float(value)


def _requests(plan: WorkerPlan, data: Any, body: bytes) -> List[Request]:
    """Return each request's tensors and data in the model's own order; Refusal for the first that does not fit."""
    if not isinstance(data, list) or not 0 < len(data) <= MAX_REQUESTS or not all(isinstance(r, dict) for r in data):
        raise Refusal("`requests` must be a list of 1 to %d" % MAX_REQUESTS, "bad-request")
    taken: List[Request] = []
    at = 0
    for number, one in enumerate(data, 1):
        tensors = tensors_of(one.get("inputs"))
        size = sum(size_of(tensor) for tensor in tensors)
        part = body[at : at + size]
        at += size
        try:
            screen_inputs(plan.model, tensors, len(part))
            _finite(tensors, part)
        except Refusal as refusal:
            raise Refusal("request %d of %d: %s" % (number, len(data), refusal), refusal.code) from refusal
        taken.append(in_order(plan.model, tensors, part))
    if at != len(body):
        raise Refusal("the requests take %d bytes, and %d were sent" % (at, len(body)), "bad-input")
    return taken


def _arrays(request: Request) -> Dict[str, Array]:
    tensors, body = request
    arrays, at = {}, 0
    for tensor in tensors:
        size = size_of(tensor)
        arrays[tensor.name] = Array(tensor.dtype, tensor.dims, body[at : at + size])
        at += size
    return arrays


def _finite(tensors: Tuple[Tensor, ...], body: bytes) -> None:
    for name, value in _arrays((tensors, body)).items():
        if not all_finite(value):
            raise Refusal("%.80r holds NaN or Inf" % name, "bad-input")


# --- by the service


def _sockets(root: str) -> List[str]:
    """Return where a service could answer for this root; the environment is the login's, so systemd's own place is tried too."""
    try:
        own = socket_path(load_settings(root), root, {})
    except AgentError:  # a path that is too long: no service has it
        own = ""
    places = [own, _SYSTEM_SOCKET]
    return [path for path in dict.fromkeys(places) if path and os.path.exists(path)]


def _by_service(
    path: str, plan: WorkerPlan, requests: Sequence[Request], limit_s: float, on_tick: Callable[[], None]
) -> Answered:
    """Ask a service; _Elsewhere unless it has just this release loaded."""
    with Client(path, _HELLO_S) as client:
        try:
            served = client.models()
        except ServiceError as error:
            raise _Elsewhere() from error
    releases = [
        item.get("release") for item in served if isinstance(item, dict) and item.get("name") == plan.model.name
    ]
    if plan.model.release not in releases:
        raise _Elsewhere()
    told: List[Dict[str, Any]] = []
    parts: List[bytes] = []
    with Client(path, limit_s + 1.0) as client:
        for request in requests:
            try:
                result = client.infer(plan.model.name, _arrays(request), limit_s * 1e3)
            except ServiceError as error:
                if error.code in _ELSEWHERE and not told:
                    raise _Elsewhere() from error
                told.append(_refused(error.code, str(error), error.finding))
            else:
                told.append(_told(plan, result, parts))
            on_tick()
            bounded(sum(map(len, parts)))
    return Answered({"requests": told}, parts)


def _told(plan: WorkerPlan, result: Result, parts: List[bytes]) -> Dict[str, Any]:
    if result.release != plan.model.release:  # it was switched between two requests
        seen = "the service went over to release %s meanwhile: ask again" % result.release[:12]
        return _refused("not-ready", seen, None)
    parts += [value.data for value in result.outputs.values()]
    outputs = tuple(Tensor(name, value.dtype, value.shape) for name, value in result.outputs.items())
    return {"outputs": tensors_to(outputs), "ms": round(result.run_ms, 3)}


def _refused(code: str, message: str, found: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    error: Dict[str, Any] = {"code": code, "message": message}
    if found is not None:
        error["finding"] = found
    return {"error": error}


# --- by a worker of our own


def _one_shot(
    store: Store,
    facts: Facts,
    plan: WorkerPlan,
    requests: Sequence[Request],
    limit_s: float,
    on_tick: Callable[[], None],
) -> Answered:
    against = [f for f in static_findings(plan.nb, facts, plan.runtime, plan.nb_sha256) if f.decides]
    if against:
        return _not_ready(against)
    try:
        results = run_once(plan, requests, limit_s, on_tick)
    except OnceError as error:
        return _not_ready(error.findings)
    told: List[Dict[str, Any]] = []
    parts: List[bytes] = []
    for result in results:
        if isinstance(result, Answer):
            told.append({"outputs": tensors_to(result.outputs), "ms": result.ms})
            parts.append(result.body)
        else:
            told.append({"error": result.to_dict()})
    return Answered({"requests": told}, parts)


def _not_ready(findings: Sequence[Finding]) -> Answered:
    return Answered({"requests": [], "findings": [found.to_dict() for found in ranked(list(findings)[:64])]}, [])
