"""Runs the agent's modules from bytecode that an earlier start kept beside the archive, so that no source is compiled again.

The file `<archive's SHA-256>.<interpreter>.bytecode` is used only when it was made from this archive for this interpreter, is
undamaged, and can be written by nobody but this process's user and root.  Everything else runs from the archive's sources.
This module itself is compiled at each start: what only writes the file is in releases.archive.
Its sha256 is for what is short: hashlib loads OpenSSL, which hashes faster but takes 2 ms more before it does.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
from _frozen_importlib import ModuleSpec
from zipimport import zipimporter

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from hashlib import sha256 as sha256
    from types import CodeType, ModuleType
    from typing import Any, Dict, Optional, Tuple

    Bytecode = Dict[str, Tuple[bool, bytes]]  # by module: whether it is a package, and its marshalled code
else:
    try:
        if sys.version_info < (3, 12):
            from _sha256 import sha256
        else:
            from _sha2 import sha256
    except ImportError:
        from hashlib import sha256

BYTECODE_SUFFIX = ".bytecode"
_MOST = 16 << 20  # bytes of the file; the whole agent takes under 1 MB
_PACKAGE = "litefleet_agent."


class BytecodeFinder:
    """Imports the agent's modules: those in `kept` from there, the others from the archive, <SHA-256>.pyz.

    `source` is the archive's path, or that of the open file which is read in its place.
    """

    def __init__(self, archive: str, source: str) -> None:
        self.archive = archive
        self.source = source
        self.sha256 = os.path.basename(archive)[:64]
        self.path = "%s.%s%s" % (archive[: -len(".pyz")], sys.implementation.cache_tag, BYTECODE_SUFFIX)
        self.kept = read_bytecode(self.path, self.sha256)
        self.compiled: Dict[str, Tuple[bool, CodeType]] = {}  # by this process

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        """Return the spec of a module of this package, None for any other."""
        if not fullname.startswith(_PACKAGE):
            return None
        inside = fullname.replace(".", "/")
        file = os.path.join(self.archive, inside)
        kept: Any = self.kept.get(fullname) or self.compiled.get(fullname)
        if kept is None:
            folder, name = os.path.split(os.path.join(self.source, inside))
            importer = zipimporter(folder)
            try:
                kept = self.compiled[fullname] = (importer.is_package(name), importer.get_code(name))
            except ImportError:
                return None
        spec = ModuleSpec(fullname, self, is_package=kept[0])  # type: ignore[arg-type]  # it has no load_module
        spec.origin = file + ("/__init__.py" if kept[0] else ".py")
        spec.has_location = True
        if kept[0]:
            spec.submodule_search_locations = [file]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None: the interpreter creates the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        kept = self.kept.get(module.__name__)
        exec(self.compiled[module.__name__][1] if kept is None else marshal.loads(kept[1]), module.__dict__)  # noqa: S102, S302


def digest_of(archive: str, body: bytes) -> bytes:
    """Return the SHA-256 of an archive's hash, the interpreter's magic number and marshalled Bytecode: the file's first part."""
    magic: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER  # importlib.util has it too, and much else
    return sha256(archive.encode("ascii") + magic + body).digest()


def read_bytecode(path: str, sha256: str) -> Bytecode:
    """Return what the file holds for the archive with this hash; nothing where it is not to be used."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as stream:
            data = stream.read(_MOST) if _is_ours(os.fstat(fd), stat.S_IFREG) else b""
    except OSError:
        return {}
    if data[:32] != digest_of(sha256, data[32:]):
        return {}
    bytecode: Bytecode = marshal.loads(data[32:])  # noqa: S302  its hash is right, and only we and root can write it
    return bytecode


def _is_ours(state: os.stat_result, kind: int) -> bool:
    """Return whether this is of the kind, and can be written by nobody but this process's user and root."""
    return stat.S_IFMT(state.st_mode) == kind and state.st_uid in (0, os.geteuid()) and not state.st_mode & 0o022


def running() -> Optional[BytecodeFinder]:
    """Return the finder that this process imports by, None where it uses no kept bytecode."""
    return next((finder for finder in sys.meta_path if isinstance(finder, BytecodeFinder)), None)


def use_bytecode(archive: str, source: str) -> None:
    """Import this package's modules by a BytecodeFinder from now on; `source` is what they were imported from so far.

    Only where `archive` is named by its SHA-256, in a folder that nobody but this process's user and root can write.
    """
    folder, name = os.path.split(os.path.realpath(archive))
    if len(name) == 64 + len(".pyz") and not sys.flags.optimize and _is_ours(os.stat(folder), stat.S_IFDIR):
        path = os.path.join(folder, name)
        sys.meta_path.insert(0, BytecodeFinder(path, path if source == archive else source))
