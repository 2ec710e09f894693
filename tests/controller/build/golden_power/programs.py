"""Programs as the reader gives them, written by hand: a chain of operators that ends in an output."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from litefleet_controller.build.conversion.program import Op, Program, TensorSpec

# framework.proto's OpDesc.Attr: i = 3, f = 4, b = 10; VarType.Type: FP32 = 5, INT64 = 3.
_FIELDS = {int: b"\x18", bool: b"\x50", float: b"\x25"}


def _attribute(value: int | float | bool) -> memoryview:
    body = struct.pack("<f", value) if isinstance(value, float) else _varint(int(value))
    return memoryview(_FIELDS[type(value)] + body)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def op(kind: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **attributes: int | float | bool) -> Op:
    return Op(
        kind,
        {slot: (name,) for slot, name in inputs.items()},
        {slot: (name,) for slot, name in outputs.items()},
        {name: _attribute(value) for name, value in attributes.items()},
    )


def program(
    ops: list[Op],
    outputs: Mapping[str, tuple[str, tuple[int, ...]]],
    variables: Mapping[str, tuple[str, tuple[int, ...]]] | None = None,
    parameters: Mapping[str, tuple[int, ...]] | None = None,
) -> Program:
    """Return a program; outputs and variables are (dtype, dims) by name, parameters the dims of float32 ones."""
    specs = {name: TensorSpec(name, *spec) for name, spec in {**(variables or {}), **outputs}.items()}
    saved = tuple(TensorSpec(name, "float32", dims) for name, dims in sorted((parameters or {}).items()))
    found = tuple(specs[name] for name in outputs)
    return Program(2006002, (), found, saved, {}, tuple(ops), specs)


def combined(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return a combined parameters file: tensors sorted by name, as PaddlePaddle writes them."""
    kinds = {"float32": 5, "int64": 3}
    out = b""
    for name in sorted(tensors):
        value = tensors[name]
        described = b"\x08" + bytes([kinds[value.dtype.name]]) + b"".join(b"\x10" + _varint(d) for d in value.shape)
        out += struct.pack("<IQIi", 0, 0, 0, len(described)) + described + value.tobytes()
    return out
