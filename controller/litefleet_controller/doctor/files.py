"""Which kind of file a path is, by what lies in it, and its diagnosis."""

from __future__ import annotations

import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.facts.arch import Arch
from litefleet_agent.facts.runtime import RuntimeFacts
from litefleet_agent.findings import finding
from litefleet_agent.formats.nb import NbError, NbModel, read_header, read_nb

from ..conversion.foreign import foreign_format
from ..conversion.preflight import SourceFacts, load_source
from ..errors import FindingError, UsageError
from ..texts import plain
from .diagnosis import Diagnosis, Fact, Kind
from .logs import diagnose_log
from .nbfiles import diagnose_nb
from .runtimes import diagnose_library, diagnose_runtime, diagnose_wheel, runtime_of
from .sources import DEFAULT_VERSION, diagnose_source

__all__ = ["Examined", "examine", "expand", "kind_of"]

_HEAD = 4096
_LIBRARIES = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_FAT = (b"\xca\xfe\xba\xbe", b"\xbe\xba\xfe\xca")  # macOS's universal binaries
_SOURCES = (".pdmodel", ".pdiparams")
_PARAMS = {"__params__": "__model__", "params": "model"}
_LOGS = (".log", ".txt", ".out", ".err")
_MOST = 1000  # files of one folder


@dataclass(frozen=True)
class Examined:
    """A file with its diagnosis, and what the checks of pairs want of it; None where it is something else."""

    diagnosis: Diagnosis
    model: NbModel | None = None
    source: SourceFacts | None = None
    runtime: RuntimeFacts | None = None


def expand(paths: list[Path]) -> list[Path]:
    """Return the paths, with a folder that is itself no model and no runtime replaced by the files that can be judged.

    Raises: UsageError for a path that is not there, or a folder with nothing to judge.
    """
    found: list[Path] = []
    for path in paths:
        try:
            found += _expanded(path)
        except OSError as error:
            raise _unreadable(path, error) from error
    return found


def _expanded(path: Path) -> list[Path]:
    path.stat()  # says why it can't be looked at, where `exists` says no
    if not path.is_dir() or kind_of(path) is not Kind.UNKNOWN:
        return [path]
    inside = sorted(p for p in path.iterdir() if _is_candidate(p))[:_MOST]
    if not inside:
        raise UsageError(f"{path} holds no model, no .nb, no wheel and no Paddle-Lite library.")
    return inside


def _unreadable(path: Path, error: OSError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"{path} does not exist.")
    return UsageError(f"{path} can't be read: {error.strerror or error}. Check path and permissions.")


def _is_candidate(path: Path) -> bool:
    try:
        if path.is_dir():
            return kind_of(path) in (Kind.SOURCE, Kind.RUNTIME)
    except OSError:  # a folder that is closed to us is not what was named
        return False
    return path.suffix in (".nb", ".whl", ".so", *_SOURCES) and path.suffix != ".pdiparams"


def kind_of(path: Path) -> Kind:
    """Say what a path is, by its content first and its name last.  Raises: UsageError when it can't be read."""
    if path.is_dir():
        return _kind_of_folder(path)
    head = _head(path)
    if head.startswith(_LIBRARIES) or (head.startswith(_FAT) and path.suffix in (".dylib", ".so", "")):
        return Kind.LIBRARY
    if path.suffix == ".whl" or _is_wheel(path, head):
        return Kind.WHEEL
    if path.suffix in _SOURCES or path.name in ("__model__", "__params__") or _is_pir(path, head):
        return Kind.SOURCE
    if path.suffix == ".nb" or _is_nb(head):
        return Kind.NB
    return Kind.LOG if path.suffix in _LOGS else Kind.UNKNOWN


def _kind_of_folder(path: Path) -> Kind:
    if (path / "paddlelite").is_dir() or (path.name == "paddlelite" and any(path.glob("lite*.so"))):
        return Kind.RUNTIME
    names = {p.name for p in path.iterdir()}
    if names & {"__model__", "inference.json"} or any(n.endswith(".pdmodel") for n in names):
        return Kind.SOURCE
    return Kind.UNKNOWN


def _head(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, and a device has no end
            raise UsageError(f"{path} is no regular file; of a pipe or a device, save what it gives to a file first.")
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        raise _unreadable(path, error) from error


def _is_wheel(path: Path, head: bytes) -> bool:
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".dist-info/WHEEL") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _is_pir(path: Path, head: bytes) -> bool:
    return path.suffix == ".json" and head.lstrip().startswith(b"{") and b'"pir"' in head


def _is_nb(head: bytes) -> bool:
    try:
        read_header(head)
    except NbError as error:
        return error.finding_code == "LF105" and len(head) == _HEAD and head[:2] in (b"\x01\0", b"\x02\0")
    return True


def examine(path: Path, arch: Arch | None = None, opt_version: str = DEFAULT_VERSION) -> Examined:
    """Say what a file is and what is wrong with it; `arch` says for which CPU a .nb is judged, `opt_version` which
    Paddle-Lite a source model is to be converted with.

    Raises: UsageError when it can't be read.
    """
    match kind_of(path):
        case Kind.NB:
            return _nb(path, arch)
        case Kind.SOURCE:
            return _source(path, opt_version)
        case Kind.WHEEL:
            return Examined(diagnose_wheel(path), runtime=runtime_of(path))
        case Kind.RUNTIME:
            return Examined(diagnose_runtime(path), runtime=runtime_of(path))
        case Kind.LIBRARY:
            return Examined(diagnose_library(path), runtime=runtime_of(path))
        case Kind.LOG:
            return Examined(diagnose_log(path))
    return Examined(_unknown(path))


def _nb(path: Path, arch: Arch | None) -> Examined:
    head = _head(path)
    foreign = foreign_format(head, path.name)
    if foreign and not _is_nb(head):
        return Examined(_foreign(path, foreign))
    diagnosis = diagnose_nb(path, arch.name if arch else None)
    try:
        model = read_nb(path.read_bytes()) if diagnosis.data.get("kernels") else None
    except (NbError, OSError):  # it changed since it was inspected
        model = None
    return Examined(diagnosis, model=model)


def _source(path: Path, opt_version: str) -> Examined:
    model = path
    if path.suffix == ".pdiparams":
        model = path.with_suffix(".pdmodel")
    elif path.name in _PARAMS:
        model = path.with_name(_PARAMS[path.name])
    diagnosis = diagnose_source(model, opt_version)
    try:
        return Examined(diagnosis, source=load_source(model).facts)
    except FindingError:
        return Examined(diagnosis)


def _unknown(path: Path) -> Diagnosis:
    if path.is_dir():
        raise UsageError(f"{path} holds no model, no .nb, no wheel and no Paddle-Lite library.")
    head = _head(path)
    foreign = foreign_format(head, path.name)
    if foreign:
        return _foreign(path, foreign)
    seen = f"{plain(path.name)} is neither a .nb, nor a PaddlePaddle model, a wheel, a library or a log."
    return Diagnosis(Kind.UNKNOWN, plain(path.name), (_size(path),), findings=(finding("LF106", seen),), path=path)


def _foreign(path: Path, name: str) -> Diagnosis:
    found = finding("LF210", f"{plain(path.name)} is {name}.")
    return Diagnosis(Kind.UNKNOWN, plain(path.name), (_size(path), Fact("format", name)), findings=(found,), path=path)


def _size(path: Path) -> Fact:
    return Fact("size", f"{path.stat().st_size:,} bytes")
