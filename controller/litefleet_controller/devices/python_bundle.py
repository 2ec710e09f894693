"""A Python that can be brought to a device: a value that its maker and its sender share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_NEEDS = {"xz": {"tar", "xz"}, "gz": {"tar", "gzip"}, "tar": {"tar"}}  # the smallest form first


def best_form(tools: frozenset[str]) -> str:
    """Return the smallest form ("xz", "gz", "tar") that a device with these tools can unpack, "" for none."""
    return next((form for form, needed in _NEEDS.items() if needed <= tools), "")


@dataclass(frozen=True)
class PackedForm:
    """One archive of a Python; `size` in bytes."""

    form: str  # "xz", "gz" or "tar"
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class PythonBundle:
    """A Python as a tar archive, packed in one way.  Sizes in bytes."""

    key: str  # the first 32 digits of the tar archive's SHA-256
    machine: str  # "aarch64"
    python: str  # "3.11"
    libc: str  # "glibc 2.36"; "" where it runs on the device's own
    unpacked_size: int
    files: int
    description: str
    packed: PackedForm

    @property
    def space(self) -> int:
        """Bytes that the files take on a disk with blocks of 4 KiB."""
        return self.unpacked_size + 4096 * self.files


class PythonMaker(Protocol):
    """Makes Pythons for devices."""

    async def for_machine(self, machine: str, form: str) -> PythonBundle:
        """Return the Python for devices whose `uname -m` is `machine`, in a form of `best_form`.

        Raises: LitefleetError where none can be made.
        """
