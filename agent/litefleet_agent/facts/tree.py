"""Reads files below a system root, which tests record.  What cannot be read is empty; nothing here raises."""

import os
from typing import List

from ..formats.files import read_regular


class Tree:
    """A file system tree: `/` on a device, a folder of recorded files in a test."""

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
