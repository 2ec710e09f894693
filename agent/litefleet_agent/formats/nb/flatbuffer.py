"""A bounded FlatBuffers reader: every offset, size and length is checked before it is followed.

The buffer may be hostile.  Offsets may point anywhere, so tables may be shared and a few kilobytes can describe billions of
entries: every table, string and vector costs steps of a budget that honest files never exhaust.
Nothing here recurses; the code that calls it fixes how deep a walk goes.
"""

import struct
from typing import Dict, Iterator, List, Tuple

from ...errors import AgentError

MAX_STEPS = 1000000  # about two seconds on a small board; the largest PP-OCR model uses 20,000
MAX_STRING = 4096  # bytes; names of variables and operators are far shorter
MAX_FIELDS = 64  # of a table; Paddle-Lite's largest has 16
MAX_RANK = 64  # entries of a vector of numbers

_U16 = struct.Struct("<H").unpack_from
_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_I64 = struct.Struct("<q").unpack_from


class NbError(AgentError):
    """The bytes cannot be described as a .nb; `finding_code` is the catalogue's LF105, LF106 or LF107."""

    code = "bad-nb"

    def __init__(self, message: str, finding_code: str = "LF105") -> None:
        super().__init__(message)
        self.finding_code = finding_code


class Buffer:
    """One FlatBuffer in memory, never copied; `label` names it in messages."""

    __slots__ = ("_vtables", "label", "size", "steps", "view")

    def __init__(self, view: memoryview, label: str) -> None:
        self.view = view
        self.size = len(view)
        self.label = label
        # An honest table costs at least the four bytes of the offset that leads to it.
        self.steps = min(self.size // 4 + 64, MAX_STEPS)
        self._vtables: Dict[int, Tuple[int, ...]] = {}

    def bad(self, why: str) -> NbError:
        """Return the error for this buffer; `why` ends its sentence."""
        return NbError("%s is damaged: %s" % (self.label, why))

    def spend(self, steps: int) -> None:
        """Subtract `steps` from the budget.  Raises NbError when it is exhausted."""
        self.steps -= steps
        if self.steps < 0:
            raise self.bad("it describes more entries than its %d bytes can hold" % self.size)

    def check(self, position: int, length: int) -> None:
        """Raise NbError unless `length` bytes at `position` lie inside the buffer."""
        if position < 0 or position + length > self.size:
            raise self.bad("an offset points to byte %d of %d" % (position + length, self.size))

    def u32(self, position: int) -> int:
        """Return the unsigned 32-bit number at `position`."""
        if position < 0 or position + 4 > self.size:
            self.check(position, 4)
        value: int = _U32(self.view, position)[0]
        return value

    def i32(self, position: int) -> int:
        """Return the signed 32-bit number at `position`."""
        self.check(position, 4)
        value: int = _I32(self.view, position)[0]
        return value

    def i64(self, position: int) -> int:
        """Return the signed 64-bit number at `position`."""
        self.check(position, 8)
        value: int = _I64(self.view, position)[0]
        return value

    def u8(self, position: int) -> int:
        """Return the byte at `position`."""
        self.check(position, 1)
        return self.view[position]

    def root(self) -> "Table":
        """Return the root table."""
        return self.table(self.u32(0))

    def table(self, position: int) -> "Table":
        """Return the table at `position`."""
        self.spend(1)
        vtable = position - self.i32(position)
        offsets = self._vtables.get(vtable)
        if offsets is None:
            offsets = self._vtables[vtable] = self._vtable(vtable)
        if position + offsets[0] > self.size:
            self.check(position, offsets[0])
        return Table(self, position, offsets)

    def _vtable(self, position: int) -> Tuple[int, ...]:
        """Read a table's layout: the table's size, then each field's offset in it (0: absent)."""
        self.check(position, 4)
        length = _U16(self.view, position)[0]
        if length < 4 or length % 2 or length > 4 + 2 * MAX_FIELDS:
            raise self.bad("a table's layout claims %d bytes" % length)
        self.check(position, length)
        self.spend(length // 2)
        size, offsets = (
            _U16(self.view, position + 2)[0],
            struct.unpack_from("<%dH" % (length // 2 - 2), self.view, position + 4),
        )
        if size < 4 or (offsets and max(offsets) >= size):
            raise self.bad("a field lies outside its table")
        return (size,) + offsets  # concatenation is what Python 3.7 runs fastest


class Table:
    """One table; fields are numbered as in the schema, an absent field reads as its default."""

    __slots__ = ("_buffer", "_offsets", "_position")

    def __init__(self, buffer: Buffer, position: int, offsets: Tuple[int, ...]) -> None:
        self._buffer = buffer
        self._position = position
        self._offsets = offsets

    def _field(self, index: int) -> int:
        """Return a field's place in the buffer, 0 when it is absent (byte 0 holds the root offset, never a field)."""
        offsets = self._offsets
        if index + 1 >= len(offsets) or not offsets[index + 1]:
            return 0
        return self._position + offsets[index + 1]

    def has(self, index: int) -> bool:
        """Return whether the field is present."""
        return self._field(index) != 0

    def i32(self, index: int, default: int = 0) -> int:
        """Return a 32-bit field."""
        place = self._field(index)
        return self._buffer.i32(place) if place else default

    def i64(self, index: int, default: int = 0) -> int:
        """Return a 64-bit field."""
        place = self._field(index)
        return self._buffer.i64(place) if place else default

    def u8(self, index: int, default: int = 0) -> int:
        """Return a one-byte field (a bool, or a union's kind)."""
        place = self._field(index)
        return self._buffer.u8(place) if place else default

    def table(self, index: int) -> "Table":
        """Return a sub-table.  Raises NbError when it is absent."""
        place = self._field(index)
        if not place:
            raise self._buffer.bad("a required field is absent")
        return self._buffer.table(place + self._buffer.u32(place))

    def _vector(self, index: int, width: int) -> Tuple[int, int]:
        """Return where a vector's items begin and how many there are; (0, 0) when it is absent."""
        place = self._field(index)
        if not place:
            return 0, 0
        buffer = self._buffer
        start = place + buffer.u32(place)
        count = buffer.u32(start)
        if start + 4 + count * width > buffer.size:
            buffer.check(start + 4, count * width)
        return start + 4, count

    def text(self, index: int) -> str:
        """Return a string field, "" when it is absent; bytes that are not UTF-8 become escapes."""
        start, count = self._vector(index, 1)
        return self._text(start, count)

    def text_if_length(self, index: int, length: int) -> str:
        """Return a string field if it has `length` bytes, else "": most names are excluded without being copied."""
        start, count = self._vector(index, 1)
        return self._text(start, count) if count == length else ""

    def _text(self, start: int, count: int) -> str:
        buffer = self._buffer
        if count > MAX_STRING:
            raise buffer.bad("a name has %d bytes" % count)
        buffer.spend(1 + count // 16)
        return bytes(buffer.view[start : start + count]).decode("utf-8", "backslashreplace")

    def texts(self, index: int) -> Tuple[str, ...]:
        """Return a vector of strings."""
        start, count = self._vector(index, 4)
        found = []
        for place in range(start, start + 4 * count, 4):
            text = place + self._buffer.u32(place)
            length = self._buffer.u32(text)
            self._buffer.check(text + 4, length)
            found.append(self._text(text + 4, length))
        return tuple(found)

    def tables(self, index: int) -> Iterator["Table"]:
        """Yield a vector's tables, one at a time: the budget may end before the vector does."""
        start, count = self._vector(index, 4)
        buffer = self._buffer
        for place in range(start, start + 4 * count, 4):
            yield buffer.table(place + buffer.u32(place))

    def numbers(self, index: int) -> Tuple[int, ...]:
        """Return a vector of 64-bit numbers (dims)."""
        start, count = self._vector(index, 8)
        if count > MAX_RANK:
            raise self._buffer.bad("a tensor has %d dimensions" % count)
        self._buffer.spend(count)
        return struct.unpack_from("<%dq" % count, self._buffer.view, start)

    def integers(self, index: int) -> List[int]:
        """Return a vector of signed 32-bit numbers, at most MAX_RANK of them."""
        start, count = self._vector(index, 4)
        if count > MAX_RANK:
            raise self._buffer.bad("a list has %d numbers" % count)
        self._buffer.spend(count)
        return list(struct.unpack_from("<%di" % count, self._buffer.view, start))

    def length(self, index: int, width: int) -> int:
        """Return the number of entries, `width` bytes each, of a vector that lies inside; 0 for an absent one."""
        return self._vector(index, width)[1]

    def byte_count(self, index: int) -> int:
        """Return the length of a vector of bytes, which is checked to lie inside and not read."""
        return self._vector(index, 1)[1]
