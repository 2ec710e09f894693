"""Blobs that have come in part: a transfer that was cut goes on where it was.

blobs/.tmp-part-<sha256>   the first bytes of that blob; agents before this one remove it as they remove all of .tmp-*

The bytes that are here are hashed before the controller sends the rest, and the whole is hashed before it counts: a power cut may
have left other bytes than those that came.
"""

import os
from hashlib import sha256
from typing import FrozenSet, Iterable, Iterator, NamedTuple

from ..formats.files import open_regular, sha256_of
from .atomic import fsync_folder
from .store import PART, Store, StoreError, explain_os_error

LEAST_SIZE = 64 << 10  # bytes of a blob below which nothing is kept of a transfer that was cut
_PIECE = 1 << 20  # bytes hashed at once


class Part(NamedTuple):
    """What is here of a blob."""

    size: int  # bytes
    sha256: str  # of these bytes; "" for none


def part_of(store: Store, sha: str) -> Part:
    """Return what is here of a blob; the caller holds the store's lock.  Reads all of it."""
    try:
        with open_regular(_path(store, sha), follow=False) as file:
            return Part(os.fstat(file.fileno()).st_size, sha256_of(file.fileno()))
    except OSError:
        return Part(0, "")


def receive(store: Store, sha: str, size: int, chunks: Iterable[bytes], offset: int = 0) -> None:
    """Store a blob of `size` bytes, of which `offset` are here and `chunks` has the rest; keep what came when that is cut.

    Raises StoreError: "missing" where fewer than `offset` bytes are here, and as `Store.put`, after which no part is left.
    """
    if size < LEAST_SIZE:
        store.put(sha, size, chunks)
        return
    target, path = store.blob(sha), _path(store, sha)
    _make_room(store, sha, size - offset)
    try:
        _write(path, sha, chunks, offset)
        os.replace(path, target)
        fsync_folder(os.path.dirname(target))
    except StoreError:
        _unlink(path)
        raise
    except OSError as error:
        _unlink(path)
        raise explain_os_error(error, "the blob %s cannot be stored" % sha[:12]) from error


def _write(path: str, sha: str, chunks: Iterable[bytes], offset: int) -> None:
    digest = sha256()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "r+b") as file:
        left = offset
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise StoreError("%d bytes of %s are here, not %d" % (offset - left, sha[:12], offset), "missing")
            digest.update(piece)
            left -= len(piece)
        file.seek(offset)
        file.truncate()
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(fd)
    if digest.hexdigest() != sha:
        raise StoreError("expected the bytes of %s, got %s" % (sha[:12], digest.hexdigest()[:12]), "hash-mismatch")


def _make_room(store: Store, sha: str, need: int) -> None:
    try:
        store.need_space(need)
    except StoreError:
        drop_parts(store, frozenset([sha]))
        store.need_space(need)


def drop_parts(store: Store, keep: FrozenSet[str] = frozenset()) -> None:
    """Remove the parts of all blobs but `keep`; the caller holds the store's lock."""
    for sha in store.blobs(PART):
        if sha not in keep:
            _unlink(_path(store, sha))


def taken(store: Store, sha: str) -> Iterator[bytes]:
    """Yield a blob's bytes and remove it, however far they were read.  Raises StoreError "missing"."""
    path = store.blob(sha)
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(_PIECE), b""):
                yield piece
    except FileNotFoundError:
        raise StoreError("the blob %s is not on this device" % sha[:12], "missing") from None
    finally:
        _unlink(path)


def _path(store: Store, sha: str) -> str:
    folder, name = os.path.split(store.blob(sha))
    return os.path.join(folder, PART + name)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
