"""The values that the parts of the service exchange: models, requests, responses, rejections; and their validation.  Pure.

A tensor's elements are little-endian on the wire, in C order, without padding.
"""

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from ..errors import AgentError
from ..findings import Finding
from ..formats.checked import number_or, shortened
from ..formats.engine_settings import SettingReport, parse_reports
from ..formats.nb import Tensor
from ..formats.npz import DTYPES, Array, Lod, read_lod
from ..protocol import ProtocolError
from .status import WorkerFacts


@dataclass(frozen=True)
class ServedModel:
    """One model of one release, as a client sees it."""

    name: str
    release: str
    inputs: Tuple[Tensor, ...]  # in the order of the model's feeds
    outputs: Tuple[Tensor, ...]
    batches: bool = False  # requests may run together along the first dimension

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "release": self.release,
            "inputs": [_declared(tensor) for tensor in self.inputs],
            "outputs": [_declared(tensor) for tensor in self.outputs],
            "batches": self.batches,
        }


def _declared(tensor: Tensor) -> Dict[str, object]:
    return {"name": tensor.name, "dtype": tensor.dtype, "dims": list(tensor.dims)}


class SentTensor(NamedTuple):
    """The description of a tensor whose data is sent: of a request, or of a response."""

    name: str
    dtype: str
    dims: Tuple[int, ...]  # all known
    lod: Lod = ()  # its sequences, as `npz.Array` has them

    @classmethod
    def of(cls, name: str, value: Array) -> "SentTensor":
        """Return the description of an array."""
        return cls(name, value.dtype, value.shape, value.lod)


@dataclass(eq=False)
class Job:
    """One accepted request, waiting or running.  Times are on the monotonic clock, in seconds."""

    model: str
    inputs: Tuple[SentTensor, ...]
    body: bytes  # the inputs' data, one after the other
    accepted: float
    deadline: float
    tag: object = None  # identifies the requester; the queue and the workers ignore it
    attempts: int = 0  # workers that died while they ran it
    begun: bool = False  # a worker runs it; False while it waits in a worker's socket
    answered: bool = False  # also when its deadline passed while it ran

    @property
    def weight(self) -> int:
        """The memory that it holds, in bytes."""
        return len(self.body)


class Rejection(AgentError):
    """A request gets an error instead of an answer; `code` is one of those in docs/service.md.

    "bad-request", "bad-input", "unknown-model", "not-ready", "busy", "timed-out", "crashed", "bad-output", "too-large",
    "not-allowed", "stopping".
    """

    code = "bad-request"

    def __init__(self, message: str, code: str, finding: Optional[Finding] = None) -> None:
        super().__init__(message, code)
        self.finding = finding

    def to_dict(self) -> Dict[str, object]:
        """Return the wire's `error` object."""
        result: Dict[str, object] = {"code": self.code, "message": str(self)}
        if self.finding is not None:
            result["finding"] = self.finding.to_dict()
        return result


def tensors_to(tensors: Sequence[SentTensor]) -> List[Dict[str, object]]:
    """Return the JSON form of tensors: [{name, dtype, dims, lod?}]; `lod` (offsets for each level) only for sequences."""
    return [_sent(tensor) for tensor in tensors]


def _sent(tensor: SentTensor) -> Dict[str, object]:
    described: Dict[str, object] = {"name": tensor.name, "dtype": tensor.dtype, "dims": list(tensor.dims)}
    if tensor.lod:
        described["lod"] = [list(level) for level in tensor.lod]
    return described


_MOST_TENSORS = 64
_MOST_DIMS = 8
_MOST_SIZE = 1 << 31


def tensors_of(data: object) -> Tuple[SentTensor, ...]:
    """Read the JSON form of 1 to 64 tensors, of at most 8 known dims and 4096 offsets of sequences each.

    Raises Rejection "bad-request", which names the part that does not fit.
    """
    if not isinstance(data, list) or not 0 < len(data) <= _MOST_TENSORS:
        raise Rejection("`inputs` must be a list of 1 to %d tensors" % _MOST_TENSORS, "bad-request")
    return tuple(_tensor(item) for item in data)


def _tensor(item: object) -> SentTensor:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not isinstance(item.get("dtype"), str):
        raise Rejection("a tensor must be {name, dtype, dims}", "bad-request")
    dims = item.get("dims")
    if not isinstance(dims, list) or len(dims) > _MOST_DIMS or not all(_is_size(d) for d in dims):
        raise Rejection(
            "the dims of %.80r must be a list of up to %d sizes" % (item["name"], _MOST_DIMS), "bad-request"
        )
    try:
        lod = read_lod(item.get("lod"), tuple(dims))
    except AgentError as error:
        raise Rejection("%.80r: %s" % (item["name"], error), "bad-request") from error
    return SentTensor(item["name"], item["dtype"], tuple(dims), lod)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_SIZE


def size_of(tensor: Union[Tensor, SentTensor]) -> int:
    """Return the bytes of a tensor's data, 0 for an unknown dtype; its dims must all be known."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count * DTYPES.get(tensor.dtype, 0)


def validate_inputs(model: ServedModel, given: Tuple[SentTensor, ...], body_size: int) -> None:
    """Raise Rejection "bad-input" unless `given` are exactly the model's inputs, and `body_size` their size in bytes."""
    wanted = {tensor.name: tensor for tensor in model.inputs}
    names = [tensor.name for tensor in given]
    if sorted(names) != sorted(wanted):
        raise _bad(model, "its inputs are %s; the request has %s" % (_names(list(wanted)), _names(names)))
    for tensor in given:
        _validate(model, wanted[tensor.name], tensor)
    size = sum(size_of(tensor) for tensor in given)
    if size != body_size:
        raise _bad(model, "its inputs take %d bytes in these dims, and %d were sent" % (size, body_size))


