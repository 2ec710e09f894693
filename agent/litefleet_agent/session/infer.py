"""The request `infer`: runs inputs through a verified release, by the service that has it loaded, else by a worker."""

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..client import Client, Result, ServiceError
from ..errors import AgentError
from ..facts import Facts
from ..findings import Finding, ranked
from ..findings.environment import static_findings
from ..formats.checked import number
from ..formats.nb import read_nb
from ..formats.npz import Array
from ..protocol import Header, ResponseParts
from ..releases.kept_inputs import KeptInputs
from ..releases.selector import ReleaseSelector
from ..releases.store import Store
from ..service.listener import socket_path
from ..service.messages import (
    Rejection,
    Response,
    SentTensor,
    in_order,
    size_of,
    tensors_of,
    tensors_to,
    validate_inputs,
)
from ..service.settings import load_settings
from ..service.workers.batching import all_finite
from ..service.workers.one_shot import OneShotError, check_body_size, run_one_shot
from ..service.workers.plan import WorkerPlan, plan_of
from ..verification.golden_cases import precision_of

MAX_BODY = 256 << 20  # bytes, of all inputs together and of all outputs together
MAX_REQUESTS = 256
_SYSTEM_SOCKET = "/run/litefleet/agent.sock"
_MODELS_TIMEOUT_S = 2.0  # for a service to list its models
_LIMIT_S = (0.05, 3600.0)
# codes with which a service does not serve the release: a worker is started instead
_NOT_SERVED_CODES = (
    "not-running", "not-allowed", "not-ready", "unknown-model", "stopping", "protocol", "not-trusted", "no-lod",
)  # fmt: skip

Request = Tuple[Tuple[SentTensor, ...], bytes]  # tensors in the model's order, and their data


class _NotServed(Exception):
    """No service has this release loaded."""


class _Options(NamedTuple):
    """How the inputs of one `infer` are run."""

    plan: WorkerPlan
    limit_s: float  # for each request
    on_tick: Callable[[], None]


def infer(store: Store, facts: Facts, header: Header, body: bytes, on_tick: Callable[[], None]) -> ResponseParts:
    """Run {model, release?, requests: [{inputs: [{name, dtype, dims, lod?}], keep?, kept?}], limit_s?}.

    `body` holds all data, request by request.  With `keep: true` a request's data stays on the device where there is room;
    `kept: SHA-256` names such data, and the body then holds none for this request.  Data that is not kept (any more) is
    answered by the error "inputs-not-kept"; the other requests run.

    `limit_s` (0.05 to 3600, default 30) holds for each request.  `on_tick` is called at least between two requests.  Returns
    {model, release, precision, by, findings, requests: [{outputs, ms} or {error}]}; findings say why nothing was run.

    Raises AgentError, with nothing run, when the release is missing (as `ReleaseSelector.resolve`) or a request does not fit.
    """
    identity = ReleaseSelector.parse(header.get("model"), header.get("release")).resolve(store)
    plan = plan_of(store, identity, load_settings(store.root))
    all_requests = _requests(plan, header.get("requests"), body, KeptInputs(store))
    requests = [request for request in all_requests if request is not None]
    options = _Options(plan, _limit(header.get("limit_s", 30.0)), on_tick)
    base: Header = {
        "model": plan.model.name,
        "release": identity,
        "precision": _precision(plan),
        "findings": [],
    }
    if not requests:
        return ResponseParts(dict(base, by="", requests=_with_lacking([], all_requests)), [])
    by, response = _run(store, facts, options, requests)
    result = dict(base, by=by, **response.result)
    if result["requests"]:
        result["requests"] = _with_lacking(response.result["requests"], all_requests)
    return ResponseParts(result, response.body)


def _run(store: Store, facts: Facts, options: _Options, requests: Sequence[Request]) -> Tuple[str, ResponseParts]:
    for path in _sockets(store.root):
        try:
            return "service", _by_service(path, options, requests)
        except _NotServed:
            continue
    return "one-shot", _one_shot(facts, options, requests)


def _with_lacking(entries: Any, requests: Sequence[Optional[Request]]) -> List[Header]:
    """Return the entries of all requests: those whose data is not kept have an error."""
    answered = iter(entries)
    message = "the inputs of this request are not kept on this device: send them"
    return [next(answered) if request is not None else _error("inputs-not-kept", message, None) for request in requests]


# --- the request


def _precision(plan: WorkerPlan) -> str:
    with open(plan.nb, "rb") as file:
        return precision_of(read_nb(file.read()))


def _limit(value: object) -> float:
    low, high = _LIMIT_S
    try:
        return float(number(value, low, high))
    except ValueError:
        raise Rejection("`limit_s` must be a number from %s to %s" % (low, high), "bad-request") from None


