"""Builds the agent's .pyz reproducibly: same sources, same bytes; its SHA-256 is the agent's version."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import litefleet_agent

_EPOCH = (1980, 1, 1, 0, 0, 0)
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


def build_pyz(package: Path) -> bytes:
    """Return the zipapp of the agent package in the folder `package`: sorted names, fixed dates, sources only."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        _add(archive, "__main__.py", _MAIN)
        for source in sorted(package.rglob("*.py")):
            _add(archive, source.relative_to(package.parent).as_posix(), source.read_bytes())
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    archive.writestr(info, data)


@cache
def agent_archive() -> AgentArchive:
    """Return the archive of the agent that this controller was installed with."""
    data = build_pyz(Path(litefleet_agent.__file__).parent)
    return AgentArchive(data, hashlib.sha256(data).hexdigest())
