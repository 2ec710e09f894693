"""Unpacks the parts of an untrusted wheel or runtime bundle that its description needs, within bounds."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings import Finding, finding

from ..build.runtimes.compatibility import platform_arch, python_fits, wheel_name
from ..build.runtimes.pack import installed_at, unpack_member
from ..common.errors import FindingError
from ..common.text import sanitize

_MEMBERS = 20_000
_FILE = 2 << 30  # bytes of the archive itself
_UNPACKED = 2 << 30  # bytes of what is unpacked of it; the published wheels hold 170 MB
_BOMB = 100 << 20  # bytes above which a member's ratio is checked
_RATIO = 100  # lite.so and MKL are packed to a third; zeros pack 1000:1
_METADATA = re.compile(r"[^/]+\.dist-info/(WHEEL|METADATA|RECORD)")
_NUMPY = ("numpy/__init__.py", "numpy/version.py")
_INSTEAD = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"\x1f\x8b", "a gzip file"),
)
_ERRORS = (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError, ValueError, zlib.error)


def check_tags(name: str, machine: str, python: str) -> tuple[Finding, ...]:
    """Return LF307 or LF308 where a wheel's name disagrees with its lite.so, which is for `machine` and `python`.

    `python` is a tag such as "cp310", "" where it is unknown.  LF322 for a name that is not a wheel's.
    """
    wheel = wheel_name(name)
    if wheel is None:
        observed = (
            f"{sanitize(name)} is not a wheel's name, so pip rejects it: rename it to the name it was built with."
        )
        return (finding("LF322", observed),) if name.endswith(".whl") else ()
    found = []
    if python and not python_fits(wheel.tags, python):
        named = " or ".join(wheel.pythons)
        found.append(finding("LF307", f"{sanitize(name)} is named for {sanitize(named)}; its lite.so is for {python}."))
    arches = {platform_arch(platform) for platform in wheel.platforms} - {""}
    if machine in ARCHES and arches and machine not in arches:
        named = ", ".join(sorted(arches))
        found.append(finding("LF308", f"{sanitize(name)} is named for {named}; its lite.so is for {machine}."))
    return tuple(found)


def unpack(path: Path, target: Path) -> int:
    """Unpack paddlelite/ and what names its versions below `target`; return how many files, each with its CRC-32 right.

    Raises: FindingError LF322 when the archive is damaged, hostile or too large.
    """
    try:
        if path.stat().st_size > _FILE:
            raise _refusal(path, f"has {path.stat().st_size:,} bytes; at most {_FILE:,} are read")
        with zipfile.ZipFile(path) as archive:
            wanted = _wanted(path, archive.infolist())
            for info in wanted:
                unpack_member(archive, info, path, target)
            _check_record(path, [info.filename for info in wanted], target)
            return len(wanted)
    except FindingError as error:
        raise FindingError([finding("LF322", f.observed) for f in error.findings]) from error
    except zipfile.BadZipFile as error:
        raise _refusal(path, _instead(path) or f"cannot be unpacked: {sanitize(str(error)).rstrip('.')}") from error
    except _ERRORS as error:
        raise _refusal(
            path, f"cannot be unpacked: {sanitize(str(error) or type(error).__name__).rstrip('.')}"
        ) from error


def _instead(path: Path) -> str:
    """Return what a file that is not a zip is, "" if unrecognised: mirrors and proxies save other things as wheels."""
    with path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    for begin, name in _INSTEAD:
        if head.startswith(begin):
            return f"is {name}, not a wheel"
    return "" if head else "is empty"


def _refusal(path: Path, why: str) -> FindingError:
    return FindingError.of("LF322", f"{sanitize(path.name)} {why}.")


def _wanted(path: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the members that a description needs, after checking the sizes that the archive declares."""
    if len(members) > _MEMBERS:
        raise _refusal(path, f"holds {len(members):,} files; at most {_MEMBERS:,} are read")
    wanted = [info for info in members if not info.is_dir() and _is_wanted(info.filename)]
    total = sum(info.file_size for info in wanted)
    if total > _UNPACKED:
        raise _refusal(path, f"unpacks to {total:,} bytes; at most {_UNPACKED:,} are read")
    for info in wanted:
        if info.file_size > max(_BOMB, _RATIO * info.compress_size):
            raise _refusal(
                path,
                f"holds {sanitize(info.filename)}, which unpacks to {info.file_size:,} bytes, over {_RATIO} times its size",
            )
    return wanted


def _is_wanted(name: str) -> bool:
    parts = installed_at(PurePosixPath(name))
    place = "/".join(parts) if parts else name
    return place.startswith("paddlelite/") or place in _NUMPY or bool(_METADATA.fullmatch(place))


def _check_record(path: Path, names: list[str], target: Path) -> None:
    """Compare paddlelite's binary with the SHA-256 that RECORD names.  Raises: FindingError."""
    records = sorted(target.glob("*.dist-info/RECORD"))
    if not records and path.suffix == ".whl":
        raise _refusal(path, "holds no RECORD, so pip does not install it")
    for record in sorted(target.glob("paddlelite-*.dist-info/RECORD"))[:1]:
        rows = csv.reader(record.read_text(encoding="utf-8", errors="replace").splitlines())
        named = {row[0]: row[1] for row in rows if len(row) >= 2 and row[1].startswith("sha256=")}
        for name in names:
            parts = installed_at(PurePosixPath(name)) or ()
            if name in named and re.fullmatch(r"paddlelite/lite(\.[-\w]+)?\.so", "/".join(parts)):
                _check_hash(path, name, target.joinpath(*parts), named[name].removeprefix("sha256="))


def _check_hash(path: Path, name: str, file: Path, wanted: str) -> None:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != wanted.rstrip("="):
        raise _refusal(path, f"holds another {sanitize(name)} than its RECORD names: its SHA-256 differs")
