"""Reads the parts of a PaddlePaddle program (.pdmodel) and its combined parameters (.pdiparams) that the checks need."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from litefleet_agent.formats.nb.program import DTYPES as NB_DTYPES

from ...common.lazy import numpy as np
from .protobuf import Value, WireError, fields, integers, message, signed, text

# VarType.Type of framework.proto: a tensor's type by numpy's name, with its width in bytes.  Paddle-Lite has fewer of them.
DTYPES: Mapping[int, tuple[str, int]] = {
    **NB_DTYPES,
    19: ("uint64", 8),
    22: ("bfloat16", 2),
    23: ("complex64", 8),
    24: ("complex128", 16),
}
# Persistable variables that hold no tensor and so are never saved: FEED_MINIBATCH, FETCH_LIST, READER, RAW.
_NOT_SAVED = frozenset({9, 10, 15, 17})
_MAX_RANK = 32
_MAX_INTEGERS = 4096  # of an attribute that the checks read: a column, strides, groups


class ParamsError(ValueError):
    """The bytes are not a combined parameters file; the message names the byte where that shows."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as a program declares it: `dims` holds -1 for a free dimension; `dtype` is numpy's name.

    `lod_level` above 0: its first dimension consists of sequences, nested so many times.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    lod_level: int = 0


@dataclass(frozen=True)
class Op:
    """One operator as the program declares it: variables by slot (empty slots left out), attributes undecoded by name."""

    kind: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, memoryview] = field(repr=False)


@dataclass(frozen=True)
class Program:
    """A program as far as the checks need it; `parameters` are its saved tensors in the order of their file."""

    version: int  # 2003002 for PaddlePaddle 2.3.2; 0 for a development build
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: tuple[TensorSpec, ...]
    ops: Mapping[str, int]
    details: tuple[Op, ...] = ()  # every block's operators, in order
    variables: Mapping[str, TensorSpec] = field(default_factory=dict)  # every block's, by name


@dataclass
class _Var:
    name: str = ""
    kind: int = -1
    dtype: str = ""
    dims: tuple[int, ...] = ()
    lod_level: int = 0
    persistable: bool = False

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.dtype, self.dims, self.lod_level)


def _tensor_desc(data: memoryview) -> tuple[int, tuple[int, ...]]:
    """Return the data type's number (-1 when there is none) and the dims of a TensorDesc."""
    kind, dims = -1, list[int]()
    for number, value in fields(data):
        if number == 1:
            kind = signed(value)
        elif number == 2:
            dims += integers(value, _MAX_RANK + 1)
            if len(dims) > _MAX_RANK:
                raise WireError("a tensor has more than 32 dimensions")
    return kind, tuple(dims)


def _var_type(var: _Var, data: memoryview) -> None:
    for number, value in fields(data):
        if number == 1:
            var.kind = signed(value)
        elif number == 3:  # lod_tensor
            for inner, tensor in fields(message(value)):
                if inner == 1:
                    dtype, var.dims = _tensor_desc(message(tensor))
                    var.dtype = DTYPES.get(dtype, (f"type {dtype}", 0))[0]
                elif inner == 2:
                    var.lod_level = signed(tensor)


def _var(data: memoryview) -> _Var:
    var = _Var()
    for number, value in fields(data):
        if number == 1:
            var.name = text(value)
        elif number == 2:
            _var_type(var, message(value))
        elif number == 3:
            var.persistable = bool(signed(value))
    if not var.name:
        raise WireError("a variable has no name")
    return var


def _slot(value: Value, into: dict[str, list[str]]) -> None:
    name, arguments = "", list[str]()
    for number, part in fields(message(value)):
        if number == 1:
            name = text(part)
        elif number == 2:
            arguments.append(text(part))
    if arguments:
        into.setdefault(name, []).extend(arguments)  # a slot may be repeated


def _attribute_name(data: memoryview) -> str:
    return next((text(part) for number, part in fields(data) if number == 1), "")


def integers_of(attribute: memoryview | None) -> list[int]:
    """Return the integers of an attribute (i, ints, l or longs); none for an absent one."""
    found: list[int] = []
    for number, part in fields(attribute) if attribute is not None else ():
        if number in (3, 6, 13, 15):
            found += integers(part, _MAX_INTEGERS - len(found))
            if len(found) > _MAX_INTEGERS:
                raise WireError(f"an attribute holds more than {_MAX_INTEGERS} numbers")
    return found


def _op(data: memoryview) -> Op:
    kind, inputs, outputs = "", dict[str, list[str]](), dict[str, list[str]]()
    attributes: dict[str, memoryview] = {}
    for number, value in fields(data):
        if number == 1:
            _slot(value, inputs)
        elif number == 2:
            _slot(value, outputs)
        elif number == 3:
            kind = text(value)
        elif number == 4:
            attributes[_attribute_name(message(value))] = message(value)
    if not kind:
        raise WireError("an operator has no type")
    return Op(kind, _tuples(inputs), _tuples(outputs), attributes)


def _tuples(slots: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(arguments) for name, arguments in slots.items()}


