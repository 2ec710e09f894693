"""Paddle-Lite's C++ library as a runtime: what a device gets of it, and what it is and needs."""

from __future__ import annotations

import functools
import hashlib
import os
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from litefleet_agent.facts.cxx_library import NAMES, library_in, shows_lto
from litefleet_agent.facts.runtime import RuntimeFacts, describe_runtime, with_flavour
from litefleet_agent.formats.elf import ElfError, read_elf

from ...common.errors import FindingError, LitefleetError
from ...common.files import foreign_writers, make_private_folder
from ...config.choices import RuntimeChoice
from .library_files import LibraryFiles, library_files

_RECIPE = 1  # raise it when trees come to be made in another way
_WORTH = 1 << 16  # bytes that leaving out sections must save


@dataclass(frozen=True)
class Library:
    """A C++ library as a runtime."""

    source: Path  # what was named: an archive, a folder or a file
    tree: Path  # the folder that a device gets
    runtime: RuntimeFacts  # with its flavour
    lto: bool  # whether link-time optimisation left its marks; False proves nothing

    @property
    def words(self) -> str:
        """The library for people: "v2.13-rc of inference_lite_lib.armlinux.armv8.gcc.tar.gz"."""
        return f"{self.runtime.paddlelite_version or 'a library of unknown version'} of {self.source.name}"


def is_library(choice: RuntimeChoice) -> bool:
    """Return whether a choice is a C++ library: named as one, or a folder that holds it and no Python package."""
    if choice.kind != "folder":
        return choice.kind == "library"
    return not (choice.path / "paddlelite").is_dir() and bool(library_in(str(choice.path)))


def read_library(source: Path, cache: Path) -> Library:
    """Return the library behind a path; its tree is made once, below `cache`.

    Raises: FindingError LF302 when there is none, LF322 for an archive that is damaged, hostile or too large; LitefleetError
    when others can write in the cache.
    """
    key = hashlib.sha256(f"{_RECIPE}\0{source.resolve()}\0{_state_of(source)}".encode()).hexdigest()[:32]
    return _read(source, cache / "libraries", key)


def _state_of(source: Path) -> str:
    """Return what changes with a file, or with the libraries of a folder."""
    if source.is_dir():
        found = library_in(str(source))
        files = [source] if not found else sorted(Path(found).parent.glob("*.so*"))
    else:
        files = [source]
    return "\n".join(f"{path.name}\0{s.st_size}\0{s.st_mtime_ns}" for path in files if (s := _stat(path)) is not None)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


@functools.lru_cache(maxsize=64)
def _read(source: Path, cache: Path, key: str) -> Library:
    make_private_folder(cache.parent)
    make_private_folder(cache)
    if why := foreign_writers(cache):
        raise LitefleetError(
            f"The cache folder {cache} is not used: {why}, and devices run what is in it. Remove it and run again."
        )
    tree, marked = cache / key, cache / f"{key}.lto"
    if not tree.is_dir():
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=cache) as name:
            work = Path(name)
            files = library_files(source, work / "unpacked")
            _check(files.library, source)
            if shows_lto(str(files.library)):
                marked.touch()
            _make_tree(files, work / "tree")
            try:
                (work / "tree").rename(tree)
            except OSError:  # another process made it meanwhile
                if not tree.is_dir():
                    raise
    runtime = with_flavour(describe_runtime(str(tree), []))
    return Library(source, tree, runtime, marked.exists())


def _check(library: Path, source: Path) -> None:
    """Raise FindingError LF315 for a library that is no ELF file, or cut off."""
    try:
        read_elf(str(library))
    except ElfError as error:
        where = "" if library == source else f" of {source.name}"
        raise FindingError.of("LF315", f"{library.name}{where}: {str(error).rstrip('.')}.") from error


def _make_tree(files: LibraryFiles, tree: Path) -> None:
    """Write the library's files for a device: under a name that the agent knows, the others where its RUNPATH finds them."""
    tree.mkdir()
    runpath = read_elf(str(files.library)).runpath
    beside = tree / "libs" if "$ORIGIN/libs" in runpath else tree
    name = files.library.name if files.library.name in NAMES else NAMES[0]
    for path, to in [(files.library, tree / name), *((path, beside / path.name) for path in files.companions)]:
        to.parent.mkdir(exist_ok=True)
        to.write_bytes(without_sections(path.read_bytes()))
        to.chmod(0o755)


def without_sections(data: bytes) -> bytes:
    """Return a library without its sections, symbol table and debugging data, which no loader reads; `data` if that saves little.

    What the program headers cover stays, byte for byte, but for the three fields of the header that name the sections.
    """
    try:
        cut = _cut(data)
        return cut if len(data) - len(cut) >= _WORTH and read_elf(cut) == read_elf(data) else data
    except (ElfError, struct.error, IndexError):
        return data


def _cut(data: bytes) -> bytes:
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    at, form = (32, "QQIHHHHHH") if wide else (28, "IIIHHHHHH")
    start, _, flags, size, entry, count, *_ = struct.unpack_from(order + form, data, at)
    segments = (
        struct.unpack_from(order + ("8xQ16xQ" if wide else "4xI8xI"), data, start + number * entry)
        for number in range(count)
    )
    end = max([start + count * entry, *(offset + length for offset, length in segments)])
    head = bytearray(data[:end])
    struct.pack_into(order + form, head, at, start, 0, flags, size, entry, count, 0, 0, 0)
    return bytes(head)


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes of files together."""
    return sum(path.stat().st_size for path in paths)


def described(library: Library, name: str) -> RuntimeFacts:
    """Return a library's facts under the name that people know it by, for sentences."""
    return replace(library.runtime, path=name)
