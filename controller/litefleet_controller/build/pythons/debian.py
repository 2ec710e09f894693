"""Makes a Python out of Debian's packages: chooses them, fetches them from a source, and puts their files together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from .deb import Package, PackageError, files_of
from .tree import PythonTree, tree_of

ARCHITECTURES = {"x86_64": "amd64", "i686": "i386", "aarch64": "arm64", "armv7l": "armhf"}
_OTHERS = ("libstdc++6", "libgcc-s1", "libgomp1", "libatomic1", "libc6", "zlib1g")
_NEEDED = re.compile(r"lib(c6|ffi\d+|expat1|gcc-s1)(t64)?|zlib1g|gcc-\d+-base")  # of what Python's packages depend on


class PackageSource(Protocol):
    """Where packages come from; both raise PackageError."""

    async def packages(self, names: Sequence[str]) -> dict[str, Package]:
        """Return the packages of these names that the source has."""

    async def fetch(self, packages: Iterable[Package]) -> list[Path]:
        """Return the packages' files, verified."""


async def make_tree(source: PackageSource) -> PythonTree:
    """Return the Python that the source's package `python3` stands for.  Raises: PackageError."""
    version = await _version(source)
    names = [f"python{version}-minimal", f"libpython{version}-minimal", f"libpython{version}-stdlib"]
    found = await source.packages([*names, *_OTHERS])
    depends = {name for package in found.values() for name in package.depends if _NEEDED.fullmatch(name)}
    found |= await source.packages(sorted(depends - found.keys()))
    missing = [name for name in (*names, "libc6", "libstdc++6") if name not in found]
    if missing:
        raise PackageError(f"the source of packages has no {', '.join(missing)}")
    debs = await source.fetch(found.values())
    return await asyncio.to_thread(lambda: tree_of((file for deb in debs for file in files_of(deb)), version))


async def _version(source: PackageSource) -> str:
    named = await source.packages(["python3", "python3-minimal"])
    texts = [name for package in named.values() for name in package.depends]
    versions = [found[1] for text in texts if (found := re.fullmatch(r"python(3\.\d{1,2})(?:-minimal)?", text))]
    if not versions:
        raise PackageError("the source of packages has no package python3 for this architecture")
    return versions[0]
