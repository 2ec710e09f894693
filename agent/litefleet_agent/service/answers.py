"""What a worker's frames hold, read with care: native code that went wrong may have written them.  Pure."""

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple, Union

from ..findings import Finding
from ..nb import Tensor
from ..npz import DTYPES
from ..protocol import ProtocolError
from .screen import size_of
from .values import Refusal, ServedModel

__all__ = ["MAX_ANSWER", "Answer", "Told", "body_size", "facts_of", "findings_of", "number", "results_of", "told_of"]

MAX_ANSWER = 1 << 30  # bytes of one batch's outputs
_MOST_DIMS = 16
_MOST_FINDINGS = 64
_CODES = ("bad-request", "bad-input", "bad-output", "crashed")


@dataclass(frozen=True)
class Answer:
    """What one request came to: the outputs, and their data one after the other."""

    outputs: Tuple[Tensor, ...]
    body: bytes
    release: str
    ms: float = 0.0  # that the run took which answered it, and those beside it in a batch


def number(value: Any) -> float:
    """Return a figure; 0.0 for what is none."""
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if sound else 0.0


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
    sound = (
        isinstance(dims, list) and len(dims) <= _MOST_DIMS and all(type(d) is int and 0 <= d < 1 << 31 for d in dims)
    )
    if not sound or dims is None or item.get("name") != want.name or item.get("dtype") not in DTYPES:
        raise ProtocolError("it described the output %s in a way that can't be read" % want.name)
    return Tensor(want.name, item["dtype"], tuple(dims))


Told = Union[Tuple[Tensor, ...], Refusal]  # what one request came to, without its data


def told_of(header: Dict[str, Any], count: int, model: ServedModel) -> List[Told]:
    """Return what an answer to `count` requests announces for each, in their order.  Raises ProtocolError."""
    return [
        _refusal(request["error"]) if "error" in request else _outputs(request, model)
        for request in _requests(header, count)
    ]


def body_size(told: Sequence[Told]) -> int:
    """Return how many bytes the outputs take that were announced."""
    return sum(size_of(tensor) for one in told if not isinstance(one, Refusal) for tensor in one)


def results_of(told: Sequence[Told], body: bytes, release: str, took_ms: float) -> List[Union[Answer, Refusal]]:
    """Return what became of each request, once the body of that size is there."""
    results: List[Union[Answer, Refusal]] = []
    at = 0
    for one in told:
        if isinstance(one, Refusal):
            results.append(one)
            continue
        size = sum(size_of(tensor) for tensor in one)
        results.append(Answer(one, body if size == len(body) else body[at : at + size], release, took_ms))
        at += size
    return results


def _refusal(error: Any) -> Refusal:
    if not isinstance(error, dict):
        raise ProtocolError("it refused a request without saying why")
    code = error.get("code")
    found = error.get("finding")
    return Refusal(
        str(error.get("message", ""))[:2000],
        str(code) if code in _CODES else "crashed",
        Finding.from_dict(found) if isinstance(found, dict) else None,
    )
