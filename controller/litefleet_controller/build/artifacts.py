"""The content-addressed store of converted models: blobs named by their SHA-256, and which variant gave which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import LitefleetError
from ..common.files import write_atomically

__all__ = ["ArtifactStore", "StoreError"]

_HEX = frozenset("0123456789abcdef")


class StoreError(LitefleetError):
    """The artifact store can't be read or written, or a blob in it is not what its name says."""


def _checked(name: str) -> str:
    """Return a SHA-256's text; a name from outside must never become a path of its own."""
    if len(name) != 64 or not set(name) <= _HEX:
        raise StoreError(f"{name[:80]!r} is no SHA-256 (64 characters of 0-9 and a-f).")
    return name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}.") from error


class ArtifactStore:
    """A folder of blobs and variants; safe for several processes at once, as every write is a whole file's rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._variants = root / "variants"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            raise StoreError(
                f"The artifact store {self.root} can't be written: {error.strerror}. "
                "Free space there, or name another folder under `store:`."
            ) from error

    def path(self, sha256: str) -> Path:
        """Return where a blob lies, whether or not it is there.  Raises: StoreError for what is no SHA-256."""
        return self._blobs / _checked(sha256)

    def put(self, content: bytes | Path) -> str:
        """Store bytes, or a file's, and return their SHA-256; a damaged copy that lies there is replaced.

        Raises: StoreError when the store can't be written, or the file can't be read.
        """
        data = _read(content) if isinstance(content, Path) else content
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.intact(sha256):
            self._write(self.path(sha256), data)
        return sha256

    def intact(self, sha256: str) -> bool:
        """Tell whether the blob is there and its bytes still are what its name says."""
        try:
            self.read(sha256)
        except StoreError:
            return False
        return True

    def read(self, sha256: str) -> bytes:
        """Return a blob's bytes, hashed again.  Raises: StoreError when it is missing, unreadable or damaged."""
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"The artifact {sha256[:12]} is not in the store {self.root}.") from error
        except OSError as error:
            raise StoreError(f"The artifact {path} can't be read: {error.strerror}.") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(
                f"The artifact {path} is damaged: its bytes are not those its name promises. Convert again."
            )
        return data

    def record(self, key: str, sha256: str, about: Mapping[str, Any]) -> None:
        """Remember that the variant `key` gave the blob `sha256`; `about` (JSON) is for people who look.

        Raises: StoreError when the store can't be written.
        """
        entry = {"sha256": _checked(sha256), "about": dict(about)}
        self._write(
            self._variants / f"{_checked(key)}.json", json.dumps(entry, sort_keys=True, indent=1).encode() + b"\n"
        )

    def lookup(self, key: str) -> str | None:
        """Return the SHA-256 that a variant gave, or None when it is not known or its blob is missing or damaged."""
        try:
            entry = json.loads((self._variants / f"{_checked(key)}.json").read_bytes())
            sha256 = _checked(str(entry["sha256"]))
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            return None  # as good as never converted: it is made again
        return sha256 if self.intact(sha256) else None
