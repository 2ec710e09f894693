"""Builds small .nb files for tests: a plain FlatBuffers writer, free to write what no honest file has."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KERNEL_ATTR = "__@kernel_type_attr@__"


@dataclass(frozen=True)
class U8:
    value: int


@dataclass(frozen=True)
class I32:
    value: int


@dataclass(frozen=True)
class I64:
    value: int


@dataclass(frozen=True)
class Longs:
    values: Sequence[int]


@dataclass(frozen=True)
class Ints:
    values: Sequence[int]


@dataclass(frozen=True)
class Fields:
    """A table: values by field index; None is absent."""

    values: Sequence[Any]


def flatbuffer(root: Fields) -> bytes:
    """Serialise a tree of Fields, lists of them or of strings, strings, bytes and numbers."""
    out = bytearray(4)
    struct.pack_into("<I", out, 0, _write(out, root))
    return bytes(out)


def _write(out: bytearray, value: Any) -> int:
    """Append one value that is reached by offset; return its place."""
    if isinstance(value, Fields):
        return _table(out, value.values)
    if isinstance(value, str):
        return _bytes(out, value.encode())
    if isinstance(value, bytes):
        return _bytes(out, value)
    if isinstance(value, Longs):
        place = len(out)
        out += struct.pack(f"<I{len(value.values)}q", len(value.values), *value.values)
        return place
    if isinstance(value, Ints):
        place = len(out)
        out += struct.pack(f"<I{len(value.values)}i", len(value.values), *value.values)
        return place
    if isinstance(value, list):
        place = len(out)
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for number, item in enumerate(value):
            slot = place + 4 + 4 * number
            struct.pack_into("<I", out, slot, _write(out, item) - slot)
        return place
    raise TypeError(value)


def _bytes(out: bytearray, data: bytes) -> int:
    place = len(out)
    out += struct.pack("<I", len(data)) + data + b"\0"
    return place


def _table(out: bytearray, values: Sequence[Any]) -> int:
    inline = {U8: "<B", I32: "<i", I64: "<q"}
    offsets, size = [], 4
    for value in values:
        offsets.append(size if value is not None else 0)
        size += struct.calcsize(inline.get(type(value), "<I")) if value is not None else 0
    vtable = len(out)
    out += struct.pack(f"<{2 + len(values)}H", 4 + 2 * len(values), size, *offsets)
    place = len(out)
    out += struct.pack("<i", place - vtable) + bytes(size - 4)
    for number, value in enumerate(values):
        slot = place + offsets[number]
        if type(value) in inline:
            struct.pack_into(inline[type(value)], out, slot, value.value)
        elif value is not None:
            struct.pack_into("<I", out, slot, _write(out, value) - slot)
    return place


def attr(name: str, *, i: int | None = None, s: str | None = None) -> Fields:
    return Fields([name, I32(2 if s is not None else 0), None if i is None else I32(i), None, s])


def ints(name: str, values: Sequence[int], kind: int = 3) -> Fields:
    return Fields([name, I32(kind), None, None, None, Ints(values)])


def op(
    kind: str,
    kernel: str | None,
    ins: Sequence[str] = (),
    outs: Sequence[str] = (),
    col: int = 0,
    more: Sequence[Fields] = (),
) -> Fields:
    attrs = [attr("col", i=col), *more]
    if kernel is not None:
        attrs.append(attr(KERNEL_ATTR, s=kernel))
    return Fields([kind, [Fields(["X", list(ins)])], [Fields(["Out", list(outs)])], attrs])


def var(name: str, dims: Sequence[int], data_type: int = 5, persistable: bool = False) -> Fields:
    tensor = Fields([Fields([I32(data_type), Longs(dims)]), I32(0)])
    return Fields([name, Fields([I32(7), None, tensor]), U8(int(persistable))])


def topology(ops: Sequence[Fields], variables: Sequence[Fields], version: int = 2003002) -> bytes:
    return flatbuffer(Fields([[Fields([I32(0), I32(-1), list(variables), list(ops)])], Fields([I64(version)])]))


def param(name: str, dims: Sequence[int], data: bytes, data_type: int = 5) -> bytes:
    tensor = Fields([I32(0), None, Longs(dims), I32(data_type), data])
    blob = flatbuffer(Fields([Fields([I32(0)]), name, U8(1), tensor]))
    return struct.pack("<II", 4 + len(blob), 4) + blob


def params(*blobs: bytes) -> bytes:
    return struct.pack("<HHHHI", 0, 0, 6, len(blobs), max(map(len, blobs), default=0)) + b"".join(blobs)


def nb(topo: bytes, tail: bytes, meta: int = 2, opt_version: bytes = b"v2.13-rc\0") -> bytes:
    return struct.pack("<H16sQ", meta, opt_version, len(topo)) + topo + tail


def small(kernel: str = "fc/def/2/1/1", weights: int = 5) -> bytes:
    """Return a whole, small .nb: feed, one fc with one 2x3 weight, fetch."""
    width = {5: 4, 21: 1, 1: 2}[weights]
    ops = [
        op("feed", "feed/def/1/4/2", ["feed"], ["x"]),
        op("fc", kernel, ["x", "w"], ["y"]),
        op("fetch", "fetch/def/1/4/2", ["y"], ["fetch"]),
    ]
    variables = [var("x", [-1, 2]), var("y", [-1, 3]), var("w", [2, 3], weights, persistable=True)]
    return nb(topology(ops, variables), params(param("w", [2, 3], bytes(6 * width), weights)))
