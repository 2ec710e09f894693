"""Joins requests into one run along the first dimension, splits its outputs, and finds NaN and Inf.  Pure."""

import array
import math
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ...formats.nb import Tensor
from ...formats.npz import DTYPES, Array, native
from ...verification.compare import values

Inputs = Mapping[str, Array]


def free_first(tensors: Sequence[Tensor]) -> bool:
    """Return whether the first dimension of every tensor is free (-1)."""
    return all(tensor.dims and tensor.dims[0] == -1 for tensor in tensors)


def first_size(inputs: Inputs) -> Optional[int]:
    """Return the first dimension of all inputs, None when they differ or have none."""
    sizes = {value.shape[0] if value.shape else 0 for value in inputs.values()}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else None


def are_batchable(requests: Sequence[Inputs]) -> bool:
    """Return whether the requests have the same inputs, dtypes and dimensions but the first."""
    if any(value.lod for inputs in requests for value in inputs.values()):
        return False  # the first dimension consists of sequences: a batch is the caller's to make
    kinds = {tuple(sorted((name, v.dtype, v.shape[1:]) for name, v in inputs.items())) for inputs in requests}
    return len(kinds) == 1 and all(first_size(inputs) for inputs in requests)


def join_inputs(requests: Sequence[Inputs]) -> Dict[str, Array]:
    """Return the inputs of batchable requests, one after the other along the first dimension."""
    joined = {}
    for name, first in requests[0].items():
        parts = [inputs[name] for inputs in requests]
        shape = (sum(part.shape[0] for part in parts),) + first.shape[1:]
        joined[name] = Array(first.dtype, shape, b"".join(part.data for part in parts))
    return joined


def split_outputs(outputs: Sequence[Array], sizes: Sequence[int]) -> List[List[Array]]:
    """Return each request's part of a batch's outputs; `sizes` are the requests' first dimensions.

    Raises ValueError when an output's first dimension is not the sum of `sizes`.
    """
    requests: List[List[Array]] = [[] for _ in sizes]
    for output in outputs:
        if not output.shape or output.shape[0] != sum(sizes):
            raise ValueError("the batch of %d gave an output of shape %s" % (sum(sizes), list(output.shape)))
        row = len(output.data) // output.shape[0]
        at = 0
        for request, size in zip(requests, sizes):  # noqa: B905 - 3.7
            shape = (size,) + output.shape[1:]
            request.append(Array(output.dtype, shape, output.data[at * row : (at + size) * row]))
            at += size
    return requests


def all_finite(value: Array, numpy: Any = None) -> bool:
    """Return whether no item is NaN or Inf, computed with the module `numpy` where one is given."""
    if not value.dtype.startswith("float"):
        return True
    data = native(value.data, DTYPES[value.dtype])
    if numpy is not None:
        return bool(numpy.isfinite(numpy.frombuffer(data, value.dtype)).all())
    if value.dtype == "float32":  # summed as doubles, no number of them that fits in memory overflows
        items = array.array("f")
        items.frombytes(data)
        return math.isfinite(sum(items))
    return all(map(math.isfinite, values(value)))