def _col(op: Op) -> int:
    """Return the position of the input or output that a feed or fetch serves."""
    return next(iter(integers_of(op.attributes.get("col"))), 0)


def _block(data: memoryview) -> tuple[list[_Var], list[Op]]:
    variables, ops = list[_Var](), list[Op]()
    for number, value in fields(data):
        if number == 3:
            variables.append(_var(message(value)))
        elif number == 4:
            ops.append(_op(message(value)))
    return variables, ops


def _ends(ops: list[Op], by_name: Mapping[str, _Var]) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs in feed order and outputs in fetch order."""
    feeds = sorted((op for op in ops if op.kind == "feed"), key=_col)
    fetches = sorted((op for op in ops if op.kind == "fetch"), key=_col)
    names = [
        [n for op in feeds for slot in op.outputs.values() for n in slot],
        [n for op in fetches for slot in op.inputs.values() for n in slot],
    ]
    for name in names[0] + names[1]:
        if name not in by_name:
            raise WireError(f"input or output {name!r} is not among the variables")
    inputs, outputs = (tuple(by_name[n].spec for n in group) for group in names)
    return inputs, outputs


def read_program(data: bytes) -> Program:
    """Read a serialised ProgramDesc.  Raises: WireError when the bytes are not one."""
    blocks, version = list[tuple[list[_Var], list[Op]]](), 0
    for number, value in fields(memoryview(data)):
        if number == 1:
            blocks.append(_block(message(value)))
        elif number == 4:
            version = next((signed(v) for n, v in fields(message(value)) if n == 1), 0)
    if not blocks or not blocks[0][1]:
        raise WireError("it holds no operators")
    by_name = {var.name: var for var in blocks[0][0]}
    inputs, outputs = _ends(blocks[0][1], by_name)
    # Any block's persistable variables are saved, once, in one file sorted by name.
    saved = {v.name: v for variables, _ in blocks for v in variables if v.persistable and v.kind not in _NOT_SAVED}
    ops = [op for _, block_ops in blocks for op in block_ops]
    return Program(
        version,
        inputs,
        outputs,
        tuple(saved[name].spec for name in sorted(saved)),
        dict(Counter(op.kind for op in ops)),
        tuple(ops),
        {v.name: v.spec for variables, _ in blocks for v in variables},
    )


def _take(data: memoryview, at: int, layout: str) -> int:
    size = struct.calcsize(layout)
    if size > len(data) - at:
        raise ParamsError(f"it ends in the middle of a tensor's header, at byte {len(data)}")
    return int(struct.unpack_from(layout, data, at)[0])


def _tensor(data: memoryview, at: int) -> tuple[str, tuple[int, ...], int]:
    """Return dtype, dims and the offset after the tensor at `at`: version, LoD, version, description, data."""
    start = at
    levels = _take(data, at + 4, "<Q")
    if _take(data, at, "<I") != 0 or levels > _MAX_RANK:
        raise ParamsError(f"no tensor begins at byte {start}")
    at += 12
    for _ in range(levels):
        at += 8 + _take(data, at, "<Q")
    size = _take(data, at + 4, "<i")
    if _take(data, at, "<I") != 0 or not 0 < size <= 4096:
        raise ParamsError(f"no tensor begins at byte {start}")
    at += 8
    try:
        kind, dims = _tensor_desc(data[at : at + size])
    except WireError as error:
        raise ParamsError(f"the tensor at byte {start} has no readable description") from error
    if kind not in DTYPES or any(dim < 0 for dim in dims):
        raise ParamsError(f"the tensor at byte {start} has no readable description")
    dtype, width = DTYPES[kind]
    at += size + width * elements(dims)
    if at > len(data):
        raise ParamsError(f"it ends after {len(data)} bytes, in the middle of a tensor that needs {at}")
    return dtype, dims, at


def elements(dims: tuple[int, ...]) -> int:
    """Return how many elements a tensor of these dims holds (1 for a scalar)."""
    count = 1
    for dim in dims:
        count *= dim
    return count


def read_params(data: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield (dtype, dims) of each tensor of a combined parameters file, in order, up to its exact end.

    Raises: ParamsError at the byte where the file is no longer one.
    """
    for dtype, dims, _ in _tensors(data):
        yield dtype, dims


def largest(data: bytes) -> Iterator[float]:
    """Yield each tensor's largest finite magnitude, 0.0 for one that holds no 32-bit floats, in the file's order.

    Raises: ParamsError as `read_params` does.
    """
    for dtype, dims, end in _tensors(data):
        count = elements(dims) if dtype == "float32" else 0
        values = np.frombuffer(data, "<f4", count, end - 4 * count)
        # Two reductions instead of abs(), which would copy the weights; NaN and Inf are ignored.
        low, high = (float(np.fmin.reduce(values)), float(np.fmax.reduce(values))) if count else (0.0, 0.0)
        magnitude = max(-low, high)
        yield magnitude if math.isfinite(magnitude) else 0.0


def _tensors(data: bytes) -> Iterator[tuple[str, tuple[int, ...], int]]:
    view, at = memoryview(data), 0
    while at < len(view):
        dtype, dims, at = _tensor(view, at)
        yield dtype, dims, at
