"""What the service's parts tell each other: models, requests, refusals.  Pure.

A tensor's elements are little-endian on the wire, in C order, without padding.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ..errors import AgentError
from ..findings import Finding
from ..formats.nb import Tensor
from ..formats.npz import DTYPES
from ..protocol import ProtocolError

__all__ = [
    "MAX_RESPONSE",
    "Job",
    "Rejection",
    "RequestOutcome",
    "Response",
    "ServedModel",
    "body_size",
    "facts_of",
    "findings_of",
    "in_order",
    "number",
    "outcomes_of",
    "results_of",
    "size_of",
    "tensors_of",
    "tensors_to",
    "validate_inputs",
]


@dataclass(frozen=True)
class ServedModel:
    """One model of one release, as a caller sees it."""

    name: str
    release: str
    inputs: Tuple[Tensor, ...]  # in the order of the model's feeds
    outputs: Tuple[Tensor, ...]
    batches: bool = False  # requests may be run together along the first dimension

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "release": self.release,
            "inputs": tensors_to(self.inputs),
            "outputs": tensors_to(self.outputs),
            "batches": self.batches,
        }


@dataclass(eq=False)
class Job:
    """One request on its way: accepted, waiting or running.  Times are of the monotonic clock, in seconds."""

    model: str
    inputs: Tuple[Tensor, ...]
    body: bytes  # the inputs' data, one after the other
    accepted: float
    deadline: float
    tag: Any = None  # whose it is; the queue and the workers do not look at it
    attempts: int = 0  # workers that died of it, or beside it
    begun: bool = False  # a worker runs it; one that was given it ahead may not yet
    answered: bool = False  # also when its deadline passed while it ran

    @property
    def weight(self) -> int:
        """How much memory it holds, in bytes."""
        return len(self.body)


class Rejection(AgentError):
    """A request that gets an error instead of an answer; `code` is one of those in docs/service.md.

    "bad-request", "bad-input", "unknown-model", "not-ready", "busy", "timed-out", "crashed", "bad-output", "too-large",
    "not-allowed", "stopping".
    """

    code = "bad-request"

    def __init__(self, message: str, code: str, finding: Optional[Finding] = None) -> None:
        super().__init__(message, code)
        self.finding = finding

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire's `error` object."""
        result: Dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.finding is not None:
            result["finding"] = self.finding.to_dict()
        return result


def tensors_to(tensors: Tuple[Tensor, ...]) -> List[Dict[str, Any]]:
    """Return tensors' JSON form."""
    return [{"name": t.name, "dtype": t.dtype, "dims": list(t.dims)} for t in tensors]


_MOST_TENSORS = 64
_MOST_DIMS = 8
_MOST_SIZE = 1 << 31


def tensors_of(data: Any) -> Tuple[Tensor, ...]:
    """Read the JSON form of tensors with their data; Refusal "bad-request" that names what does not fit."""
    if not isinstance(data, list) or not 0 < len(data) <= _MOST_TENSORS:
        raise Rejection("`inputs` must be a list of 1 to %d tensors" % _MOST_TENSORS, "bad-request")
    return tuple(_tensor(item) for item in data)


def _tensor(item: Any) -> Tensor:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not isinstance(item.get("dtype"), str):
        raise Rejection("a tensor is {name, dtype, dims}", "bad-request")
    dims = item.get("dims")
    if not isinstance(dims, list) or len(dims) > _MOST_DIMS or not all(_is_size(d) for d in dims):
        raise Rejection(
            "the dims of %.80r must be a list of up to %d sizes" % (item["name"], _MOST_DIMS), "bad-request"
        )
    return Tensor(item["name"], item["dtype"], tuple(dims))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_SIZE


def size_of(tensor: Tensor) -> int:
    """Return how many bytes a tensor's data has; its dims are all known."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count * DTYPES.get(tensor.dtype, 0)


def validate_inputs(model: ServedModel, given: Tuple[Tensor, ...], body_size: int) -> None:
    """Raise Refusal "bad-input", with a sentence, unless `given` are exactly the model's inputs."""
    wanted = {tensor.name: tensor for tensor in model.inputs}
    names = [tensor.name for tensor in given]
    if sorted(names) != sorted(wanted):
        raise _bad(model, "it takes %s, and was given %s" % (_names(list(wanted)), _names(names)))
    for tensor in given:
        _validate(model, wanted[tensor.name], tensor)
    size = sum(size_of(tensor) for tensor in given)
    if size != body_size:
        raise _bad(model, "its inputs take %d bytes in these dims, and %d were sent" % (size, body_size))


def _validate(model: ServedModel, want: Tensor, given: Tensor) -> None:
    if given.dtype != want.dtype:
        raise _bad(model, "%s is %s, and %s was sent: convert it first" % (want.name, want.dtype, given.dtype[:20]))
    fits = len(given.dims) == len(want.dims) and all(w in (-1, g) for w, g in zip(want.dims, given.dims))  # noqa: B905 - 3.7
    if not fits:
        raise _bad(model, "%s is %s, and %s was sent" % (want.name, _dims(want.dims), _dims(given.dims)))


