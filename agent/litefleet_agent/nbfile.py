"""Reads a .nb file from the disk, for processes that stay: its memory goes back to the system, however large it was."""

import mmap
import os

from .nb import NbModel, read_nb

__all__ = ["read_nb_file"]


def read_nb_file(path: str) -> NbModel:
    """Describe the .nb file at `path`.  Raises NbError, OSError.

    Not mapped: a file that is cut short while it is looked at must not end this process.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        memory = mmap.mmap(-1, max(1, size))  # anonymous; it ends with its last view
        view = memoryview(memory)[: file.readinto(memory)]
        return read_nb(view)
