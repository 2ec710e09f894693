"""The files of a Python that starts anywhere: by its own loader, with its own libraries, from whatever folder it lies in.

bin/python3            a sh script: starts bin/python3.real by lib/ld.so
lib/ld.so, lib/*.so*   the loader and the libraries of the interpreter, of its modules and of Paddle-Lite
lib/python3.N/         the standard library, trimmed
share/doc/             the licences
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from litefleet_agent.formats.elf import Elf, ElfError, read_elf

from .deb import PackageError, PackageFile

LIBRARIES = (  # beyond what the interpreter and its modules need: what Paddle-Lite's builds do
    "libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libatomic.so.1", "libm.so.6", "libdl.so.2", "libpthread.so.0",
    "librt.so.1", "libutil.so.1", "libz.so.1",
)  # fmt: skip
_LOADER = re.compile(r"ld-linux[a-z0-9-]*\.so\.\d|ld-\d.*\.so")
# Of the standard library: what no program on a device without a screen, a compiler and a package index uses.
_DROPPED = re.compile(
    r"^(test|idlelib|tkinter|turtledemo|lib2to3|ensurepip|venv|pydoc_data|distutils|config-[^/]*|__phello__)(/|$)"
    r"|(^|/)(tests?|__pycache__)/|^(turtle|pydoc|antigravity|this|doctest|pdb|cProfile|profile|pstats|imghdr|sndhdr)\.py$"
    r"|\.(pickle|txt|exe)$|^sitecustomize\.py$|^EXTERNALLY-MANAGED$"
)
_TESTS = re.compile(r"test|xx")  # modules for CPython's own tests
_STARTED = re.compile(r"(bin|lib)/[^/]+")  # what is loaded before any module
_OWN_LOADER = '"$d/lib/ld.so" --library-path "$d/lib" --argv0 "$0"'


def wrapper(brings_loader: bool) -> bytes:
    """Return the script bin/python3.

    `--argv0` makes sys.executable this script, so that what Python starts with it is started the same way.
    """
    start = f"exec {_OWN_LOADER}" if brings_loader else "exec"
    return f"""#!/bin/sh
