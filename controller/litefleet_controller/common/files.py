"""Files that several processes share: a lock file, and atomic writes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from litefleet_agent.releases.atomic import write_atomic


def expanded(path: str | Path) -> Path:
    """Return a path with its `~` replaced by the home folder; that of an unknown user stays, and so is reported as missing."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError there


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Lock the file `path` against other tasks and other processes, without blocking the event loop.

    Waits without a limit.  The lock file and its folder are created, and stay.
    """
    import asyncio  # a tenth of the start of commands that lock nothing

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield  # closing the file releases the lock


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: after a power cut it has the old content or the new.  Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(str(path), [data], mode=0o644)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.  Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_private_folder(folder: Path) -> None:
    """Create a folder that only this user can enter; an existing one keeps its mode.  Raises: OSError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def foreign_writers(folder: Path) -> str:
    """Return why others can write in a folder whose content is run, "" when only this user (or root) can.

    Raises: OSError when it cannot be read.
    """
    about = folder.stat()
    if about.st_uid not in (os.geteuid(), 0):
        return f"it belongs to the user {about.st_uid}"
    mode = stat.S_IMODE(about.st_mode)
    return f"its mode is {mode:04o}, so other users can write in it" if mode & 0o022 else ""


def read_kept(path: Path, most: int = -1) -> bytes:
    """Return what `write_kept` left in a file; empty where it is missing, damaged, larger than `most`, or not this user's alone.

    Its folder is made where there is none.  Raises: OSError.
    """
    make_private_folder(path.parent)
    try:
        with path.open("rb") as file:
            about, stored = os.fstat(file.fileno()), file.read(most)
    except FileNotFoundError:
        return b""
    ours = about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o022
    digest, data = stored[:32], stored[32:]
    return data if ours and not foreign_writers(path.parent) and hashlib.sha256(data).digest() == digest else b""


def write_kept(path: Path, data: bytes, alike: str, most: int) -> None:
    """Keep data in a file, behind its SHA-256; of the files of its folder that are `alike`, `most` remain.  Raises: OSError."""
    write_atomic(str(path), [hashlib.sha256(data).digest(), data], mode=0o600)
    for old in sorted(path.parent.glob(alike), key=lambda one: one.stat().st_mtime)[:-most]:
        old.unlink(missing_ok=True)
