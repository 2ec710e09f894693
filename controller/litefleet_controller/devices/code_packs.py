"""The agent's bytecode for devices that have the same CPython as this machine: made once, kept, sent with the agent.

A device compiles what it lacks, so that nothing here has to succeed, and no device waits for it.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..common.errors import LitefleetError
from ..common.files import make_private_folder, read_kept, write_kept
from ..common.subprocesses import run_subprocess

Interpreters = Callable[[str], Sequence[Path]]  # returns where a CPython of a version ("3.11") may be on this machine

_ASKED = re.compile(r"(cpython-3(\d{1,2})) ([0-9a-f]{8})")
_MOST = 4 << 20  # bytes of a pack; today's have 0.3 MB
_KEPT = 8  # packs in the folder: those used last
_LIMIT_S = 60.0
_MAKE = "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.releases.code_pack import main; main()"


class CodePacks:
    """The packs of one archive, in `folder`, which is this user's alone."""

    def __init__(self, data: bytes, sha256: str, folder: Path, interpreters: Interpreters) -> None:
        self._data, self._sha256, self._folder, self._interpreters = data, sha256, folder, interpreters
        self._packs: dict[str, bytes] = {}
        self._making: dict[str, asyncio.Task[None]] = {}  # by cache tag: each is tried once

    def of(self, interpreter: str) -> bytes:
        """Return the pack for a device's interpreter, "cpython-311 a70d0d0a": its cache tag and its magic number.

        Empty where there is none yet: it is then being made for the devices that come later, if this machine has such a CPython.
        """
        asked = _ASKED.fullmatch(interpreter)
        if asked is None:
            return b""
        found = self._packs.get(interpreter) or self._kept(interpreter)
        if found:
            self._packs[interpreter] = found
            return found
        making = self._making.get(asked[1])
        if making is None or making.cancelled():
            made = self._make(asked[1], f"3.{asked[2]}", asked[3], self._path(interpreter))
            self._making[asked[1]] = asyncio.get_running_loop().create_task(made)
        return b""

    def _kept(self, interpreter: str) -> bytes:
        try:
            return read_kept(self._path(interpreter), _MOST)
        except OSError:
            return b""

    def _path(self, interpreter: str) -> Path:
        return self._folder / f"code-{self._sha256}-{interpreter.replace(' ', '-')}.z"

    async def _make(self, tag: str, version: str, magic: str, path: Path) -> None:
        own = [Path(sys.executable)] if sys.implementation.cache_tag == tag else []
        try:
            make_private_folder(self._folder)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".code-") as folder:
                archive, out = Path(folder) / f"{self._sha256}.pyz", Path(folder) / "out"
                archive.write_bytes(self._data)
                for python in [*own, *self._interpreters(version)]:
                    if await _runs([python, "-I", "-S", "-B", "-c", _MAKE, archive, tag, magic, out]):
                        return write_kept(path, out.read_bytes(), "code-*.z", _KEPT)
        except OSError:
            return


async def _runs(argv: Sequence[str | Path]) -> bool:
    try:
        return (await run_subprocess(argv, time_limit_s=_LIMIT_S)).ok
    except LitefleetError:  # it cannot be started
        return False
