"""A worker's folder of files by their SHA-256: each is received once, and checked before it counts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from ..common.errors import FolderError
from .messages import Blob

CHUNK = 4 << 20  # bytes that travel in one task
_LEASE_S = 3600.0  # for which a file that was used is never deleted


class BlobError(Exception):
    """What arrived is not what was announced, or cannot be stored."""


class BlobFolder:
    """Files of at most `most` bytes in all; the least recently used ones are deleted for new ones."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self._most = folder, most
        self._checked: set[str] = set()  # hashed by this process
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            for left in folder.glob("*.part"):
                if time.time() - left.stat().st_mtime > _LEASE_S:
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise FolderError(f"{folder} cannot be used: {error.strerror}") from error

    def path(self, blob: Blob) -> Path:
        """Return a held file's path, and note its use.  Raises: BlobError where it is not held."""
        path = self.folder / blob.sha256
        try:
            os.utime(path)
        except OSError as error:
            raise BlobError(f"{blob.sha256[:12]} is not on this worker any more") from error
        return path

    def holds(self, blob: Blob) -> bool:
        """Return whether a file is here, whole: it is hashed at its first use in this process."""
        path = self.folder / blob.sha256
        try:
            if path.stat().st_size != blob.size:
                return False
            if blob.sha256 not in self._checked and _sha256(path) != blob.sha256:
                path.unlink()
                return False
            os.utime(path)
        except OSError:
            return False
        self._checked.add(blob.sha256)
        return True

    def receive(self, blob: Blob, sender: str, offset: int, data: bytes) -> bool:
        """Store a piece that one sender sends in order; return whether the file is whole and has its hash.

        Raises: BlobError for a piece that does not fit, a wrong hash, or a full disk.
        """
        part = self.folder / f"{blob.sha256}.{sender}.part"
        end = offset + len(data)
        if end > blob.size:
            raise BlobError(f"{blob.sha256[:12]} is longer than the announced {blob.size} bytes")
        try:
            if offset == 0:
                self._make_room(blob.size)
                part.unlink(missing_ok=True)
            with part.open("ab") as file:
                if file.tell() != offset:
                    raise BlobError(f"a piece of {blob.sha256[:12]} begins at {offset}, {file.tell()} bytes are here")
                file.write(data)
            if end < blob.size:
                return False
            if _sha256(part) != blob.sha256:
                part.unlink()
                raise BlobError(f"what arrived as {blob.sha256[:12]} has another hash")
            part.replace(self.folder / blob.sha256)
        except OSError as error:
            raise BlobError(f"{part.parent} cannot take {blob.size} bytes: {error.strerror}") from error
        self._checked.add(blob.sha256)
        return True

    def _make_room(self, size: int) -> None:
        """Delete files that were not used for an hour, the oldest first, until `size` more bytes fit."""
        files = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        total = sum(held for _, held, _ in files) + size
        for used, held, path in sorted(files):
            if total <= self._most or time.time() - used < _LEASE_S:
                return
            path.unlink(missing_ok=True)
            self._checked.discard(path.name)
            total -= held


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
