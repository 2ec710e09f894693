"""Writes files so that a reader sees the old one or the whole new one: temporary file in the same folder, then a rename."""

from __future__ import annotations

import os

from ..formats.light import contextmanager

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import BinaryIO, Iterable, Iterator


def fsync_folder(folder: str) -> None:
    """Make a rename in `folder` durable.  Raises OSError."""
    fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_file(path: str, mode: int = 0o600, durable: bool = True, exact_mode: bool = False) -> Iterator[BinaryIO]:
    """Yield an open binary file that becomes `path` when the block ends without an error.

    With `durable`, file and folder are synced, so that a power cut leaves the old or the whole new file; without it only
    readers are protected, which is enough for a file that is written again within seconds.  The umask reduces `mode`, unless
    `exact_mode` is set.
    An error in the block and any OSError here remove the temporary file and are raised.
    """
    folder, name = os.path.split(path)
    # not guessable, never an existing file or link: the folder may be one that others write to
    temp = os.path.join(folder, ".tmp-%s-%d-%s" % (name[:180], os.getpid(), os.urandom(6).hex()))
    fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(fd, "w+b") as out:
            if exact_mode:
                os.fchmod(fd, mode)
            yield out
            out.flush()
            if durable:
                os.fsync(fd)
        os.replace(temp, path)
    except BaseException:
        if os.path.lexists(temp):
            os.unlink(temp)
        raise
    if durable:
        fsync_folder(folder)


def write_atomic(
    path: str, chunks: Iterable[bytes], mode: int = 0o600, durable: bool = True, exact_mode: bool = False
) -> None:
    """Write `chunks` to `path` as `atomic_file` does; an error that the iterator raises leaves the old file and is raised."""
    with atomic_file(path, mode, durable, exact_mode) as out:
        for chunk in chunks:
            out.write(chunk)