def in_order(model: ServedModel, given: Tuple[Tensor, ...], body: bytes) -> Tuple[Tuple[Tensor, ...], bytes]:
    """Return tensors and data in the order of the model's own inputs."""
    if [t.name for t in given] == [t.name for t in model.inputs]:
        return given, body
    parts: Dict[str, Tuple[Tensor, bytes]] = {}
    at = 0
    for tensor in given:
        size = size_of(tensor)
        parts[tensor.name] = tensor, body[at : at + size]
        at += size
    ordered = [parts[tensor.name] for tensor in model.inputs]
    return tuple(tensor for tensor, _ in ordered), b"".join(data for _, data in ordered)


def _bad(model: ServedModel, text: str) -> Rejection:
    return Rejection("%s: %s" % (model.name, text), "bad-input")


def _names(names: List[str]) -> str:
    return ", ".join("%.80r" % name for name in names[:16]) or "nothing"


def _dims(dims: Tuple[int, ...]) -> str:
    return " x ".join("?" if dim < 0 else str(dim) for dim in dims) or "a single value"


MAX_RESPONSE = 1 << 30  # bytes of one batch's outputs
_MOST_ANSWER_DIMS = 16
_MOST_FINDINGS = 64
_CODES = ("bad-request", "bad-input", "bad-output", "crashed")


@dataclass(frozen=True)
class Response:
    """What one request came to: the outputs, and their data one after the other."""

    outputs: Tuple[Tensor, ...]
    body: bytes
    release: str
    ms: float = 0.0  # that the run took which answered it, and those beside it in a batch


def number(value: Any) -> float:
    """Return a figure; 0.0 for what is none."""
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if valid else 0.0


def findings_of(data: Any) -> List[Finding]:
    """Read findings, as many as anybody reads."""
    return [Finding.from_dict(item) for item in data[:_MOST_FINDINGS]] if isinstance(data, list) else []


def facts_of(header: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a ready worker tells of itself."""
    golden = header.get("golden")
    return {
        "load_ms": number(header.get("load_ms")),
        "runtime_version": str(header.get("runtime_version", ""))[:100],
        "numpy_version": str(header.get("numpy_version", ""))[:100],
        "threads_set_by": str(header.get("threads_set_by", ""))[:100],
        "power_mode": str(header.get("power_mode", ""))[:100],
        "batches": header.get("batches") is True,
        "golden": golden if isinstance(golden, dict) else {},
    }


def _requests(header: Dict[str, Any], count: int) -> List[Dict[str, Any]]:
    result = header.get("result")
    requests = result.get("requests") if isinstance(result, dict) else None
    if not isinstance(requests, list) or len(requests) != count or not all(isinstance(r, dict) for r in requests):
        raise ProtocolError("it did not answer each of %d requests" % count)
    return requests


def _outputs(request: Dict[str, Any], model: ServedModel) -> Tuple[Tensor, ...]:
    given = request.get("outputs")
    if not isinstance(given, list) or len(given) != len(model.outputs):
        raise ProtocolError("it did not give the %d outputs of %s" % (len(model.outputs), model.name))
    return tuple(_output(item, want) for item, want in zip(given, model.outputs))  # noqa: B905 - 3.7


def _output(item: Any, want: Tensor) -> Tensor:
    dims = item.get("dims") if isinstance(item, dict) else None
    valid = (
        isinstance(dims, list)
        and len(dims) <= _MOST_ANSWER_DIMS
        and all(type(d) is int and 0 <= d < 1 << 31 for d in dims)
    )
    if not valid or dims is None or item.get("name") != want.name or item.get("dtype") not in DTYPES:
        raise ProtocolError("it described the output %s in a way that can't be read" % want.name)
    return Tensor(want.name, item["dtype"], tuple(dims))


RequestOutcome = Union[Tuple[Tensor, ...], Rejection]  # what one request came to, without its data


def outcomes_of(header: Dict[str, Any], count: int, model: ServedModel) -> List[RequestOutcome]:
    """Return what an answer to `count` requests announces for each, in their order.  Raises ProtocolError."""
    return [
        _rejection(request["error"]) if "error" in request else _outputs(request, model)
        for request in _requests(header, count)
    ]


def body_size(outcomes: Sequence[RequestOutcome]) -> int:
    """Return how many bytes the outputs take that were announced."""
    return sum(size_of(tensor) for one in outcomes if not isinstance(one, Rejection) for tensor in one)


def results_of(
    outcomes: Sequence[RequestOutcome], body: bytes, release: str, took_ms: float
) -> List[Union[Response, Rejection]]:
    """Return what became of each request, once the body of that size is there."""
    results: List[Union[Response, Rejection]] = []
    at = 0
    for one in outcomes:
        if isinstance(one, Rejection):
            results.append(one)
            continue
        size = sum(size_of(tensor) for tensor in one)
        results.append(Response(one, body if size == len(body) else body[at : at + size], release, took_ms))
        at += size
    return results


def _rejection(error: Any) -> Rejection:
    if not isinstance(error, dict):
        raise ProtocolError("it refused a request without saying why")
    code = error.get("code")
    found = error.get("finding")
    return Rejection(
        str(error.get("message", ""))[:2000],
        str(code) if code in _CODES else "crashed",
        Finding.from_dict(found) if isinstance(found, dict) else None,
    )
