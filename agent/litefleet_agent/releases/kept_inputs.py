"""Inputs of a data set that stay on the device between two measurements, by their SHA-256: bounded, the oldest dropped first.

inputs/<sha256>: the data of one request of `infer`, as it was sent.  Nothing depends on them: whatever is missing is sent again.
"""

import hashlib
import os
import time
from typing import Iterator, NamedTuple, Optional

from ..formats.checked import is_sha
from ..formats.files import free_bytes, read_regular
from .atomic import write_atomic
from .store import SPARE, Store, StoreError

FOLDER = "inputs"
MOST_BYTES = 512 << 20
_SHARE = 4  # of the free space and of what is kept already, one part of so many is used at most
_LARGEST = 256 << 20  # bytes of one request's data: those of all requests together are no more
_FRESH_S = 3600.0  # what was used within it stays: else a large data set would drop its own beginning
_MOST_FILES = 100000


class _Kept(NamedTuple):
    used_at: float  # seconds since the epoch
    size: int
    path: str


class KeptInputs:
    """The folder of kept inputs of one device."""

    def __init__(self, store: Store) -> None:
        self._root, self._folder = store.root, store.path(FOLDER)
        self._room: Optional[int] = None  # bytes that may still be added; None: not known yet

    def get(self, sha: str) -> Optional[bytes]:
        """Return the data with this SHA-256 and mark it as used; None where it is not kept, or damaged, which removes it."""
        if not is_sha(sha):
            return None
        path = os.path.join(self._folder, sha)
        try:
            data = read_regular(path, _LARGEST + 1, follow=False)
            if hashlib.sha256(data).hexdigest() == sha:
                os.utime(path)
                return data
            os.unlink(path)
        except OSError:
            pass
        return None

    def keep(self, data: bytes) -> bool:
        """Store data while the limit allows, and return whether it is stored; a failed write is no error."""
        try:
            if self._room is None:
                self._room = self._make_room()
            if len(data) > self._room:
                return False
            write_atomic(os.path.join(self._folder, hashlib.sha256(data).hexdigest()), [data], durable=False)
        except (OSError, StoreError):
            return False
        self._room -= len(data)
        return True

    def _make_room(self) -> int:
        """Drop what was not used lately, the oldest first, down to half of the bound; return the bytes that may be added."""
        os.makedirs(self._folder, 0o700, exist_ok=True)
        kept = sorted(self._files())
        total = sum(one.size for one in kept)
        bound = min(MOST_BYTES, (max(0, free_bytes(self._root) - SPARE) + total) // _SHARE)
        stale = time.time() - _FRESH_S
        for one in kept:
            if total <= bound // 2 or one.used_at > stale:
                break
            os.unlink(one.path)
            total -= one.size
        return max(0, bound - total) if len(kept) < _MOST_FILES else 0

    def _files(self) -> Iterator[_Kept]:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                yield _Kept(about.st_mtime, about.st_size, entry.path)


def drop_inputs(store: Store) -> None:
    """Remove all kept inputs: their space is needed."""
    folder = store.path(FOLDER)
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        try:
            os.unlink(os.path.join(folder, name))
        except OSError:  # it is in use by nobody; what cannot be removed is counted as used
            continue
