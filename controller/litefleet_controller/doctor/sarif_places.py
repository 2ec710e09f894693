"""Where SARIF's findings are: URIs relative to the working directory, and what is known of each file."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from .diagnosis import Diagnosis, Kind

__all__ = ["ROOT_NAME", "artifact_of", "relative_uri", "root_uri"]

ROOT_NAME = "%SRCROOT%"  # the name that viewers know for the root of what was looked at
_MOST = 2 << 30  # bytes; a larger file's hash is left out


def root_uri(root: Path) -> str:
    """Return a folder's URI, with the final slash that SARIF asks for."""
    return root.as_uri().rstrip("/") + "/"


def relative_uri(path: Path, root: Path) -> str:
    """Return a percent-encoded URI: relative inside `root`, else `file:///...`; a folder's ends with a slash."""
    absolute = Path(os.path.normpath(root / path))
    inside = _inside(absolute, root) or _inside(Path(os.path.realpath(absolute)), Path(os.path.realpath(root)))
    uri = _quoted(inside) if inside is not None else absolute.as_uri()
    folder = os.path.isdir(absolute)  # noqa: PTH112  (Path.is_dir raises for names that are too long)
    return uri.rstrip("/") + "/" if folder else uri


def artifact_of(diagnosis: Diagnosis, uri: str) -> dict[str, Any]:
    """Return SARIF's artifact for the file or folder that a diagnosis is of, with size and SHA-256 where they can be had."""
    path = diagnosis.path
    location = {"uri": uri} if uri.startswith("file:") else {"uri": uri, "uriBaseId": ROOT_NAME}
    if path is None or uri.endswith("/"):
        return {"location": location, "roles": ["analysisTarget", "directory"]}
    known = diagnosis.data.get("sha256") if diagnosis.kind is Kind.NB else None
    size, digest = _measured(path, known if isinstance(known, str) else None)
    return {
        "location": location,
        "roles": ["analysisTarget"],
        **({"length": size} if size is not None else {}),
        **({"hashes": {"sha-256": digest}} if digest else {}),
    }


def _inside(path: Path, root: Path) -> Path | None:
    return path.relative_to(root) if path.is_relative_to(root) and path != root else None


def _quoted(path: Path) -> str:
    return quote_from_bytes(os.fsencode(path.as_posix()), safe="/")


def _measured(path: Path, known: str | None) -> tuple[int | None, str | None]:
    """Return a file's size and SHA-256, None for what can't be had."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            return None, known
        if known or about.st_size > _MOST:
            return about.st_size, known
        with path.open("rb") as stream:
            return about.st_size, hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None, known
