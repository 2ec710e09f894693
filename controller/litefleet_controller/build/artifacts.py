"""The content-addressed store of converted models: blobs named by their SHA-256, and the blob of each variant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..common.errors import LitefleetError
from ..common.files import write_atomically

_HEX = frozenset("0123456789abcdef")


class StoreError(LitefleetError):
    """The artifact store cannot be read or written, or a blob's bytes do not have the SHA-256 in its name."""


def _checked(name: str) -> str:
    """Return a SHA-256 in hex.  Raises: StoreError for other text, which must never become a path."""
    if len(name) != 64 or not set(name) <= _HEX:
        raise StoreError(f"{name[:80]!r} is not a SHA-256 (64 characters of 0-9 and a-f).")
    return name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error


class ArtifactStore:
    """A folder of blobs and variants; several processes may use it at once, as each write renames a whole file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._variants = root / "variants"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            raise StoreError(
                f"The artifact store {self.root} cannot be written: {error.strerror}. "
                "Free space there, or name another folder under `store:`."
            ) from error

    def path(self, sha256: str) -> Path:
        """Return the path of a blob, whether or not the file exists.  Raises: StoreError when the name is not a SHA-256."""
        return self._blobs / _checked(sha256)

    def put(self, content: bytes | Path) -> str:
        """Store bytes, or a file's content, and return their SHA-256; replace a damaged copy.

        Raises: StoreError when the store cannot be written, or the file cannot be read.
        """
        data = _read(content) if isinstance(content, Path) else content
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.intact(sha256):
            self._write(self.path(sha256), data)
        return sha256

    def intact(self, sha256: str) -> bool:
        """Whether the blob exists and its bytes have the SHA-256 in its name."""
        try:
            self.read(sha256)
        except StoreError:
            return False
        return True

    def read(self, sha256: str) -> bytes:
        """Return a blob's bytes after hashing them.  Raises: StoreError when it is missing, unreadable or damaged."""
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"The artifact {sha256[:12]} is not in the store {self.root}.") from error
        except OSError as error:
            raise StoreError(f"The artifact {path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(
                f"The artifact {path} is damaged: its bytes do not have the SHA-256 in its name. Convert again."
            )
        return data

    def record(self, key: str, sha256: str, about: Mapping[str, object]) -> None:
        """Record the blob `sha256` of the variant `key`; `about` (JSON) describes it for people.

        Raises: StoreError when the store cannot be written.
        """
        entry = {"sha256": _checked(sha256), "about": dict(about)}
        self._write(
            self._variants / f"{_checked(key)}.json", json.dumps(entry, sort_keys=True, indent=1).encode() + b"\n"
        )

    def lookup(self, key: str) -> str | None:
        """Return the SHA-256 of a variant's blob; None when it is unrecorded, or its blob is missing or damaged."""
        try:
            entry = json.loads((self._variants / f"{_checked(key)}.json").read_bytes())
            sha256 = _checked(str(entry["sha256"]))
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            return None  # it is converted again
        return sha256 if self.intact(sha256) else None
