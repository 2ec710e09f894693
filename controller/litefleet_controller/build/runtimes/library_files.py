"""Finds Paddle-Lite's C++ library where people have it: in a release archive, in an unpacked one, or as a file alone.

Archives come from outside: members that are no libraries are passed over, and what is unpacked is bounded.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from litefleet_agent.facts.cxx_library import NAMES, library_in
from litefleet_agent.facts.libraries import WATCHED

from ...common.errors import FindingError
from ...common.text import sanitize

_LIBRARY = re.compile(r"[^/.][^/]*\.so(\.\d{1,4}){0,4}")
_REFERENCE = re.compile(rb"lib[\w.+-]{1,100}\.so(?:\.\d{1,4}){0,4}")
_MEMBERS = 50_000
_READ = 4 << 30  # bytes that an archive may unpack to; a release archive with its demos holds under 0.5 GB
_UNPACKED = 1 << 30  # bytes of its libraries
_LIBRARIES = 200
_BAD = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, NotImplementedError, RuntimeError,
    EOFError, ValueError, OSError,
)  # fmt: skip
_NNADAPTER = "libnnadapter.so"
_MKL = "libmklml_intel.so"  # builds for x86 load it by a name that they put together


class LibraryFiles(NamedTuple):
    """Paddle-Lite's C++ library, and the other libraries that belong to it."""

    library: Path
    companions: tuple[Path, ...]


def library_files(source: Path, work: Path) -> LibraryFiles:
    """Return the library behind a path; an archive's libraries are unpacked below the folder `work`.

    Raises: FindingError LF302 when it is missing or holds none, LF322 when an archive is damaged, hostile or too large.
    """
    try:
        if source.is_dir():
            return _in_folder(source, source)
        if not stat.S_ISREG(source.stat().st_mode):
            raise FindingError.of("LF302", f"{source} is no regular file.")
        with source.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError as error:
        raise FindingError.of("LF302", f"{source} is missing.") from error
    except OSError as error:
        raise FindingError.of("LF302", f"{source} cannot be read: {error.strerror or error}.") from error
    if head.startswith(b"\x7fELF"):
        beside = [path for folder in (source.parent, source.parent / "libs") for path in _listed(folder)]
        return LibraryFiles(source, _companions(source, beside))
    if source.suffix == ".whl":
        raise FindingError.of("LF302", f"{source.name} is a wheel: name it with `wheel:`.")
    return _in_folder(_unpacked(source, head, work), source)


def is_archive(path: Path) -> bool:
    """Return whether a file's name is that of an archive that can hold the library."""
    return path.name.endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar", ".zip"))


def _in_folder(folder: Path, source: Path) -> LibraryFiles:
    found = library_in(str(folder)) or _only_one(folder, source)
    everything = [path for path in folder.rglob("*.so*") if path.is_file()] if folder != source else _near(Path(found))
    return LibraryFiles(Path(found), _companions(Path(found), everything[:_MEMBERS]))


def _near(library: Path) -> list[Path]:
    """Return the libraries of an unpacked archive: its cxx/lib, and third_party where it has one."""
    top = library.parent.parent.parent if library.parent.name == "lib" else library.parent
    places = [library.parent, library.parent / "libs", top / "third_party" / "mklml" / "lib"]
    return [path for place in places for path in _listed(place)]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _LIBRARY.fullmatch(path.name) and path.is_file())[
            :_LIBRARIES
        ]
    except OSError:
        return []


def _only_one(folder: Path, source: Path) -> str:
    """Return the library at an unusual place of an unpacked archive.  Raises: FindingError LF302 for none or several."""
    wanted = f"{NAMES[0]} (or {NAMES[1]})"
    for name in NAMES:
        found = sorted(folder.rglob(name)) if folder != source else []
        if len(found) > 1:
            places = ", ".join(sanitize(str(p.parent.relative_to(folder))) for p in found[:4])
            raise FindingError.of("LF302", f"{source.name} holds {name} several times ({places}): name one of them.")
        if found:
            return str(found[0])
    java = " It holds the library for Java: take an archive for armlinux." if any(folder.rglob("*_jni.so")) else ""
    where = "in it, in lib and in cxx/lib" if folder == source else "anywhere in it"
    raise FindingError.of("LF302", f"{source.name} holds no {wanted} (looked {where}).{java}")


