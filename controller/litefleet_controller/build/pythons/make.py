"""Returns the Python to bring to devices of one architecture: made once, kept in the cache, checked again at each use.

A Python of Debian's packages: they are chosen, fetched from a source, and their files put together.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from litefleet_agent.facts.arch import arch_of

from ...common.errors import LitefleetError
from ...common.files import foreign_writers, locked, make_private_folder
from ...config.runtimes import PythonsConfig
from ...devices.python_bundle import PythonBundle
from ..runtimes.pack import fingerprint
from .apt import AptSource
from .bundle import pack, recall
from .deb import Package, PackageError, files_of
from .mirror import MirrorSource
from .standalone import tree_of_own
from .tree import PythonTree, tree_of

_RECIPE = 1  # raise it when trees come to be made in another way
ARCHITECTURES = {"x86_64": "amd64", "i686": "i386", "aarch64": "arm64", "armv7l": "armhf"}
_OTHERS = ("libstdc++6", "libgcc-s1", "libgomp1", "libatomic1", "libc6", "zlib1g")
_NEEDED = re.compile(r"lib(c6|ffi\d+|expat1|gcc-s1)(t64)?|zlib1g|gcc-\d+-base")  # of what Python's packages depend on


class PythonBundles:
    """Makes and keeps the Pythons of one project, each architecture's once."""

    def __init__(self, config: PythonsConfig, cache: Path, say: Callable[[str], None]) -> None:
        self._config = config
        self._cache = cache / "pythons"
        self._say = say
        self._made: dict[tuple[str, str], asyncio.Task[PythonBundle]] = {}

    async def for_machine(self, machine: str, form: str) -> PythonBundle:
        """Return the Python for devices whose `uname -m` is `machine`, packed as "xz", "gz" or "tar".

        Raises: LitefleetError with what to do where none can be made.
        """
        arch = arch_of(machine)
        if arch is None:
            raise LitefleetError(f"No Python can be made for {machine}: Paddle-Lite has no CPU backend for it.")
        key = arch.name, form
        task = self._made.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._made[key] = asyncio.create_task(self._make(*key))
        return await asyncio.shield(task)

    async def _make(self, arch: str, form: str) -> PythonBundle:
        make_private_folder(self._cache)
        if why := foreign_writers(self._cache):
            raise LitefleetError(
                f"The cache folder {self._cache} is not used: {why}, and devices run what is in it. Remove it and run again."
            )
        request = self._request(arch)
        async with locked(self._cache / f"python-{request}.lock"):
            bundle = await asyncio.to_thread(recall, self._cache, request, form)
            if bundle is None:
                self._say(f"making a Python for {arch} devices that have none")
                with tempfile.TemporaryDirectory(prefix=".making-", dir=self._cache) as work:
                    await self._build(arch, request, Path(work))
                bundle = await asyncio.to_thread(recall, self._cache, request, form)
        if bundle is None:
            raise LitefleetError(f"The Python for {arch} could not be kept in the cache folder {self._cache}.")
        return bundle

    def _request(self, arch: str) -> str:
        own = self._config.own.get(arch)
        parts = [
            _RECIPE,
            arch,
            self._config.mirror,
            self._config.suite,
            str(own or ""),
            fingerprint(own) if own else "",
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    async def _build(self, arch: str, request: str, work: Path) -> None:
        own = self._config.own.get(arch)
        if own is not None:
            tree = await asyncio.to_thread(tree_of_own, own)
            described = f"Python {tree.python} of {own.name}"
        else:
            source, named = self._source(ARCHITECTURES[arch], work)
            tree = await make_tree(source)
            described = (
                f"Debian's Python {tree.python} for {ARCHITECTURES[arch]}, of {named}, {time.strftime('%Y-%m-%d')}"
            )
        if tree.machine != arch:
            raise LitefleetError(f"The Python for {arch} is for {tree.machine or 'another machine'}: name another one.")
        await asyncio.to_thread(pack, tree, self._cache, request, described)

    def _source(self, architecture: str, work: Path) -> tuple[PackageSource, str]:
        if self._config.mirror:
            return MirrorSource(architecture, work, self._config), f"the mirror, suite {self._config.suite}"
        if why := AptSource.why_not():
            raise LitefleetError(
                f"A Python cannot be fetched here: {why}. Name a mirror of Debian's packages as `python: {{mirror: URL}}` "
                "in litefleet.yaml, or a Python's archive or folder as `python: {own: {ARCH: PATH}}`."
            )
        return AptSource(architecture, work), "this machine's package sources"


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
