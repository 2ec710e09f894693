"""Runs the agent's modules from bytecode that an earlier start kept beside the archive, so that no source is compiled again.

The file `<archive's SHA-256>.<interpreter>.bytecode` is used only when it was made from this archive for this interpreter, is
undamaged, and can be written by nobody but this process's user and root.  Everything else runs from the archive's sources.
Its beginning may have come with the archive: what the controller compiled with such an interpreter, see releases.code_pack.
A session's first answer has a file of its own, `….start.bytecode`: all its modules at once, read by the bootstrap's loader, with
what the file system says of the archive since its hash was checked.  The first file is read where a module is not in there.
Without the second file this module itself is compiled at each start: what only writes the files is in releases.archive.
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
    Code = Dict[str, Tuple[bool, CodeType]]  # the same with its code
else:
    try:
        if sys.version_info < (3, 12):
            from _sha256 import sha256
        else:
            from _sha2 import sha256
    except ImportError:
        from hashlib import sha256

BYTECODE_SUFFIX = ".bytecode"
START_SUFFIX = ".start.bytecode"  # also in the controller's devices/bootstrap.py
_MOST = 16 << 20  # bytes of the file; the whole agent takes under 1 MB
_PACKAGE = "litefleet_agent."


class BytecodeFinder:
    """Imports the agent's modules: those in `start` and `kept` from there, the others from the archive, <SHA-256>.pyz.

    `source` is the archive's path, or that of the open file which is read in its place.
    """

    def __init__(self, archive: str, source: str, start: Optional[Code] = None) -> None:
        self.archive = archive
        self.source = source
        self.sha256 = os.path.basename(archive)[:64]
        self.stem = "%s.%s" % (archive[: -len(".pyz")], sys.implementation.cache_tag)
        self.path = self.stem + BYTECODE_SUFFIX
        self.start: Code = start or {}  # what a session's first answer needs, as an earlier session kept it
        self.compiled: Code = {}  # by this process
        self.note: object = None  # what a session kept with `start`: facts.known.Note
        self.site: object = None  # likewise: what `use_site` takes
        self._kept: Optional[Bytecode] = None

    @property
    def kept(self) -> Bytecode:
        """The modules in the file, which is read when the first of them is imported."""
        if self._kept is None:
            self._kept = read_bytecode(self.path, self.sha256)
        return self._kept

    def forget_compiled(self) -> None:
        """Forget what was compiled: the file has it now."""
        self.compiled, self._kept = {}, None

    def in_archive(self, fullname: str) -> Tuple[Any, str]:
        """Return the importer of the archive's folder that a module is in, and the name by which it knows the module."""
        folder, name = os.path.split(os.path.join(self.source, fullname.replace(".", "/")))
        return zipimporter(folder), name

    def code_of(self, fullname: str) -> Optional[Tuple[bool, CodeType]]:
        """Return whether a module of this package is a package, and its code; None where the agent has no such module."""
        known = self.start.get(fullname) or self.compiled.get(fullname)
        if known is None and fullname in self.kept:
            package, code = self.kept[fullname][0], marshal.loads(self.kept[fullname][1])  # noqa: S302
            file = self._file(fullname, package)
            if code.co_filename != file:  # the controller that compiled it does not know where the archive lies here
                sys.modules["_imp"]._fix_co_filename(code, file)
            known = package, code
        if known is None:
            known = self.compile(fullname)
        return known

    def _file(self, fullname: str, package: bool) -> str:
        """Return the name that tracebacks give a module."""
        return os.path.join(self.archive, fullname.replace(".", "/")) + ("/__init__.py" if package else ".py")

    def compile(self, fullname: str) -> Optional[Tuple[bool, CodeType]]:
        """Compile a module, without docstrings: a fifth less to keep and to read.

        Without asserts too, which here only tell type checkers that a value is not None.
        """
        importer, name = self.in_archive(fullname)
        try:
            package, source = importer.is_package(name), importer.get_source(name) or ""
        except ImportError:
            return None
        code: CodeType = compile(source, self._file(fullname, package), "exec", dont_inherit=True, optimize=2)
        self.compiled[fullname] = package, code
        return self.compiled[fullname]

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        """Return the spec of a module of this package, None for any other."""
        if not fullname.startswith(_PACKAGE) and fullname not in self.start:
            return None
        known = self.code_of(fullname)
        if known is None:
            return None
        # The package itself names what it was imported from.
        file = os.path.join(self.archive if "." in fullname else self.source, fullname.replace(".", "/"))
        spec = ModuleSpec(fullname, self, is_package=known[0])  # type: ignore[arg-type]  # it has no load_module
        spec.origin = file + ("/__init__.py" if known[0] else ".py")
        spec.has_location = True
        spec.loader_state = known[1]
        if known[0]:
            spec.submodule_search_locations = [file]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Return None: the interpreter creates the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        spec: Any = module.__spec__
        code, spec.loader_state = spec.loader_state, None
        exec(code, module.__dict__)  # noqa: S102


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


def use_start(archive: str, source: str, start: Code, note: object, site: Any) -> None:
    """Import this package from `start`, which the bootstrap's loader has checked, and what is not in there as usual.

    `note` and `site` are what was kept with it.  The interpreter runs without the module site, whose work is done here.
    """
    finder = BytecodeFinder(archive, source, start)
    finder.note = note
    sys.meta_path.insert(0, finder)
    if site and site[0] == (sys.executable, sys.version) and all(stamp_of(path) == stamp for path, stamp in site[2]):
        finder.site = site
        sys.path[:], sys.prefix, sys.exec_prefix = site[1]
    elif sys.flags.no_site:
        from site import main  # runs what packages have put into .pth files, which took 20 ms on one PC

        main()


def stamp_of(path: str) -> Optional[Tuple[int, int, int, int]]:
    """Return what the file system says of a file or folder, as `formats.files.FileStamp`; None for what is not there.

    Any change to it changes that.  The bootstrap's loader has the same order.
    """
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def use_bytecode(archive: str, source: str) -> None:
    """Import this package's modules by a BytecodeFinder from now on; `source` is what they were imported from so far.

    Only where `archive` is named by its SHA-256, in a folder that nobody but this process's user and root can write.
    """
    if running() is not None:  # the bootstrap's loader has called `use_start`
        return
    folder, name = os.path.split(os.path.realpath(archive))
    if len(name) == 64 + len(".pyz") and not sys.flags.optimize and _is_ours(os.stat(folder), stat.S_IFDIR):
        path = os.path.join(folder, name)
        sys.meta_path.insert(0, BytecodeFinder(path, path if source == archive else source))
