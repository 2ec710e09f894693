"""Runs the agent's modules from bytecode that an earlier start kept beside the archive, so that no source is compiled again.

The file `<archive's SHA-256>.<interpreter>.bytecode` is used only when it was made from this archive for this interpreter, is
undamaged, and can be written by nobody but this process's user and root.  Everything else runs from the archive's sources.
"""

import hashlib
import marshal
import os
import stat
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any, Dict, Optional, Tuple

__all__ = [
    "BYTECODE_SUFFIX",
    "Bytecode",
    "BytecodeFinder",
    "file_form",
    "member",
    "read_bytecode",
    "running",
    "use_bytecode",
]

BYTECODE_SUFFIX = ".bytecode"
_MOST = 16 << 20  # bytes of the file; the whole agent takes under 1 MB
_PACKAGE = __name__.partition(".")[0]

Bytecode = Dict[str, Tuple[bool, bytes]]  # by module: whether it is a package, and its marshalled code


class BytecodeFinder:
    """Imports the agent's modules: those in `kept` from there, the others from the archive's sources, which it compiles."""

    def __init__(self, archive: str) -> None:
        """`archive` is the path of <SHA-256>.pyz, from which the package itself was imported."""
        self.archive = archive
        self.sha256 = os.path.basename(archive)[:64]
        self.path = "%s.%s%s" % (archive[: -len(".pyz")], sys.implementation.cache_tag, BYTECODE_SUFFIX)
        self.kept = read_bytecode(self.path, self.sha256)
        self.compiled: Dict[str, Tuple[bool, bytes, types.CodeType]] = {}  # is it a package, source, code
        self._sources: Any = sys.modules[_PACKAGE].__loader__

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        """Return the spec of a module of this package, None for any other."""
        if not fullname.startswith(_PACKAGE + "."):
            return None
        if fullname not in self.kept and fullname not in self.compiled and not self._compile(fullname):
            return None
        package = (self.kept if fullname in self.kept else self.compiled)[fullname][0]
        file = os.path.join(self.archive, member(fullname, package))
        spec = ModuleSpec(fullname, self, origin=file, is_package=package)  # type: ignore[arg-type]  # no load_module
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(file)]
        return spec

    def _compile(self, fullname: str) -> bool:
        for package in (False, True):
            name = member(fullname, package)
            try:
                source = self._sources.get_data(name)
            except OSError:
                continue
            code = compile(source, os.path.join(self.archive, name), "exec", dont_inherit=True)
            self.compiled[fullname] = (package, source, code)
            return True
        return False

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the module's creation to the interpreter."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Run a module's code."""
        name = module.__name__
        kept = self.kept.get(name)
        exec(self.compiled[name][2] if kept is None else marshal.loads(kept[1]), module.__dict__)  # noqa: S102, S302


def member(fullname: str, package: bool) -> str:
    """Return the name of a module's file in the archive."""
    return fullname.replace(".", "/") + ("/__init__.py" if package else ".py")


def _digest(sha256: str, body: bytes) -> bytes:
    magic: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER  # importlib.util has it too, and much else
    return hashlib.sha256(sha256.encode("ascii") + magic + body).digest()


def file_form(sha256: str, bytecode: Bytecode) -> bytes:
    """Return the file's bytes: a SHA-256 of the archive's hash, the interpreter's magic number and the rest; then the modules."""
    body = marshal.dumps(bytecode)
    return _digest(sha256, body) + body


def read_bytecode(path: str, sha256: str) -> Bytecode:
    """Return what the file holds for the archive with this hash; nothing where it is not to be used."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as stream:
            if not _is_ours(os.fstat(fd), stat.S_ISREG):
                return {}
            data = stream.read(_MOST)
    except OSError:
        return {}
    body = data[32:]
    if data[:32] != _digest(sha256, body):
        return {}
    bytecode: Bytecode = marshal.loads(body)  # noqa: S302  its hash is right, and only we and root can write it
    return bytecode


def _is_ours(state: os.stat_result, is_kind: Any) -> bool:
    """Return whether this is of the kind, and can be written by nobody but this process's user and root."""
    return bool(is_kind(state.st_mode)) and state.st_uid in (0, os.geteuid()) and not state.st_mode & 0o022


def running() -> Optional[BytecodeFinder]:
    """Return the finder that this process imports by, None where it uses no kept bytecode."""
    return next((finder for finder in sys.meta_path if isinstance(finder, BytecodeFinder)), None)


def use_bytecode(archive: str) -> None:
    """Import this package's modules by a BytecodeFinder from now on.

    Only where `archive` is named by its SHA-256, in a folder that nobody but this process's user and root can write.
    """
    archive = os.path.realpath(archive)
    folder, name = os.path.split(archive)
    named = len(name) == 64 + len(".pyz")
    if named and not sys.flags.optimize and _is_ours(os.stat(folder), stat.S_ISDIR):
        sys.meta_path.insert(0, BytecodeFinder(archive))