def _validate(model: ServedModel, want: Tensor, given: SentTensor) -> None:
    if given.dtype != want.dtype:
        raise _bad(model, "%s is %s, and %s was sent: convert it first" % (want.name, want.dtype, given.dtype[:20]))
    fits = len(given.dims) == len(want.dims) and all(w in (-1, g) for w, g in zip(want.dims, given.dims))  # noqa: B905 - 3.7
    if not fits:
        raise _bad(model, "%s is %s, and %s was sent" % (want.name, _dims(want.dims), _dims(given.dims)))


def in_order(model: ServedModel, given: Tuple[SentTensor, ...], body: bytes) -> Tuple[Tuple[SentTensor, ...], bytes]:
    """Return tensors and data in the order of the model's inputs; `given` passed `validate_inputs`."""
    if [t.name for t in given] == [t.name for t in model.inputs]:
        return given, body
    parts: Dict[str, Tuple[SentTensor, bytes]] = {}
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
    return ", ".join("%.80r" % name for name in names[:16]) or "none"


def _dims(dims: Tuple[int, ...]) -> str:
    return " x ".join("?" if dim < 0 else str(dim) for dim in dims) or "a single value"


MAX_RESPONSE = 1 << 30  # bytes of one batch's outputs
_MOST_ANSWER_DIMS = 16
_MOST_FINDINGS = 64
_CODES = ("bad-request", "bad-input", "bad-output", "crashed")


@dataclass(frozen=True)
class Response:
    """The answer to one request: the outputs, and their data one after the other."""

    outputs: Tuple[SentTensor, ...]
    body: bytes
    release: str
    ms: float = 0.0  # run time of the whole batch


def findings_of(data: object) -> List[Finding]:
    """Read the JSON form of findings, the first 64 of them."""
    return [Finding.from_dict(item) for item in data[:_MOST_FINDINGS]] if isinstance(data, list) else []


def facts_of(header: Dict[str, object]) -> WorkerFacts:
    """Return the facts in a worker's "ready" frame; texts have at most 100 characters."""
    golden = header.get("golden")
    runtime, numpy, threads, power = (
        str(header.get(name, ""))[:100] for name in ("runtime_version", "numpy_version", "threads_set_by", "power_mode")
    )
    return WorkerFacts(
        load_ms=number_or(0.0, header.get("load_ms"), 0),
        runtime_version=runtime,
        numpy_version=numpy,
        threads_set_by=threads,
        power_mode=power,
        batches=header.get("batches") is True,
        golden=golden if isinstance(golden, dict) else {},
        settings=_reports(header.get("settings")),
    )


def _reports(value: object) -> Tuple[SettingReport, ...]:
    try:
        return parse_reports(value)
    except ValueError:  # the process that says so is not trusted, and serves all the same
        return ()


def _requests(header: Dict[str, object], count: int) -> List[Dict[str, object]]:
    result = header.get("result")
    requests = result.get("requests") if isinstance(result, dict) else None
    if not isinstance(requests, list) or len(requests) != count or not all(isinstance(r, dict) for r in requests):
        raise ProtocolError("the answer does not cover each of %d requests" % count)
    return requests


def _outputs(request: Dict[str, object], model: ServedModel) -> Tuple[SentTensor, ...]:
    given = request.get("outputs")
    if not isinstance(given, list) or len(given) != len(model.outputs):
        raise ProtocolError("the answer does not have the %d outputs of %s" % (len(model.outputs), model.name))
    return tuple(_output(item, want) for item, want in zip(given, model.outputs))  # noqa: B905 - 3.7


def _output(item: object, want: Tensor) -> SentTensor:
    described = item if isinstance(item, dict) else {}
    dims = described.get("dims")
    valid = (
        isinstance(dims, list)
        and len(dims) <= _MOST_ANSWER_DIMS
        and all(type(d) is int and 0 <= d < _MOST_SIZE for d in dims)
    )
    dtype = described.get("dtype")
    if not valid or described.get("name") != want.name or not isinstance(dtype, str) or dtype not in DTYPES:
        raise ProtocolError("the answer describes the output %s wrongly" % want.name)
    try:
        lod = read_lod(described.get("lod"), tuple(described["dims"]))
    except AgentError as error:
        raise ProtocolError("the answer describes the output %s wrongly: %s" % (want.name, error)) from error
    return SentTensor(want.name, dtype, tuple(described["dims"]), lod)


RequestOutcome = Union[Tuple[SentTensor, ...], Rejection]  # the outcome of one request, without its data


def outcomes_of(header: Dict[str, object], count: int, model: ServedModel) -> List[RequestOutcome]:
    """Return the outcomes that a worker's answer to `count` requests announces, in their order.

    Raises ProtocolError when the answer does not fit the model.
    """
    return [
        _rejection(request["error"]) if "error" in request else _outputs(request, model)
        for request in _requests(header, count)
    ]


def body_size(outcomes: Sequence[RequestOutcome]) -> int:
    """Return the size in bytes of all announced outputs."""
    return sum(size_of(tensor) for one in outcomes if not isinstance(one, Rejection) for tensor in one)


def results_of(
    outcomes: Sequence[RequestOutcome], body: bytes, release: str, took_ms: float
) -> List[Union[Response, Rejection]]:
    """Return the result of each request; `body` has the size that `body_size` returned."""
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


def _rejection(error: object) -> Rejection:
    if not isinstance(error, dict):
        raise ProtocolError("the answer rejects a request without a reason")
    code = error.get("code")
    found = error.get("finding")
    return Rejection(
        shortened(str(error.get("message", "")), 2000),
        str(code) if code in _CODES else "crashed",
        Finding.from_dict(found) if isinstance(found, dict) else None,
    )
