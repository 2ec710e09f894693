"""Reads the parts of a PaddlePaddle program (.pdmodel) that the checks need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from litefleet_agent.formats.nb.program import DTYPES as NB_DTYPES

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


def tensor_desc(data: memoryview) -> tuple[int, tuple[int, ...]]:
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
                    dtype, var.dims = tensor_desc(message(tensor))
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


@lru_cache(maxsize=4)
def read_program(data: bytes) -> Program:
    """Read a serialised ProgramDesc; a run asks several times for that of one model.

    Raises: WireError when the bytes are not one.
    """
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


def elements(dims: tuple[int, ...]) -> int:
    """Return how many elements a tensor of these dims holds (1 for a scalar)."""
    count = 1
    for dim in dims:
        count *= dim
    return count
