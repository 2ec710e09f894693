"""Describes a Paddle-Lite runtime on disk: versions, binary, what it needs.  Imports and loads nothing of it."""

import os
import re
import sys
from dataclasses import dataclass, field, replace
from typing import FrozenSet, List, Optional, Pattern, Sequence, Set, Tuple

from ..formats.elf import Elf, ElfError, ForeignBinaryError, read_elf
from ..formats.files import mapped, read_regular
from .cxx_library import interface_of, library_in
from .flavour import Flavour, describe_flavour
from .packages import find_package, wheel_tags
from .values import Package

# Texts of their own in lite.so, each found exactly once in the published wheels.
_BUILT_VERSION = re.compile(rb"\x00(v2\.\d{1,2}[-.\w]{0,16})\x00")
_BUILT_PYTHON = re.compile(rb"\x00(3\.(?:[5-9]|[1-9]\d))\x00")  # pybind11's, which it compares with the interpreter
_OPENCL = b"libOpenCL.so"
_NUMPY_2 = b"numpy._core"  # pybind11 2.12 and later know numpy 2
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_LIBRARY = re.compile(r"^[^.].*\.so(\.\d+)*$")


@dataclass(frozen=True)
class RuntimeFacts:
    """Description of one Paddle-Lite runtime."""

    kind: str  # "bundle" (made from wheels: has metadata), "folder" (a bare package), "system", or "library" (one file)
    path: str = ""  # of the paddlelite package, or of the library; "" when there is none
    paddlelite_version: str = ""  # by its metadata ("2.13rc0"), else as lite.so calls itself ("v2.13-rc"); "" unknown
    numpy_version: str = ""  # of the numpy it would import; "" none, "?" one of unknown version
    numpy_2_ready: bool = False  # whether its binding was built for numpy 2
    so_machine: str = ""  # of lite.so, canonical; "" when it cannot be read
    so_problem: str = ""  # why it cannot be read
    so_needed: Tuple[str, ...] = ()  # libraries that it and its own libraries need from the device
    so_versions: FrozenSet[str] = frozenset()  # symbol versions likewise: "GLIBC_2.27", "GLIBCXX_3.4.21"
    so_provided: FrozenSet[str] = frozenset()  # libraries that it contains
    python_tags: Tuple[str, ...] = ()  # ("cp310",); empty = unknown
    opencl: bool = False  # whether it can use OpenCL
    so_system: str = ""  # of lite.so: "linux", "android", "windows", "macos"; "" when unknown
    page_align: int = 0  # the smallest alignment of the segments of lite.so and of its own libraries; 0 unknown
    page_fit: int = 0  # the largest page in which their segments lie in the file as in memory; 0 any
    leftovers: Tuple[str, ...] = ()  # files of macOS's archiver, below the package's folder
    interface: str = ""  # what its library exports, as cxx_library.interface_of; "" = not examined
    flavour: Flavour = field(default_factory=Flavour)  # only after `with_flavour`


def describe_runtime(path: Optional[str] = None, folders: Optional[Sequence[str]] = None) -> RuntimeFacts:
    """Describe the runtime in the folder `path`, or the interpreter's own for None.

    A folder holds `paddlelite/`, or Paddle-Lite's C++ library as a release archive does (kind "library").

    `folders` is what the interpreter searches after `path`: sys.path.  numpy is searched in both, as an import does.
    What cannot be read stays empty.
    """
    rest = list(sys.path if folders is None else folders)
    search = [path] if path is not None else rest
    package = find_package("paddlelite", search)
    numpy = find_package("numpy", ([path] if path is not None else []) + rest)
    if not package.path:
        library = library_in(path) if path is not None else ""
        if library:
            return describe_library(library, beside=True)
        return RuntimeFacts(_kind(path, package), numpy_version=_numpy(numpy))
    binary = binary_of(package.path)
    return replace(
        _describe_elf(binary, package.path),
        kind=_kind(path, package),
        path=package.path,
        paddlelite_version=package.version or _text_in(binary, _BUILT_VERSION),
        numpy_version=_numpy(numpy),
        python_tags=python_tags(package.path, binary),
        leftovers=_leftovers(package.path),
    )


def describe_library(path: str, beside: bool = False) -> RuntimeFacts:
    """Describe a single library of Paddle-Lite (lite.so, libpaddle_light_api_shared.so); what cannot be read stays empty.

    `beside`: the libraries in its folder, and in `libs` there, go with it.
    """
    facts = _describe_elf(path, os.path.dirname(path) if beside else "")
    return replace(
        facts,
        path=path,
        paddlelite_version=_text_in(path, _BUILT_VERSION),
        python_tags=_tags(python_in(path)),
        interface=interface_of(path) if facts.so_machine else "",
    )


def _describe_elf(binary: str, folder: str) -> RuntimeFacts:
    """Return what a library's ELF data and texts say; the libraries in `folder` go with it unless that is ""."""
    program, problem, system = _elf(binary)
    provided, needed, versions, pages = _needs(folder, program)
    numpy_2, opencl = _held(binary, _NUMPY_2, _OPENCL)
    return RuntimeFacts(
        kind="library",
        numpy_2_ready=numpy_2,
        so_machine=program.machine if program is not None else "",
        so_problem=problem,
        so_needed=needed,
        so_versions=versions,
        so_provided=provided,
        opencl=opencl,
        so_system=system,
        page_align=min((align for align, _ in pages if align), default=0),
        page_fit=min((fit for _, fit in pages if fit), default=0),
    )


