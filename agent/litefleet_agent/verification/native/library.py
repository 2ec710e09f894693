"""A Paddle-Lite library in this process: found in a runtime's folder, loaded, and where in memory its code is."""

import ctypes
import importlib.util
import os
from typing import Any, List, NamedTuple, Optional, Tuple

from ...facts.cxx_library import NAMES, library_in
from ...facts.runtime import binary_of
from ...formats.elf import ElfError, read_elf
from .errors import NativeError, explain_unloadable
from .symbols import Functions, resolve

_RTLD_LAZY, _RTLD_GLOBAL = 1, 0x100
_MOST_COMPANIONS = 32
_LOADERS = (None, "libdl.so.2")  # glibc before 2.34 has dlopen in a library of its own


class _DlInfo(ctypes.Structure):
    """What dladdr says of an address."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("symbol_at", ctypes.c_void_p),
    ]


class Mapping(NamedTuple):
    """A mapped part of a file."""

    begin: int
    end: int
    executable: bool
    file: str  # device and inode


def find_library(runtime: str) -> str:
    """Return the path of the C++ library in `runtime`.

    `runtime` is a library, a folder that holds the paddlelite package, an unpacked release archive (its top, cxx or cxx/lib),
    or "" for the paddlelite package that this interpreter has.  Raises NativeError "import" when there is none.
    """
    if runtime and os.path.isfile(runtime):
        return os.path.abspath(runtime)
    packaged = (binary_of(folder) for folder in _packages(runtime))
    path = next(filter(os.path.isfile, packaged), "") or (library_in(runtime) if runtime else "")
    if path:
        return os.path.abspath(path)
    if not runtime:
        raise NativeError("import", "No module named 'paddlelite'")
    text = "%s holds neither paddlelite/lite.so nor %s (looked in it, in lib and in cxx/lib)"
    raise NativeError("import", text % (runtime, " nor ".join(NAMES)))


def _packages(runtime: str) -> List[str]:
    """Return the folders of the paddlelite package: a runtime's, or those that this interpreter would import for ""."""
    if runtime:
        return [os.path.join(runtime, "paddlelite")]
    spec = importlib.util.find_spec("paddlelite")
    return list(spec.submodule_search_locations or ()) if spec else []


class Library:
    """A loaded library: its functions, and which addresses are its own code.

    Raises NativeError "import" when the loader refuses it, "native" when it lacks functions.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        loader, handle = _load(path)
        self.functions: Functions = resolve(ctypes.CDLL(path, handle=handle), path)
        self._dladdr = getattr(loader, "dladdr", None)
        if self._dladdr is not None:
            self._dladdr.restype, self._dladdr.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p]
        self._trim = getattr(loader, "malloc_trim", None)  # glibc's
        if self._trim is not None:
            self._trim.restype, self._trim.argtypes = ctypes.c_int, [ctypes.c_size_t]
        create: Any = self.functions.create_predictor
        entry = ctypes.cast(create, ctypes.c_void_p).value or 0
        self._mappings = _mappings_of(entry)

    def is_code(self, address: int) -> bool:
        """Return whether an address lies in the library's code; True where /proc does not report it."""
        return not self._mappings or any(m.executable and m.begin <= address < m.end for m in self._mappings)

    def is_data(self, address: int) -> bool:
        """Return whether an address lies in a part of the library's file that is no code; True where /proc does not report it."""
        return not self._mappings or any(not m.executable and m.begin <= address < m.end for m in self._mappings)

    def symbol_at(self, address: int) -> str:
        """Return the mangled name of the function that begins at an address, "" where none is exported."""
        info = _DlInfo()
        if self._dladdr is None or not self._dladdr(address, ctypes.addressof(info)) or info.symbol_at != address:
            return ""
        name: bytes = info.symbol or b""
        return name.decode("ascii", "replace")

    def return_free_memory(self) -> None:
        """Have libc give freed memory back to the system, where it can: by itself glibc keeps it (rec: 208 MiB, then 78)."""
        if self._trim is not None:
            self._trim(0)


def _load(path: str) -> Tuple[ctypes.CDLL, int]:
    """Load by libc's own dlopen, lazily: ctypes resolves all symbols at once, which fails on a wheel in a foreign interpreter."""
    for name in _LOADERS:
        try:
            loader = ctypes.CDLL(name)
            dlopen, dlerror = loader.dlopen, loader.dlerror
        except (OSError, AttributeError):
            continue
        dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
        dlerror.restype, dlerror.argtypes = ctypes.c_char_p, []
        for companion in _companions(path):
            dlopen(
                os.fsencode(companion), _RTLD_LAZY | _RTLD_GLOBAL
            )  # what fails here fails again below, with its reason
        handle: Optional[int] = dlopen(os.fsencode(path), _RTLD_LAZY)
        if not handle:
            raise explain_unloadable(path, (dlerror() or b"").decode("utf-8", "replace"))
        return loader, handle
    raise NativeError("import", "this Python cannot load libraries: its C library offers no dlopen (a static build?)")


def _companions(path: str) -> List[str]:
    """Return the libraries beside a library (or in `libs` there) that it needs, those first that others of them need.

    A release archive's library does not say where they are; once loaded, the loader knows them by their names.
    """
    folder = os.path.dirname(path)
    found: List[str] = []
    wanted = [path]
    while wanted and len(found) < _MOST_COMPANIONS:
        try:
            names = read_elf(wanted.pop(0)).needed
        except ElfError:
            continue
        places = [os.path.join(folder, place, name) for name in names for place in ("", "libs")]
        new = [place for place in places if place not in found and os.path.isfile(place)]
        found += new
        wanted += new
    return found[::-1]


def _mappings_of(address: int) -> List[Mapping]:
    """Return how the file that holds an address is mapped, [] where /proc does not report it."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as stream:
            mappings = [_mapping(line.split()) for line in stream]
    except (OSError, ValueError, IndexError):
        return []
    files = [m.file for m in mappings if m.begin <= address < m.end]
    return [m for m in mappings if m.file == files[0]] if files and files[0] else []


def _mapping(fields: List[str]) -> Mapping:
    """Read a line: begin-end, rights, offset, device, inode, path."""
    begin, end = (int(part, 16) for part in fields[0].split("-"))
    return Mapping(begin, end, "x" in fields[1], "" if fields[4] == "0" else " ".join(fields[3:5]))
