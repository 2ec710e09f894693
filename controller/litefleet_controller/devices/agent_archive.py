"""Builds the agent's .pyz reproducibly: same sources, same bytes; its SHA-256 is the agent's version."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import litefleet_agent

from ..common.files import read_kept, write_kept
from .code_packs import CodePacks

_EPOCH = (1980, 1, 1, 0, 0, 0)
_KEPT = 4  # archives in a folder: of the versions used last
# The archive is run by a link that another one may take over while this one is still being imported from.
_MAIN = b"""import os
import sys

sys.path[0] = os.path.realpath(sys.path[0])
from litefleet_agent.cli import main

sys.exit(main())
"""


@dataclass(frozen=True)
class AgentArchive:
    """The agent as it is shipped."""

    data: bytes
    sha256: str
    packs: CodePacks | None = field(default=None, compare=False)  # its bytecode; None: devices compile it


def build_pyz(package: Path) -> bytes:
    """Return the zipapp of the agent package in the folder `package`: sorted names, fixed dates, sources only."""
    return _zipped(_sources(package))


def _sources(package: Path) -> list[tuple[str, bytes]]:
    """Return (name, content) of the zipapp's files."""
    modules = [(p.relative_to(package.parent).as_posix(), p.read_bytes()) for p in sorted(package.rglob("*.py"))]
    return [("__main__.py", _MAIN), *modules]


def _zipped(sources: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sources:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, data)
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


@cache
def agent_archive(kept: Path | None = None) -> AgentArchive:
    """Return the archive of the agent that this controller was installed with.

    `kept` is a folder of this user's that keeps it for the next process: compressing takes 30 ms.  Without it, or where it cannot
    be used, the archive is made anew.
    """
    sources = _sources(Path(litefleet_agent.__file__).parent)
    data = _zipped(sources) if kept is None else _from_folder(kept, sources)
    return AgentArchive(data, hashlib.sha256(data).hexdigest())


def _from_folder(folder: Path, sources: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the archive from a folder, or make it and leave it there for the next process."""
    digest = hashlib.sha256(zlib.ZLIB_RUNTIME_VERSION.encode())  # the same sources become other bytes with another zlib
    for name, data in sources:
        digest.update(b"%s %d " % (name.encode(), len(data)))
        digest.update(data)
    path = folder / f"agent-{digest.hexdigest()}.pyz"
    try:
        if found := read_kept(path):
            return found
        made = _zipped(sources)
        write_kept(path, made, "agent-*.pyz", _KEPT)
    except OSError:
        return _zipped(sources)
    return made
