"""Reads bundle files and believes nothing in them: every byte is checked against the index, the index against its signature."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from litefleet_agent.findings import finding

from ..common.errors import FindingError, LitefleetError
from ..signing import BUNDLE_NAMESPACE, signer_of

__all__ = ["BundleContents", "read_bundle"]

_INDEX, _SIGNATURE = "index.json", "index.json.sig"
_CHUNK = 1 << 20
_MAX_INDEX = 16 << 20  # bytes
_SHA = re.compile(r"[0-9a-f]{64}\Z")
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error, KeyError)


@dataclass(frozen=True)
class BundleContents:
    """A bundle that was read and found whole; `signer` is who signed it, "" when that was not asked or nobody did."""

    index: Mapping[str, Any]
    signer: str

    @property
    def releases(self) -> tuple[Mapping[str, Any], ...]:
        """Manifest, sealed and kind of each release."""
        return tuple(self.index["releases"])


async def read_bundle(path: Path, allowed_signers: Path | None = None) -> BundleContents:
    """Read a bundle and check every byte of it; with `allowed_signers`, one of them must have signed it.

    Raises: FindingError LF617 (damaged), LF609 (not signed), LF610 (signature); LitefleetError when it can't be read.
    """
    try:
        data, signature, index = await asyncio.to_thread(_read, path)
    except OSError as error:
        raise LitefleetError(f"{path} can't be read: {error.strerror or error}.") from error
    signer = ""
    if allowed_signers is not None:
        if not signature:
            raise FindingError([finding("LF609", f"{path} is not signed.")])
        signer = await signer_of(allowed_signers, data, signature, BUNDLE_NAMESPACE)
        if not signer:
            raise FindingError([finding("LF610", f"no signer in {allowed_signers} signed {path}.")])
    return BundleContents(index, signer)


def _read(path: Path) -> tuple[bytes, str, dict[str, Any]]:
    """Return the index's bytes, its signature, and the index; FindingError LF617 unless every part is whole."""
    try:
        with zipfile.ZipFile(path) as bundle:
            data = _bounded(bundle, _INDEX)
            signature = _bounded(bundle, _SIGNATURE) if _SIGNATURE in bundle.namelist() else b""
            index = _checked_index(json.loads(data.decode("utf-8")))
            for name, (sha, size) in _promised(index):
                _check_member(bundle, name, sha, size)
    except (*_BAD_ZIP, NotImplementedError, RecursionError) as error:
        raise FindingError([finding("LF617", f"{path}: {error}.")]) from error
    return data, signature.decode("ascii", "replace"), index


def _bounded(bundle: zipfile.ZipFile, name: str) -> bytes:
    with bundle.open(name) as member:
        data = member.read(_MAX_INDEX + 1)
    if len(data) > _MAX_INDEX:
        raise ValueError(f"{name} is larger than {_MAX_INDEX} bytes")
    return data


def _checked_index(index: object) -> dict[str, Any]:
    """Return the index when it is of the shape that `write_bundle` gives; ValueError otherwise."""
    wanted = {"created": int, "fleet": str, "releases": list, "blobs": dict, "runtimes": dict, "agent": str}
    if not isinstance(index, dict) or index.get("schema") != 1:
        raise ValueError("the index is not of this version of litefleet")
    wrong = [name for name, kind in wanted.items() if not isinstance(index.get(name), kind)]
    if wrong:
        raise ValueError(f"the index has no '{wrong[0]}'")
    for release in index["releases"]:
        if not isinstance(release, dict) or not isinstance(release.get("manifest"), dict):
            raise ValueError("a release in the index has no manifest")
    return index


def _promised(index: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, int | None]]]:
    """Yield the name of each member with its hash and size (None: unknown)."""
    for sha, size in index["blobs"].items():
        yield f"blobs/{sha}", (sha, size)
    for entry in index["runtimes"].values():
        if not isinstance(entry, dict):
            raise ValueError("a runtime in the index has no hash")
        yield f"blobs/{entry.get('sha256')}", (str(entry.get("sha256")), entry.get("size"))
    yield f"agent/{index['agent']}.pyz", (index["agent"], None)


def _check_member(bundle: zipfile.ZipFile, name: str, sha: str, size: int | None) -> None:
    if not _SHA.match(sha):
        raise ValueError(f"{sha[:80]!r} in the index is no SHA-256")
    if size is not None and bundle.getinfo(name).file_size != size:
        raise ValueError(f"{name} does not have the {size} bytes that the index names")
    with bundle.open(name) as member:
        if _digest(member) != sha:
            raise ValueError(f"{name} does not hold the bytes that its name promises")


def _digest(member: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := member.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
