"""The content-addressed store of converted models: blobs named by their SHA-256, and the blob of each variant."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from litefleet_agent.releases.atomic import fsync_folder, write_atomic

from ..common.errors import LitefleetError
from ..common.files import sha256_of, write_atomically

_HEX = frozenset("0123456789abcdef")
_PIECE = 1 << 20  # bytes read at once


class StoreError(LitefleetError):
    """The artifact store cannot be read or written, or a blob's bytes do not have the SHA-256 in its name."""


def _checked(name: str) -> str:
    """Return a SHA-256 in hex.  Raises: StoreError for other text, which must never become a path."""
    if len(name) != 64 or not set(name) <= _HEX:
        raise StoreError(f"{name[:80]!r} is not a SHA-256 (64 characters of 0-9 and a-f).")
    return name


class Received(NamedTuple):
    """A file of the store that is no blob yet."""

    sha256: str
    path: Path


def _pieces(content: bytes | Path) -> Iterator[bytes]:
    """Yield bytes, or a file's content.  Raises: StoreError when the file cannot be read."""
    try:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise StoreError(f"{content!s} cannot be read: {error.strerror}.") from error


class ArtifactStore:
    """A folder of blobs and variants; several processes may use it at once, as each write renames a whole file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._variants = root / "variants"

    def _write(self, path: Path, data: bytes) -> None:
        with self._writable():
            write_atomically(path, data)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
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
        with self.received(_pieces(content)) as received:
            self.keep(received)
        return received.sha256

    @contextmanager
    def received(self, pieces: Iterable[bytes]) -> Iterator[Received]:
        """Copy bytes into a file of the store, which is removed at the end of the block unless `keep` made it a blob.

        So what is checked is what is kept, whatever happens to the original.  Raises: StoreError when the store cannot be
        written; what `pieces` raises, but for OSError.
        """
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        path = self._blobs / f".tmp-received-{os.getpid()}-{secrets.token_hex(6)}"
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(str(path), hashed(), mode=0o644)
        try:
            yield Received(digest.hexdigest(), path)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, received: Received) -> None:
        """Make a received file the blob of its SHA-256; replace a damaged copy.  Raises: StoreError as `received`."""
        if not self.intact(received.sha256):
            with self._writable():
                received.path.replace(self.path(received.sha256))
                fsync_folder(str(self._blobs))

    def intact(self, sha256: str) -> bool:
        """Whether the blob exists and its bytes have the SHA-256 in its name."""
        try:
            return sha256_of(self.path(sha256)) == sha256
        except (OSError, StoreError):
            return False

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