# Python as litefleet brought it, wherever it lies.
d=${{0%/*}}/..
{start} "$d/bin/python3.real" "$@"
""".encode()


def is_dropped(name: str) -> bool:
    """Return whether a file of the standard library, by its path in it, is of no use on a device."""
    return bool(_DROPPED.search(name))


@dataclass(frozen=True)
class PythonTree:
    """The files of a Python by their path, and what it is."""

    files: Mapping[str, tuple[bytes, bool]]  # content, and whether it runs
    python: str  # "3.11"
    libc: str  # "glibc 2.36"; "" where it runs on the device's own
    machine: str  # as formats.elf names it: "aarch64"
    needs: str = ""  # the device's own libc that its program is started by: "glibc", "musl"; "" for none

    @property
    def largest_page(self) -> int:
        """The largest page, in bytes, in which its program and libraries lie in the file as in memory; 0: any."""
        fits = []
        for name, (data, _) in self.files.items():
            if _STARTED.fullmatch(name):
                with contextlib.suppress(ElfError):
                    fits.append(read_elf(data).page_fit)
        return min((fit for fit in fits if fit), default=0)


def tree_of(files: Iterable[PackageFile], version: str) -> PythonTree:
    """Return the tree made of Debian's packages of Python `version` ("3.11") and of the libraries.

    Modules whose libraries are not among the packages are left out.  Raises: PackageError for what is missing.
    """
    parts = _sort(files, version)
    if not parts.program or not parts.loader or "os.py" not in parts.stdlib:
        raise PackageError(
            f"the packages hold no whole Python {version}: its program, its library or the loader is missing"
        )
    elf, libraries = _elf("python", parts.program), parts.libraries
    kept = libraries.needed_by([elf, *map(libraries.elf, LIBRARIES)], "Python") | set(LIBRARIES) & libraries.names
    modules = {name: data for name, data in parts.stdlib.items() if not name.endswith(".so") and not is_dropped(name)}
    for name, data in parts.stdlib.items():
        needs = libraries.closure(_elf(name, data)) if name.endswith(".so") and not _TESTS.search(name) else None
        if needs is not None:
            kept |= needs
            modules[name] = data
    if not any("/_ctypes." in f"/{name}" for name in modules):
        raise PackageError(f"Python {version} would have no ctypes: the package of libffi is missing")
    programs = {"bin/python3": wrapper(True), "bin/python3.real": parts.program, "lib/ld.so": parts.loader}
    tree = {name: (data, True) for name, data in programs.items()}
    tree.update({f"share/doc/{name}/copyright": (data, False) for name, data in parts.licences.items()})
    tree.update({f"lib/python{version}/{name}": (data, False) for name, data in modules.items()})
    tree.update({f"lib/{name}": (libraries.data(name), False) for name in kept})
    return PythonTree(tree, version, f"glibc {_glibc(libraries.elf('libc.so.6'))}", elf.machine)


@dataclass
class _Parts:
    """The files of packages by what they are for."""

    libraries: _Libraries
    stdlib: dict[str, bytes] = field(default_factory=dict)
    licences: dict[str, bytes] = field(default_factory=dict)
    program: bytes = b""
    loader: bytes = b""


def _sort(files: Iterable[PackageFile], version: str) -> _Parts:
    parts, stdlib = _Parts(_Libraries()), f"usr/lib/python{version}"
    for file in files:
        path = PurePosixPath(file.path)
        if file.path == f"usr/bin/python{version}":
            parts.program = file.data
        elif path.is_relative_to(stdlib):
            parts.stdlib[str(path.relative_to(stdlib))] = file.data
        elif path.name == "copyright" and not file.target:
            parts.licences[path.parent.name] = file.data
        elif _LOADER.fullmatch(path.name) and not file.target:
            parts.loader = file.data
        elif ".so" in path.name and path.parts[:1] in (("lib",), ("usr",)) and "gconv" not in path.parts:
            parts.libraries.add(path.name, file)
    return parts


class _Libraries:
    """Shared libraries of packages, by file name; links lead to files."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}

    def add(self, name: str, file: PackageFile) -> None:
        if file.target:
            self._links[name] = PurePosixPath(file.target).name
        else:
            self._files[name] = file.data

    @property
    def names(self) -> set[str]:
        return {*self._files, *self._links}

    def data(self, name: str) -> bytes:
        """Return a library's content.  Raises: KeyError."""
        return self._files[name] if name in self._files else self._files[self._links[name]]

    def elf(self, name: str) -> Elf:
        """Return what a library needs; nothing for one that a libc of this kind has no more."""
        return _elf(name, self.data(name)) if name in self.names else _NOTHING

    def closure(self, elf: Elf) -> set[str] | None:
        """Return the libraries that a binary needs, itself not counted; None when one is missing."""
        found: set[str] = set()
        waiting = list(elf.needed)
        while waiting:
            name = waiting.pop()
            if name in found or _LOADER.fullmatch(name):
                continue
            if name not in self.names:
                return None
            found.add(name)
            waiting += self.elf(name).needed
        return found

    def needed_by(self, elves: Iterable[Elf], what: str) -> set[str]:
        """Return the libraries that all of `elves` need.  Raises: PackageError naming what is missing."""
        found: set[str] = set()
        for elf in elves:
            needs = self.closure(elf)
            if needs is None:
                missing = ", ".join(name for name in elf.needed if name not in self.names)
                raise PackageError(f"{what} needs {missing or 'a library'}, which is in none of the packages")
            found |= needs
        return found


_NOTHING = Elf("", 0, (), frozenset(), frozenset(), "", "")


def _elf(name: str, data: bytes) -> Elf:
    try:
        return read_elf(data)
    except ElfError as error:
        raise PackageError(f"{name} cannot be read: {error}") from error


def _glibc(libc: Elf) -> str:
    versions = [re.fullmatch(r"GLIBC_(\d{1,3})\.(\d{1,3})", name) for name in libc.provides]
    newest = max(((int(v[1]), int(v[2])) for v in versions if v), default=(0, 0))
    if newest < (2, 33):  # its loader has no --argv0
        shown = ".".join(map(str, newest))
        raise PackageError(
            f"the packages' libc is glibc {shown}, and a Python that is brought needs 2.33 or later: name a newer suite "
            "(Debian 12 has 2.36) as `python: {mirror: URL, suite: bookworm}` in litefleet.yaml"
        )
    return ".".join(map(str, newest))
