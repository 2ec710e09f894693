"""Reads Debian packages: the files of a .deb (an `ar` archive that holds a tar archive), and an index of packages."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...common.errors import LitefleetError

_MAGIC, _HEADER = b"!<arch>\n", 60
_MOST_PACKED, _MOST_FILE, _MOST_FILES = 64 << 20, 64 << 20, 20_000  # bytes of a .deb, of a file in it; files in it
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")
_VERSION = re.compile(r"[A-Za-z0-9.+~:-]{1,200}")
_FILE = re.compile(r"[A-Za-z0-9+~:._/%-]{1,500}")


class PackageError(LitefleetError):
    """A package, or an index of packages, that cannot be used; the text names it."""


class PackageFile(NamedTuple):
    """One file of a package; `target` is that of a symbolic link, "" for a file."""

    path: str  # without the first "./": "usr/bin/python3.11"
    data: bytes
    runs: bool  # it has the mode of a program
    target: str = ""


@dataclass(frozen=True)
class Package:
    """One package as an index describes it; `size` in bytes."""

    name: str
    version: str
    architecture: str
    file: str  # relative to the mirror's URL
    size: int
    sha256: str
    depends: tuple[str, ...]  # names, without versions; of alternatives the first


def files_of(path: Path) -> Iterator[PackageFile]:
    """Yield the files and symbolic links of a .deb.  Raises: PackageError for one that is damaged or packed in an unknown way."""
    try:
        if path.stat().st_size > _MOST_PACKED:
            raise PackageError(f"{path.name} is larger than {_MOST_PACKED >> 20} MiB: no package of Python is")
        with tarfile.open(fileobj=io.BytesIO(_data_of(path.name, path.read_bytes())), mode="r:*") as archive:
            yield from _members(path.name, archive)
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise PackageError(f"the package {path.name} cannot be read: {error}") from error


def _members(name: str, archive: tarfile.TarFile) -> Iterator[PackageFile]:
    for number, member in enumerate(archive):
        if member.size > _MOST_FILE or number > _MOST_FILES:
            raise PackageError(f"the package {name} holds more than a package of Python does")
        path = PurePosixPath(member.name.removeprefix("./").lstrip("/"))
        if ".." in path.parts:
            raise PackageError(f"the package {name} holds the unsafe path {member.name[:80]!r}")
        if member.issym():
            yield PackageFile(str(path), b"", False, member.linkname)
        elif member.isfile() and (stream := archive.extractfile(member)) is not None:
            yield PackageFile(str(path), stream.read(), bool(member.mode & 0o100))


def _data_of(name: str, data: bytes) -> bytes:
    """Return the archive data.tar.* of a .deb."""
    if not data.startswith(_MAGIC):
        raise PackageError(f"{name} is no Debian package: it does not begin as an ar archive does")
    at, found = len(_MAGIC), []
    while at + _HEADER <= len(data):
        header = data[at : at + _HEADER]
        member, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            raise PackageError(f"the package {name} is damaged at byte {at}")
        body = data[at + _HEADER : at + _HEADER + int(size)]
        if len(body) < int(size):
            raise PackageError(f"the package {name} is cut: {member} should have {int(size)} bytes")
        if member in ("data.tar", "data.tar.xz", "data.tar.gz", "data.tar.bz2"):
            return body
        found.append(member)
        at += _HEADER + int(size) + int(size) % 2
    held = ", ".join(found)[:200]
    raise PackageError(f"the package {name} holds no archive that can be read here (data.tar with xz or gzip): {held}")


def parse_index(text: str, wanted: frozenset[str], architecture: str) -> dict[str, Package]:
    """Return the newest version of each wanted package in an index, for `architecture` as Debian names it ("arm64").

    Paragraphs that are not well formed are passed over.
    """
    found: dict[str, Package] = {}
    for paragraph in text.split("\n\n"):
        name = re.search(r"^Package: (.*)$", paragraph, re.MULTILINE)
        if name is None or name[1].strip() not in wanted:
            continue
        package = _package(paragraph)
        if package is None or package.architecture not in (architecture, "all"):
            continue
        known = found.get(package.name)
        if known is None or version_key(package.version) > version_key(known.version):
            found[package.name] = package
    return found


def _package(paragraph: str) -> Package | None:
    fields = dict(re.findall(r"^([A-Za-z0-9-]{1,60}): ?(.*)$", paragraph, re.MULTILINE))
    name, version, file = fields.get("Package", ""), fields.get("Version", ""), fields.get("Filename", "")
    sha256, size = fields.get("SHA256", ""), fields.get("Size", "")
    formed = (_NAME, name), (_VERSION, version), (_FILE, file), (_SHA256, sha256), (re.compile(r"\d{1,10}"), size)
    if not all(pattern.fullmatch(value) for pattern, value in formed) or ".." in file:
        return None
    depends = fields.get("Depends", "") + "," + fields.get("Pre-Depends", "")
    names = (re.match(r"\s*([a-z0-9+.-]+)", one) for one in depends.split(","))
    return Package(
        name,
        version,
        fields.get("Architecture", ""),
        file,
        int(size),
        sha256,
        tuple(dict.fromkeys(found[1] for found in names if found)),
    )


_Key = tuple[int, tuple[tuple[int, ...] | int, ...], tuple[tuple[int, ...] | int, ...]]


def version_key(version: str) -> _Key:
    """Return what orders versions as dpkg does: epoch, upstream's version, Debian's revision."""
    epoch, colon, rest = version.partition(":")
    upstream, dash, revision = (rest if colon else version).rpartition("-")
    if not dash:
        upstream, revision = revision, ""
    return int(epoch) if colon and epoch.isdigit() else 0, _part_key(upstream), _part_key(revision)


def _part_key(text: str) -> tuple[tuple[int, ...] | int, ...]:
    """Return texts and numbers in turn; "~" sorts before the end of a text, letters before anything else."""
    key: list[tuple[int, ...] | int] = []
    while text:
        letters = re.match(r"\D*", text)
        assert letters is not None  # it matches the empty text too
        key.append((*(_order(letter) for letter in letters[0]), 0))
        text = text[letters.end() :]
        digits = re.match(r"\d*", text)
        assert digits is not None
        key.append(int(digits[0] or 0))
        text = text[digits.end() :]
    return (*key, (0,))


def _order(letter: str) -> int:
    return -1 if letter == "~" else ord(letter) if letter.isalpha() else ord(letter) + 256