def _companions(library: Path, available: Iterable[Path]) -> tuple[Path, ...]:
    """Return the libraries whose names the library, or one of them, holds: it needs them, or loads them by name.

    NNAdapter composes the names of its drivers, so all libraries beside it go along.
    """
    by_name = {path.name: path for path in available if not path.name.startswith("libpaddle_")}
    found: dict[str, Path] = {}
    wanted = [library]
    while wanted:
        named = {match.decode("ascii") for match in _REFERENCE.findall(wanted.pop().read_bytes())}
        named |= {_MKL} if "libiomp5.so" in named else set()
        new = {name: by_name[name] for name in sorted(named & by_name.keys() - found.keys() - set(WATCHED[:9]))}
        if _NNADAPTER in new:
            new.update({n: p for n, p in by_name.items() if n not in found and p.parent == new[_NNADAPTER].parent})
        new = {name: path for name, path in new.items() if path != library}
        found.update(new)
        wanted += new.values()
    return tuple(found[name] for name in sorted(found))


def _unpacked(source: Path, head: bytes, work: Path) -> Path:
    """Unpack the libraries of an archive below `work` and return that folder."""
    try:
        if head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(source) as archive:
                _unpack(_members_of_zip(archive), source, work)
        elif head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise _damaged(source, "is a web page, not an archive: download it again")
        else:
            # Not tarfile's own decompression, which does not check the checksum at the end.
            with _decompressed(source, head) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                _unpack(_members_of_tar(tar), source, work)
                _read_to_the_end(stream, source)
    except _BAD as error:
        why = sanitize(str(error) or type(error).__name__).rstrip(".")
        raise _damaged(source, f"cannot be unpacked ({why}): download it again, and compare its hash") from error
    return work


def _decompressed(source: Path, head: bytes) -> IO[bytes]:
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(source))
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.open(source)
    return bz2.open(source) if head.startswith(b"BZh") else source.open("rb")


def _read_to_the_end(stream: IO[bytes], source: Path) -> None:
    left = _READ
    while chunk := stream.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise _damaged(source, f"holds more than {_READ:,} bytes after its last file")


class _Member(NamedTuple):
    name: str
    size: int  # bytes
    content: IO[bytes] | None  # None: no regular file


def _members_of_tar(tar: tarfile.TarFile) -> Iterator[_Member]:
    for member in tar:
        yield _Member(member.name, member.size, tar.extractfile(member) if member.isreg() else None)


def _members_of_zip(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        plain = not info.is_dir() and (not stat.S_IFMT(mode) or stat.S_ISREG(mode))
        yield _Member(
            info.filename, info.file_size, archive.open(info) if plain and _is_library(info.filename) else None
        )


def _is_library(name: str) -> bool:
    return bool(_LIBRARY.fullmatch(PurePosixPath(name).name))


def _unpack(members: Iterable[_Member], source: Path, work: Path) -> None:
    """Write the libraries of an archive; links among them are passed over, as what they name is in the archive too."""
    count = total = taken = libraries = 0
    for member in members:
        count, total = count + 1, total + max(member.size, 0)
        if count > _MEMBERS or total > _READ:
            raise _damaged(
                source, f"holds more than {_MEMBERS:,} files or {_READ:,} bytes; it is not a release archive"
            )
        if member.content is None or not _is_library(member.name):
            continue
        parts = PurePosixPath(member.name).parts
        if member.name.startswith("/") or ".." in parts or any("\\" in part or "\0" in part for part in parts):
            raise _damaged(source, f"holds '{sanitize(member.name)}', which would not stay inside its folder")
        taken, libraries = taken + member.size, libraries + 1
        if taken > _UNPACKED or libraries > _LIBRARIES:
            raise _damaged(source, f"holds more than {_LIBRARIES} libraries or {_UNPACKED:,} bytes of them")
        path = work.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.content as content, path.open("xb") as out:
            shutil.copyfileobj(content, out, 1 << 20)


def _damaged(source: Path, why: str) -> FindingError:
    return FindingError.of("LF322", f"{sanitize(source.name)} {why}.")
