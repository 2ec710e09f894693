"""What a library must prove before it is believed: its functions' places, its version, its names, what is read back.

PaddlePredictor's functions are virtual: they are found by their position in the class, which no name guards.  The positions
are the same in the headers of 2.7.1 to 2.13.  Each must point into the library's code; where the library exports the function's
name (the wheels do), the name must be the right one; and what the functions answer must agree with the model's file.
"""

import ctypes
import re
from typing import Dict, Sequence, Tuple

from ...formats.npz import Array
from .cxx import word_at
from .errors import NativeError, unknown_layout
from .library import Library
from .symbols import WORD

# Position in PaddlePredictor's table of virtual functions.
SLOTS: Dict[str, int] = {
    "GetInput": 0,
    "GetOutput": 1,
    "Run": 2,
    "GetVersion": 5,
    "GetInputNames": 6,
    "GetOutputNames": 7,
    "TryShrinkMemory": 9,  # since 2.9.1
}
KNOWN_VERSIONS = ((2, 7), (2, 13))  # the oldest and the newest whose headers were read
_SHRINKS_SINCE = (2, 9)
_OPTIONAL = frozenset(("TryShrinkMemory",))
_VERSION = re.compile(r"v?(\d{1,3})\.(\d{1,3})")
_METHOD = re.compile(r"LightPredictorImpl(\d{1,2})(\w+)")  # in a mangled name: the length of the method's name, then it
_LONGEST_VERSION = 100


def check_slots(library: Library, table: int) -> None:
    """Check a predictor's table of virtual functions.  Raises NativeError "native"."""
    if not library.is_data(table):
        raise unknown_layout("the predictor's virtual functions are listed at %#x, outside the library" % table)
    for name, slot in SLOTS.items():
        problem = _slot_problem(library, word_at(table + WORD * slot), name)
        if problem and name not in _OPTIONAL:
            raise unknown_layout("the predictor's function %d should be %s: %s" % (slot, name, problem))


def _slot_problem(library: Library, address: int, name: str) -> str:
    if not library.is_code(address):
        return "it points to %#x, where the library has no code" % address
    method = _method_of(library.symbol_at(address))
    return "" if method in ("", name) else "it is %s" % method


def _method_of(symbol: str) -> str:
    """Return the name of LightPredictorImpl's method that a mangled name stands for, "" for any other name."""
    found = _METHOD.search(symbol)
    return found.group(2)[: int(found.group(1))] if found else ""


def has_shrink_memory(library: Library, table: int, version: str) -> bool:
    """Return whether the table has TryShrinkMemory at its place: by its exported name, or by a version that has it."""
    address = word_at(table + WORD * SLOTS["TryShrinkMemory"])
    if _slot_problem(library, address, "TryShrinkMemory"):
        return False
    if _method_of(library.symbol_at(address)):
        return True
    return is_known(version) and _numbers(version) >= _SHRINKS_SINCE


def check_shared_pointer(library: Library, control: int) -> bool:
    """Return whether a shared_ptr's control block is libstdc++'s, held by us alone: a table of functions, and two counts of 1."""
    table = word_at(control)
    if tuple((ctypes.c_int32 * 2).from_address(control + WORD)) != (1, 1) or not library.is_data(table):
        return False
    return all(library.is_code(word_at(table + WORD * slot)) for slot in (2, 3))  # _M_dispose, _M_destroy


def check_version(text: bytes) -> str:
    """Return a version's text; builds without a tag give a commit hash or nothing.  Raises NativeError for what is no text."""
    if len(text) > _LONGEST_VERSION or not all(0x20 <= byte < 0x7F for byte in text):
        raise unknown_layout("the function that should give the version gives %r" % text[:40])
    return text.decode("ascii")


def is_known(version: str) -> bool:
    """Return whether a version is one whose layout was read in its headers; others are accepted by the checks alone."""
    oldest, newest = KNOWN_VERSIONS
    return oldest <= _numbers(version) <= newest


def _numbers(version: str) -> Tuple[int, int]:
    found = _VERSION.match(version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def check_names(what: str, reported: Sequence[str], declared: Sequence[str], version: str) -> None:
    """Check that the library gives the names that the model's file declares.  Raises NativeError "inputs" or "native".

    Names that are as many and readable, but others, are another file's; otherwise the library is laid out differently.
    """
    if sorted(reported) == sorted(declared):
        return
    if len(reported) == len(declared) and all(name.isprintable() and name for name in reported):
        raise NativeError("inputs", "the loaded model has the %ss %s" % (what, ", ".join(reported)[:500]))
    seen = "it gives %d %ss, and the file declares %d" % (len(reported), what, len(declared))
    raise unknown_layout(seen, version)


def check_read_back(name: str, value: Array, got: Array) -> None:
    """Check that an input reads back bit for bit.  Raises NativeError "round-trip"."""
    if (got.dtype, got.shape, got.data) != (value.dtype, value.shape, value.data):
        same = (
            "other items"
            if (got.dtype, got.shape) == (value.dtype, value.shape)
            else "%s %s" % (got.dtype, list(got.shape))
        )
        raise NativeError("round-trip", "%s was set as %s %s and reads back as %s" % (
            name[:80], value.dtype, list(value.shape), same))  # fmt: skip
