"""Compiles the agent for devices that have such an interpreter as runs this: a program that the controller starts.

    python -I -S -c "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.releases.code_pack import main; main()"
        ARCHIVE PYTHON MAGIC OUT

ARCHIVE is <SHA-256>.pyz.  OUT becomes what a device keeps as `bytecode.BytecodeFinder.path`, compressed by zlib: byte for byte
what the device would compile, but for the file names, which the finder sets.  Exit code 3: this interpreter does not have the
cache tag PYTHON ("cpython-311") and the magic number MAGIC (hexadecimal).
"""

from __future__ import annotations

import marshal
import os
import sys
import zipfile
import zlib

from ..bytecode import BytecodeFinder, digest_of

OTHER = 3
# What no rollout runs: a device compiles it when it first needs it.
_LEFT_OUT = ("bench", "cli", "client", "findings.crashlog", "install", "releases.code_pack", "service")


def main() -> None:
    """Write the pack."""
    path, tag, magic, out = sys.argv[1:]
    if (sys.implementation.cache_tag, sys.modules["_frozen_importlib_external"].MAGIC_NUMBER.hex()) != (tag, magic):
        sys.exit(OTHER)
    with open(out, "wb") as file:
        file.write(zlib.compress(pack(path), 9))


def pack(path: str) -> bytes:
    """Return a file of bytecode for the archive `path`, which is named by its SHA-256."""
    name = os.path.basename(path)
    finder = BytecodeFinder(name, path)  # its files are named from the archive on: no path of this machine is sent
    with zipfile.ZipFile(path) as archive:
        files = archive.namelist()
    for module in sorted(map(_module_of, files)):
        if module.startswith("litefleet_agent.") and not _is_left_out(module.partition(".")[2]):
            finder.compile(module)
    body = marshal.dumps(
        {module: (package, marshal.dumps(code)) for module, (package, code) in finder.compiled.items()}
    )
    return digest_of(finder.sha256, body) + body


def _module_of(file: str) -> str:
    module = file[: -len(".py")].replace("/", ".")
    return module[: -len(".__init__")] if module.endswith(".__init__") else module


def _is_left_out(module: str) -> bool:
    return any(module == one or module.startswith(one + ".") for one in _LEFT_OUT)
