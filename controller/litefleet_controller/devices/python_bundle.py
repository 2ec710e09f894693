"""A Python that can be brought to a device: a value that its maker and its sender share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class PackedForm:
    """One archive of a Python; `size` in bytes."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class PythonBundle:
    """A Python as a tar archive, packed in several ways.  Sizes in bytes."""

    key: str  # the first 32 digits of the tar archive's SHA-256
    machine: str  # "aarch64"
    python: str  # "3.11"
    libc: str  # "glibc 2.36"; "" where it runs on the device's own
    unpacked_size: int
    files: int
    forms: Mapping[str, PackedForm]  # "xz", "gz", "tar"
    description: str

    @property
    def space(self) -> int:
        """Bytes that the files take on a disk with blocks of 4 KiB."""
        return self.unpacked_size + 4096 * self.files

    def best_form(self, tools: frozenset[str]) -> str:
        """Return the smallest form that a device with these tools can unpack, "" for none."""
        needs = {"xz": {"tar", "xz"}, "gz": {"tar", "gzip"}, "tar": {"tar"}}
        fitting = [form for form in self.forms if needs[form] <= tools]
        return min(fitting, key=lambda form: self.forms[form].size, default="")


class PythonMaker(Protocol):
    """Makes Pythons for devices."""

    async def for_machine(self, machine: str) -> PythonBundle:
        """Return the Python for devices whose `uname -m` is `machine`; LitefleetError where none can be made."""
