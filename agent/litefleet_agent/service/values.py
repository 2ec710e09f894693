"""What the service's parts tell each other: models, requests, refusals.  Pure.

A tensor's elements are little-endian on the wire, in C order, without padding.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ..errors import AgentError
from ..findings import Finding
from ..nb import Tensor

__all__ = ["Job", "Refusal", "ServedModel", "tensors_of", "tensors_to"]


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


class Refusal(AgentError):
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
        told: Dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.finding is not None:
            told["finding"] = self.finding.to_dict()
        return told


def tensors_to(tensors: Tuple[Tensor, ...]) -> List[Dict[str, Any]]:
    """Return tensors' JSON form."""
    return [{"name": t.name, "dtype": t.dtype, "dims": list(t.dims)} for t in tensors]


_MOST_TENSORS = 64
_MOST_DIMS = 8
_MOST_SIZE = 1 << 31


def tensors_of(data: Any) -> Tuple[Tensor, ...]:
    """Read the JSON form of tensors with their data; Refusal "bad-request" that names what does not fit."""
    if not isinstance(data, list) or not 0 < len(data) <= _MOST_TENSORS:
        raise Refusal("`inputs` must be a list of 1 to %d tensors" % _MOST_TENSORS, "bad-request")
    return tuple(_tensor(item) for item in data)


def _tensor(item: Any) -> Tensor:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not isinstance(item.get("dtype"), str):
        raise Refusal("a tensor is {name, dtype, dims}", "bad-request")
    dims = item.get("dims")
    if not isinstance(dims, list) or len(dims) > _MOST_DIMS or not all(_is_size(d) for d in dims):
        raise Refusal("the dims of %.80r must be a list of up to %d sizes" % (item["name"], _MOST_DIMS), "bad-request")
    return Tensor(item["name"], item["dtype"], tuple(dims))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_SIZE