def _requests(plan: WorkerPlan, data: object, body: bytes, inputs: KeptInputs) -> List[Optional[Request]]:
    """Return each request's tensors and data in the model's order, None where its data is not kept.

    Raises Rejection for the first that does not fit.
    """
    if not isinstance(data, list) or not 0 < len(data) <= MAX_REQUESTS or not all(isinstance(r, dict) for r in data):
        raise Rejection("`requests` must be a list of 1 to %d" % MAX_REQUESTS, "bad-request")
    requests: List[Optional[Request]] = []
    at = total = 0
    for place, one in enumerate(data, 1):
        tensors = tensors_of(one.get("inputs"))
        size = sum(size_of(tensor) for tensor in tensors)
        total += size
        if total > MAX_BODY:
            raise Rejection("the requests take more than %d bytes together" % MAX_BODY, "too-large")
        part = _data(one, body[at : at + size], inputs)
        at += 0 if "kept" in one else size
        if part is None:
            requests.append(None)
            continue
        try:
            validate_inputs(plan.model, tensors, len(part))
            _finite(tensors, part)
            if one.get("keep") is True:
                inputs.keep(part)
        except Rejection as rejection:
            raise Rejection("request %d of %d: %s" % (place, len(data), rejection), rejection.code) from rejection
        requests.append(in_order(plan.model, tensors, part))
    if at != len(body):
        raise Rejection("the requests take %d bytes, and %d were sent" % (at, len(body)), "bad-input")
    return requests


def _data(one: Header, sent: bytes, inputs: KeptInputs) -> Optional[bytes]:
    """Return a request's data: what was sent, or what is kept; None where it is not."""
    if "kept" not in one:
        return sent
    sha = one["kept"]
    return inputs.get(sha) if isinstance(sha, str) else None


def _arrays(request: Request) -> Dict[str, Array]:
    tensors, body = request
    arrays, at = {}, 0
    for tensor in tensors:
        size = size_of(tensor)
        arrays[tensor.name] = Array(tensor.dtype, tensor.dims, body[at : at + size], tensor.lod)
        at += size
    return arrays


def _finite(tensors: Tuple[SentTensor, ...], body: bytes) -> None:
    for name, value in _arrays((tensors, body)).items():
        if not all_finite(value):
            raise Rejection("%.80r holds NaN or Inf" % name, "bad-input")


# --- by the service


def _sockets(root: str) -> List[str]:
    """Return the sockets on which a service for this root may listen: the configured one, and systemd's."""
    try:
        own = socket_path(load_settings(root), root, {})
    except AgentError:  # a path that is too long: no service has it
        own = ""
    places = [own, _SYSTEM_SOCKET]
    return [path for path in dict.fromkeys(places) if path and os.path.exists(path)]


def _by_service(path: str, options: _Options, requests: Sequence[Request]) -> ResponseParts:
    """Send the requests to a service; _NotServed unless it has this very release loaded."""
    plan, limit_s = options.plan, options.limit_s
    with Client(path, _MODELS_TIMEOUT_S) as client:
        try:
            served = client.models()
        except ServiceError as error:
            raise _NotServed() from error
    releases = [
        item.get("release") for item in served if isinstance(item, dict) and item.get("name") == plan.model.name
    ]
    if plan.model.release not in releases:
        raise _NotServed()
    entries: List[Header] = []
    parts: List[bytes] = []
    with Client(path, limit_s + 1.0) as client:
        for request in requests:
            try:
                result = client.infer(plan.model.name, _arrays(request), limit_s * 1e3)
            except ServiceError as error:
                if error.code in _NOT_SERVED_CODES and not entries:
                    raise _NotServed() from error
                entries.append(_error(error.code, str(error), error.finding))
            else:
                entries.append(_result(plan, result, parts))
            options.on_tick()
            check_body_size(sum(map(len, parts)))
    return ResponseParts({"requests": entries}, parts)


def _result(plan: WorkerPlan, result: Result, parts: List[bytes]) -> Header:
    if result.release != plan.model.release:  # switched between two requests
        message = "the service switched to release %s meanwhile: repeat the command" % result.release[:12]
        return _error("not-ready", message, None)
    parts += [value.data for value in result.outputs.values()]
    outputs = tuple(SentTensor.of(name, value) for name, value in result.outputs.items())
    return {"outputs": tensors_to(outputs), "ms": round(result.run_ms, 3)}


def _error(code: str, message: str, found: object) -> Header:
    error: Header = {"code": code, "message": message}
    if found is not None:
        error["finding"] = found
    return {"error": error}


# --- by a worker


def _one_shot(facts: Facts, options: _Options, requests: Sequence[Request]) -> ResponseParts:
    plan = options.plan
    blockers = [f for f in static_findings(plan.nb, facts, plan.runtime, plan.nb_sha256, plan.engine) if f.decides]
    if blockers:
        return _not_ready(blockers)
    try:
        results = run_one_shot(plan, requests, options.limit_s, options.on_tick)
    except OneShotError as error:
        return _not_ready(error.findings)
    entries: List[Header] = []
    parts: List[bytes] = []
    for result in results:
        if isinstance(result, Response):
            entries.append({"outputs": tensors_to(result.outputs), "ms": result.ms})
            parts.append(result.body)
        else:
            entries.append({"error": result.to_dict()})
    return ResponseParts({"requests": entries}, parts)


def _not_ready(findings: Sequence[Finding]) -> ResponseParts:
    return ResponseParts({"requests": [], "findings": [found.to_wire() for found in ranked(list(findings)[:64])]}, [])
