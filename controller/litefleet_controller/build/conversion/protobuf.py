"""A bounded reader of the protobuf wire format for PaddlePaddle's program and tensor descriptions.

It copies strings only, never reads beyond its bytes, and raises only `WireError`.  Its work is linear in the bytes given:
every field takes at least one byte, and callers descend into a fixed number of levels.
"""

from __future__ import annotations

from collections.abc import Iterator

Value = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not a message of the expected form."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at `at` (64 bits, unsigned) and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WireError("a number has more than ten bytes")


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield (field number, value) of one message: an int for numbers, a view for strings, messages and fixed widths.

    Raises: WireError when a field runs past the end or has a kind that protobuf does not know.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError("a field has the number 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise WireError(f"a field has the unknown kind {kind}")
        if size > len(data) - at:
            raise WireError("a field runs past the end")
        yield number, data[at : at + size]
        at += size


def text(value: Value) -> str:
    """Return a string field's text.  Raises: WireError when it is no UTF-8 string."""
    if isinstance(value, int):
        raise WireError("a number stands where a name should be")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise WireError("a name is not UTF-8") from error


def message(value: Value) -> memoryview:
    """Return an inner message's bytes.  Raises: WireError when the field is a number."""
    if isinstance(value, int):
        raise WireError("a number stands where a message should be")
    return value


def signed(value: Value) -> int:
    """Return an int32 or int64 field's number.  Raises: WireError when the field is no number."""
    if not isinstance(value, int):
        raise WireError("bytes stand where a number should be")
    return value - (1 << 64) if value >> 63 else value


def integers(value: Value, most: int) -> list[int]:
    """Return one occurrence of a repeated integer field: a single number, or several that are packed.

    Raises: WireError for more than `most` numbers, which are not read.
    """
    if isinstance(value, int):
        return [signed(value)]
    found: list[int] = []
    at = 0
    while at < len(value):
        if len(found) == most:
            raise WireError(f"a field holds more than {most} numbers")
        number, at = _varint(value, at)
        found.append(signed(number))
    return found
