"""Returns the Python to bring to devices of one architecture: made once, kept in the cache, checked again at each use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from litefleet_agent.facts.arch import arch_of

from ...common.errors import LitefleetError
from ...common.files import foreign_writers, locked, make_private_folder
from ...config.pythons import PythonsConfig
from ...devices.python_bundle import PythonBundle
from ..runtimes.pack import fingerprint
from .apt import AptSource
from .bundle import pack, recall
from .debian import ARCHITECTURES, PackageSource, make_tree
from .mirror import MirrorSource
from .standalone import tree_of_own

_RECIPE = 1  # raise it when trees come to be made in another way


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