def with_flavour(runtime: RuntimeFacts) -> RuntimeFacts:
    """Return the runtime with its flavour, for which all bytes of its library are read."""
    binary = _library_of(runtime)
    return replace(runtime, flavour=describe_flavour(binary)) if binary else runtime


def with_interface(runtime: RuntimeFacts) -> RuntimeFacts:
    """Return the runtime with what its library exports."""
    binary = "" if runtime.interface else _library_of(runtime)
    return replace(runtime, interface=interface_of(binary)) if binary else runtime


def exports_cxx(runtime: RuntimeFacts) -> bool:
    """Return whether its C++ library can be driven without the binding: by any interpreter, with any numpy or none.

    Its bytes are searched for the functions that the native engine calls first (15 ms of CPU for the published wheel), so ask
    only where the binding does not fit.
    """
    return with_interface(runtime).interface == "c++"


def _library_of(runtime: RuntimeFacts) -> str:
    """Return the path of its library, "" when there is none."""
    if runtime.kind == "library":
        return runtime.path
    return binary_of(runtime.path) if runtime.path else ""


def _kind(path: Optional[str], package: Package) -> str:
    if path is None:
        return "system"
    return "bundle" if package.version else "folder"


def _numpy(package: Package) -> str:
    return package.version or ("?" if package.path else "")


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def binary_of(package: str) -> str:
    """Return the path of lite.so (or lite.cpython-39-aarch64-linux-gnu.so), "" when there is none."""
    for name in _names(package):
        if re.match(r"^lite(\.[-\w]+)?\.so$", name):
            return os.path.join(package, name)
    return ""


def _elf(binary: str) -> Tuple[Optional[Elf], str, str]:
    """Return (the file's description, why there is none, its operating system)."""
    if not binary:
        return None, "it has no lite.so", ""
    try:
        program = read_elf(binary)
        return program, "", program.system
    except ElfError as error:
        system = error.system if isinstance(error, ForeignBinaryError) else ""
        return None, "%s: %s" % (os.path.basename(binary), error), system


def _needs(
    package: str, program: Optional[Elf]
) -> Tuple[FrozenSet[str], Tuple[str, ...], FrozenSet[str], List[Tuple[int, int]]]:
    """Return (provided, needed, versions, page alignments and fits) of the package's binary and of its own libraries."""
    folders = (package, os.path.join(package, "libs")) if package else ()
    paths = [os.path.join(folder, name) for folder in folders for name in _names(folder) if _LIBRARY.match(name)]
    provided = frozenset(os.path.basename(path) for path in paths)
    needed: List[str] = list(program.needed) if program is not None else []
    versions: Set[str] = set(program.versions) if program is not None else set()
    pages = [(program.page_align, program.page_fit)] if program is not None else []
    for path in paths[:64]:
        library, _, _ = _elf(path)
        if library is not None and os.path.basename(path) in needed:
            needed += library.needed
            versions |= library.versions
            pages.append((library.page_align, library.page_fit))
    missing = tuple(name for name in dict.fromkeys(needed) if name not in provided)
    return provided, missing, frozenset(versions), pages


def _leftovers(package: str) -> Tuple[str, ...]:
    """Return the AppleDouble files in the package and its libs folder: by their name and by their first bytes."""
    found = []
    for part in ("", "libs"):
        for name in _names(os.path.join(package, part))[:1000]:
            if name.startswith("._") and _begins(os.path.join(package, part, name), _APPLE_DOUBLE):
                found.append(os.path.join(part, name if name.isprintable() else ascii(name)))
    return tuple(found[:32])


def _begins(path: str, head: bytes) -> bool:
    try:
        return read_regular(path, len(head)) == head
    except OSError:
        return False


def python_tags(package: str, binary: str) -> Tuple[str, ...]:
    """Return the CPython tags that the binary is for: by its WHEEL file, its name, or pybind11's text in it."""
    tags = wheel_tags("paddlelite", os.path.dirname(package))
    pythons = {python for tag in tags for python in tag.split("-")[0].split(".") if re.match(r"^cp\d{2,4}$", python)}
    if pythons:
        return tuple(sorted(pythons))
    return _tags(python_in(binary))


def _tags(tag: str) -> Tuple[str, ...]:
    return (tag,) if tag else ()


def python_in(binary: str) -> str:
    """Return the CPython that a binary is for ("cp310"), by its name or pybind11's text in it; "" when unknown."""
    named = re.search(r"\.cpython-(\d{2,4})", os.path.basename(binary))
    if named:
        return "cp" + named.group(1)
    built = _text_in(binary, _BUILT_PYTHON)
    return "cp" + built.replace(".", "") if built else ""


def _text_in(path: str, pattern: Pattern[bytes]) -> str:
    """Return the one text that `pattern` finds in a file; "" for none, or for several that differ."""
    try:
        with mapped(path) as data:
            found = {match.group(match.lastindex or 0) for match in pattern.finditer(data)}
    except (OSError, ValueError):  # ValueError: an empty file
        return ""
    return found.pop().decode("ascii", "replace") if len(found) == 1 else ""


def _held(path: str, *texts: bytes) -> List[bool]:
    """Return for each of `texts` whether a file holds it; False where it cannot be read."""
    try:
        with mapped(path) as data:
            return [data.find(text) >= 0 for text in texts]
    except (OSError, ValueError):  # ValueError: an empty file
        return [False] * len(texts)
