"""Reads the parameters that follow the topology (meta version 2): walks to the last byte, describes, never copies them."""

import struct
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Tuple

from .flatbuffer import Buffer, NbError
from .program import DTYPES

FIXED = 12  # u16 0 | u16 meta_size | u16 header_size | u16 count | u32 max_tensor_bytes
LOD_TENSOR = 1  # the one kind of the union ParamDesc.variable


class Param(NamedTuple):
    """One parameter."""

    name: str
    dtype: str  # as numpy names it
    dims: Tuple[int, ...]
    size: int  # bytes


@dataclass(frozen=True)
class Params:
    """All parameters that were readable, and why the rest was not."""

    items: Tuple[Param, ...]
    damage: str  # "" when the walk ended exactly at the end of the file

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(p.size for p in self.items)

    @property
    def dtypes(self) -> Dict[str, int]:
        """Count of the parameters by type."""
        counts: Dict[str, int] = {}
        for item in self.items:
            counts[item.dtype] = counts.get(item.dtype, 0) + 1
        return counts


def read_params(view: memoryview) -> Params:
    """Walk the parameters; `damage` describes what is damaged or missing, so that the rest can still be described."""
    items: List[Param] = []
    try:
        count, position = _start(view)
        for number in range(count):
            position = _one(view, position, number, count, items)
        if position != len(view):
            raise NbError("%d bytes follow the last parameter" % (len(view) - position))
    except NbError as error:
        return Params(tuple(items), str(error))
    return Params(tuple(items), "")


def _start(view: memoryview) -> Tuple[int, int]:
    """Return the number of parameters and the offset of the first one."""
    if len(view) < FIXED:
        raise NbError("the file ends before its parameters begin")
    version, meta_size = struct.unpack_from("<HH", view, 0)
    if version != 0 or 4 + meta_size + 8 > len(view):
        raise NbError("the parameters begin with an unknown header")
    header_size, count = struct.unpack_from("<HH", view, 4 + meta_size)
    position = 6 + meta_size + header_size
    if header_size < 6 or position > len(view):
        raise NbError("the parameters begin with an unknown header")
    return count, position


def _one(view: memoryview, position: int, number: int, count: int, items: List[Param]) -> int:
    """Read one parameter into `items`; return the offset of the next one."""
    label = "parameter %d of %d" % (number + 1, count)
    if position + 8 > len(view):
        raise NbError("the file ends before %s" % label)
    total, offset = struct.unpack_from("<II", view, position)
    end: int = position + 4 + total
    if not 4 <= offset <= total:
        raise NbError("%s claims to begin %d bytes into its %d" % (label, offset, total))
    if end > len(view):
        raise NbError("the file ends %d bytes short, in %s" % (end - len(view), label))
    items.append(_describe(Buffer(view[position + 4 + offset : end], label)))
    return end


def _describe(buffer: Buffer) -> Param:
    desc = buffer.root()
    if desc.u8(2) != LOD_TENSOR:
        raise buffer.bad("it is not a tensor")
    tensor = desc.table(3)
    dtype, width = DTYPES.get(tensor.i32(3), ("unknown", 0))
    param = Param(desc.text(1), dtype, tensor.numbers(2), tensor.byte_count(4))
    elements = 1
    for dim in param.dims:
        elements *= max(dim, 0)
    if not param.dims and not param.size:
        return param  # a weight that a pass emptied: the converter's XPU backend keeps its own copy
    if width and elements * width != param.size:
        raise buffer.bad("%d bytes for %s of %s" % (param.size, list(param.dims), dtype))
    return param
