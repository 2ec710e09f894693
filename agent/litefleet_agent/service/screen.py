"""Whether a request fits its model: names, types, dimensions, bytes; decided before its data is read.  Pure."""

from typing import Dict, List, Tuple

from ..nb import Tensor
from ..npz import DTYPES
from .values import Refusal, ServedModel

__all__ = ["in_order", "screen_inputs", "size_of"]


def size_of(tensor: Tensor) -> int:
    """Return how many bytes a tensor's data has; its dims are all known."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count * DTYPES.get(tensor.dtype, 0)


def screen_inputs(model: ServedModel, given: Tuple[Tensor, ...], body_size: int) -> None:
    """Raise Refusal "bad-input", with a sentence, unless `given` are exactly the model's inputs."""
    wanted = {tensor.name: tensor for tensor in model.inputs}
    names = [tensor.name for tensor in given]
    if sorted(names) != sorted(wanted):
        raise _bad(model, "it takes %s, and was given %s" % (_names(list(wanted)), _names(names)))
    for tensor in given:
        _screen(model, wanted[tensor.name], tensor)
    size = sum(size_of(tensor) for tensor in given)
    if size != body_size:
        raise _bad(model, "its inputs take %d bytes in these dims, and %d were sent" % (size, body_size))


def _screen(model: ServedModel, want: Tensor, given: Tensor) -> None:
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


def _bad(model: ServedModel, text: str) -> Refusal:
    return Refusal("%s: %s" % (model.name, text), "bad-input")


def _names(names: List[str]) -> str:
    return ", ".join("%.80r" % name for name in names[:16]) or "nothing"


def _dims(dims: Tuple[int, ...]) -> str:
    return " x ".join("?" if dim < 0 else str(dim) for dim in dims) or "a single value"
