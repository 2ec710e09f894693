"""Strings and vectors of C++ as libstdc++ lays them out: built for a call, and read from one's result, within bounds.

std::string (cxx11): pointer, length, then 16 bytes that hold either a short string or the capacity of a long one.
std::vector: begin, end, end of the room.  Both are the same on 32 and 64 bits, in words of that size.
"""

import ctypes
import struct
from typing import Callable, List, Sequence, Tuple

from .errors import unknown_layout
from .symbols import WORD, Result

STRING_SIZE = 2 * WORD + 16
_VECTOR_SIZE = 3 * WORD
_LOCAL = 15  # characters of a short string, without its NUL
MAX_TEXT = 4096  # bytes of one name or version
MAX_NAMES = 1024
MAX_RANK = 32
MAX_LEVELS = 8  # of a LoD
MAX_OFFSETS = 1 << 20  # of one level

Delete = Callable[[int], object]


def word_at(address: int) -> int:
    """Return the machine word at an address."""
    return ctypes.c_size_t.from_address(address).value


def _word(value: int) -> bytes:
    return struct.pack("@N", value)


def empty_string_at(address: int) -> None:
    """Write an empty std::string: its pointer points to its own 16 bytes."""
    ctypes.memmove(address, _word(address + 2 * WORD) + _word(0) + bytes(16), STRING_SIZE)


def text_at(address: int) -> bytes:
    """Return the characters of the std::string at an address.  Raises NativeError when it cannot be one."""
    data, length = word_at(address), word_at(address + WORD)
    if not data or length > MAX_TEXT:
        raise unknown_layout("a string has %d characters at address %#x" % (length, data))
    if data != address + 2 * WORD and not length <= word_at(address + 2 * WORD) < 1 << 30:
        raise unknown_layout("a string of %d characters has room for %d" % (length, word_at(address + 2 * WORD)))
    return ctypes.string_at(data, length)


class CxxString:
    """A constant std::string.  Pass the object itself for a `const std::string&` parameter: ctypes then keeps it alive."""

    def __init__(self, text: bytes) -> None:
        self._text = ctypes.create_string_buffer(text, len(text) + 1)
        words = _word(ctypes.addressof(self._text)) + _word(len(text)) + _word(len(text)) + bytes(16 - WORD)
        self._object = ctypes.create_string_buffer(words, STRING_SIZE)
        self._as_parameter_ = ctypes.addressof(self._object)


class CxxShape:
    """A constant std::vector<int64_t>, to be passed likewise."""

    def __init__(self, dims: Sequence[int]) -> None:
        self._items = (ctypes.c_int64 * len(dims))(*dims)
        vector = _vector(ctypes.addressof(self._items), ctypes.sizeof(self._items))
        self._object = ctypes.create_string_buffer(vector, _VECTOR_SIZE)
        self._as_parameter_ = ctypes.addressof(self._object)


class CxxTexts:
    """A constant std::vector<std::string>, to be passed likewise."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = [CxxString(text) for text in texts]
        content = b"".join(ctypes.string_at(text._as_parameter_, STRING_SIZE) for text in self._texts)
        self._items = ctypes.create_string_buffer(content, max(len(content), 1))
        vector = _vector(ctypes.addressof(self._items), len(content))
        self._object = ctypes.create_string_buffer(vector, _VECTOR_SIZE)
        self._as_parameter_ = ctypes.addressof(self._object)


class CxxLod:
    """A constant std::vector<std::vector<uint64_t>>, to be passed likewise."""

    def __init__(self, levels: Sequence[Sequence[int]]) -> None:
        self._rows = [(ctypes.c_uint64 * len(level))(*level) for level in levels]
        vectors = b"".join(_vector(ctypes.addressof(row), ctypes.sizeof(row)) for row in self._rows)
        self._vectors = ctypes.create_string_buffer(vectors, max(len(vectors), 1))
        whole = _vector(ctypes.addressof(self._vectors), len(vectors))
        self._object = ctypes.create_string_buffer(whole, _VECTOR_SIZE)
        self._as_parameter_ = ctypes.addressof(self._object)


def _vector(begin: int, size: int) -> bytes:
    return _word(begin) + _word(begin + size) * 2


def texts_at(address: int) -> List[bytes]:
    """Return the items of the std::vector<std::string> at an address.  Raises NativeError when it cannot be one."""
    begin, size = _span(word_at(address), word_at(address + WORD), STRING_SIZE, MAX_NAMES, "texts")
    return [text_at(item) for item in range(begin, begin + size, STRING_SIZE)]


def read_text(result: Result, delete: Delete) -> bytes:
    """Return the characters of a returned std::string, and free it.

    A short one lies in the result itself: its pointer points to where the callee saw the result, before libffi moved it.
    """
    raw = bytes(result)
    data, length = _words(raw, 2)
    if length > MAX_TEXT or not data:
        raise unknown_layout("a returned string has %d characters" % length)
    if length <= _LOCAL:
        return raw[2 * WORD : 2 * WORD + length]
    text = ctypes.string_at(data, length)
    delete(data)
    return text


def read_texts(result: Result, delete: Delete) -> List[bytes]:
    """Return the items of a returned std::vector<std::string>, and free it."""
    begin, size = _extent(result, STRING_SIZE, MAX_NAMES, "names")
    addresses = range(begin, begin + size, STRING_SIZE)
    texts = [text_at(address) for address in addresses]
    for address in addresses:
        if word_at(address) != address + 2 * WORD:
            delete(word_at(address))
    if begin:
        delete(begin)
    return texts


def read_int64s(result: Result, delete: Delete) -> Tuple[int, ...]:
    """Return the items of a returned std::vector<int64_t>, a shape, and free it."""
    begin, size = _extent(result, 8, MAX_RANK, "dimensions")
    values = tuple((ctypes.c_int64 * (size // 8)).from_address(begin)) if size else ()
    if begin:
        delete(begin)
    return values


def read_lod(result: Result, delete: Delete) -> List[List[int]]:
    """Return the items of a returned std::vector<std::vector<uint64_t>>, a LoD, and free it."""
    begin, size = _extent(result, _VECTOR_SIZE, MAX_LEVELS, "levels of a LoD")
    levels: List[List[int]] = []
    for address in range(begin, begin + size, _VECTOR_SIZE):
        inner, length = _span(word_at(address), word_at(address + WORD), 8, MAX_OFFSETS, "offsets of a LoD")
        levels.append(list((ctypes.c_uint64 * (length // 8)).from_address(inner)) if length else [])
        if inner:
            delete(inner)
    if begin:
        delete(begin)
    return levels


def _extent(result: Result, item: int, most: int, what: str) -> Tuple[int, int]:
    begin, end = _words(bytes(result), 2)
    return _span(begin, end, item, most, what)


def _span(begin: int, end: int, item: int, most: int, what: str) -> Tuple[int, int]:
    """Return where a vector begins and its bytes.  Raises NativeError when the two words cannot be a vector's."""
    size = end - begin
    if size < 0 or size % item or size // item > most or (size and not begin):
        raise unknown_layout("a list of %s begins at %#x and ends at %#x" % (what, begin, end))
    return begin, size


def _words(raw: bytes, count: int) -> Tuple[int, ...]:
    return struct.unpack_from("@%dN" % count, raw)
