"""Files that are whole or not there: temp file in the same folder, fsync, rename, fsync of the folder."""

import os
import threading
from typing import Iterable

__all__ = ["fsync_folder", "write_atomic"]


def fsync_folder(folder: str) -> None:
    """Make a rename in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: str, chunks: Iterable[bytes], mode: int = 0o600) -> None:
    """Write `chunks` to `path` so that a reader, or a power cut, sees the old file or the whole new one.

    When a chunk can't be had or written, the temp file is removed and the error goes on (OSError, or the iterator's own).
    """
    folder, name = os.path.split(path)
    temp = os.path.join(folder, ".tmp-%s-%d-%d" % (name, os.getpid(), threading.get_ident()))
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "wb", buffering=0) as out:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[out.write(view) :]
            os.fsync(out.fileno())
        os.replace(temp, path)
    except BaseException:
        if os.path.exists(temp):
            os.unlink(temp)
        raise
    fsync_folder(folder)
