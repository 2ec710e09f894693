"""Opens, reads and hashes files that others made: regular files only, without blocking, never more bytes than asked for."""

from __future__ import annotations

import errno
import os
import stat

from .light import NamedTuple, contextmanager

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    import io
    import mmap
    from typing import BinaryIO, Iterator, List, Optional, Union

    AnyPath = Union[str, "os.PathLike[str]"]

_CHUNK = 1 << 20  # bytes

_LEAST_READ = 1 << 20  # bytes


class NotRegularError(OSError):
    """The path names a FIFO, a device, a socket or a folder; `strerror` says so."""


def open_regular(path: AnyPath, follow: bool = True) -> "io.BufferedReader":
    """Open a regular file for reading; a FIFO is rejected at once instead of waiting for its writer.

    Without `follow`, a path that is a link is rejected: for folders that another process writes.
    Raises OSError, with NotRegularError for what is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW))
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(0, "is %s, not a regular file" % _kind(mode), os.fspath(path))
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


@contextmanager
def mapped(path: AnyPath) -> "Iterator[mmap.mmap]":
    """Map a regular file, to search it without a copy: 10 ms of CPU for 40 MB.  Raises OSError, ValueError for an empty file."""
    import mmap  # the first answer of a session needs none

    with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _kind(mode: int) -> str:
    for is_kind, words in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if is_kind(mode):
            return words
    return "something else"


def read_regular(path: AnyPath, most: int, follow: bool = True) -> bytes:
    """Return the first `most` bytes of a regular file; ask for one more than the limit to notice a longer one.

    Raises OSError as `open_regular` does.
    """
    with open_regular(path, follow) as stream:
        # read(n) reserves n bytes first, which a small device may not have; files of /proc have the size 0.
        return stream.read(min(most, max(os.fstat(stream.fileno()).st_size + 1, _LEAST_READ)))


class FileStamp(NamedTuple):
    """What the file system says of a file; any write to it changes this, a defect of the storage need not."""

    size: int  # bytes
    mtime_ns: int
    ctime_ns: int  # nobody can set it back
    inode: int

    @classmethod
    def of(cls, path: AnyPath) -> Optional["FileStamp"]:
        """Return the stamp of a regular file, None where there is none."""
        try:
            state = os.lstat(path)
        except OSError:
            return None
        if not stat.S_ISREG(state.st_mode):
            return None
        return cls(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)

    @classmethod
    def parse(cls, value: object) -> Optional["FileStamp"]:
        """Read the JSON form, a list of four whole numbers; None for anything else."""
        if isinstance(value, list) and len(value) == 4 and all(type(number) is int for number in value):
            return cls(*value)
        return None


def sha256_of(source: Union[AnyPath, int]) -> str:
    """Return the SHA-256 of a regular file in hexadecimal digits: of a path, or of a descriptor from its position on.

    Reads a MiB at a time.  Raises OSError as `open_regular` does.
    """
    if isinstance(source, int):
        return _digest(os.fdopen(source, "rb", buffering=0, closefd=False))
    with open_regular(source) as stream:
        return _digest(stream)


def _digest(stream: BinaryIO) -> str:
    import hashlib  # fast, for what may be large; loading it takes longer than the first answer's hashes

    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def free_bytes(folder: AnyPath) -> int:
    """Return the bytes that an unprivileged process may still write to the folder's file system.  Raises OSError."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


# Errors that only a limit of the login causes here: the limit, and the option of `ulimit` that shows it.
_LIMITS = {
    errno.EFBIG: ("RLIMIT_FSIZE", "-f"),
    errno.EMFILE: ("RLIMIT_NOFILE", "-n"),
    errno.EAGAIN: ("RLIMIT_NPROC", "-u"),
}


def exceeded_limit(error: OSError) -> str:
    """Return the limit of this process that an error comes from, as "ulimit -f: 307200"; "" for any other error."""
    name, option = _LIMITS.get(error.errno or 0, ("", ""))
    return _shown_limit(name, option) if name else ""


def address_space_limit() -> str:
    """Return this process's limit of its address space, as "ulimit -v: 61440000"; "" where there is none."""
    shown = _shown_limit("RLIMIT_AS", "-v")
    return "" if shown.endswith(": -1") else shown


def _shown_limit(name: str, option: str) -> str:
    try:
        import resource

        value = resource.getrlimit(getattr(resource, name))[0]
        return "ulimit %s: %d" % (option, -1 if value == resource.RLIM_INFINITY else value)
    except (ImportError, AttributeError, OSError, ValueError):
        return "ulimit %s" % option


class Tree:
    """A file system tree: `/` on a device, a folder of recorded files in a test.

    What cannot be read is empty; no method raises.
    """

    def __init__(self, sysroot: str) -> None:
        self.sysroot = sysroot

    def path(self, name: str) -> str:
        """Return the path of the absolute path `name` below the root."""
        return os.path.join(self.sysroot, name.lstrip("/"))

    def data(self, name: str, limit: int = 1 << 20) -> bytes:
        """Return the first `limit` bytes of a file."""
        try:
            return read_regular(self.path(name), limit)
        except (OSError, ValueError):
            return b""

    def text(self, name: str, limit: int = 1 << 20) -> str:
        """Return a file's text without trailing NULs (device-tree strings) and blanks."""
        return self.data(name, limit).decode("utf-8", "replace").rstrip("\0 \t\r\n")

    def names(self, name: str) -> List[str]:
        """Return a folder's entries, sorted."""
        try:
            return sorted(os.listdir(self.path(name)))
        except (OSError, ValueError):
            return []

    def exists(self, name: str) -> bool:
        """Whether the path exists, symbolic links followed."""
        try:
            return os.path.exists(self.path(name))
        except ValueError:  # a NUL, or text that the file system's encoding lacks (Python 3.7)
            return False
