"""Reads a .nb file from the disk, for processes that stay: its memory goes back to the system, however large it was."""

import mmap
import os
from typing import List

from .findings import Finding, finding
from .nb import NbModel, read_nb

__all__ = ["altered", "read_nb_file"]


def read_nb_file(path: str) -> NbModel:
    """Describe the .nb file at `path`.  Raises NbError, OSError.

    Not mapped: a file that is cut short while it is looked at must not end this process.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        memory = mmap.mmap(-1, max(1, size))  # anonymous; it ends with its last view
        view = memoryview(memory)[: file.readinto(memory)]
        return read_nb(view)


def altered(model: NbModel, sha256: str) -> List[Finding]:
    """Return LF602 when a model's bytes are not those of `sha256`: one flipped bit gives slightly wrong answers."""
    if not sha256 or model.sha256 == sha256:
        return []
    return [finding("LF602", "The model's file %s no longer holds the bytes that were sent." % sha256[:12])]
