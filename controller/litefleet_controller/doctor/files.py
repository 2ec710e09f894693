"""Recognises files by their content, examines them, and judges models with runtimes and places."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import ARCHES, Arch
from litefleet_agent.facts.runtime import RuntimeFacts
from litefleet_agent.findings import Finding, Severity, finding
from litefleet_agent.findings.environment import check_build, check_environment, grade_versions
from litefleet_agent.findings.model_file import check_file
from litefleet_agent.formats.nb import NbError, NbModel, read_header, read_nb

from ..build.conversion.preflight import SourceFacts, find_source, load_source
from ..build.conversion.static import check_source_for
from ..build.runtimes.library import read_library
from ..build.runtimes.library_files import is_archive
from ..build.toolchain import default_cache
from ..common.errors import FindingError, UsageError
from ..common.text import sanitize
from ..config.choices import DEFAULT_PADDLELITE
from ..inspection.foreign import other_file
from .diagnosis import Diagnosis, Fact, Kind
from .logs import diagnose_log
from .models import diagnose_nb, diagnose_source
from .runtimes import (
    diagnose_library,
    diagnose_release,
    diagnose_runtime,
    diagnose_wheel,
    is_release,
    pair_runtime,
    runtime_of,
)

_HEAD = 4096
_LIBRARIES = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_FAT = (b"\xca\xfe\xba\xbe", b"\xbe\xba\xfe\xca")  # macOS's universal binaries
_SOURCES = (".pdmodel", ".pdiparams")
_PARAMS = {"__params__": "__model__", "params": "model"}
_LOGS = (".log", ".txt", ".out", ".err")
_MOST = 1000  # files of one folder
_FEW = 20  # files of a folder that may be a model under any names: all of them are read


@dataclass(frozen=True)
class Examined:
    """A file with its diagnosis, and its content for the checks of pairs: one of model, source or runtime."""

    diagnosis: Diagnosis
    model: NbModel | None = None
    source: SourceFacts | None = None
    runtime: RuntimeFacts | None = None


def expand(paths: list[Path]) -> list[Path]:
    """Return the paths, a folder that is neither model nor runtime replaced by the files in it that can be examined.

    Raises: UsageError for a missing path, or a folder with nothing to examine.
    """
    found: list[Path] = []
    for path in paths:
        try:
            found += _expanded(path)
        except OSError as error:
            raise _unreadable(path, error) from error
    return found


def _expanded(path: Path) -> list[Path]:
    path.stat()  # raises with the reason, where `exists` returns False
    if not path.is_dir() or kind_of(path) is not Kind.UNKNOWN:
        return [path]
    found = sorted(path.iterdir())
    inside = [p for p in found if _is_candidate(p)] or [p for p in found if p.is_file() and _is_other(p)]
    if not inside:
        raise UsageError(f"{path} holds no model, no .nb, no wheel and no Paddle-Lite library.")
    return inside[:_MOST]


def _is_other(path: Path) -> bool:
    """Whether a file is a model of another kind, a training file or an archive: looked for where nothing else is."""
    try:
        found = other_file(_head(path), path.name)
    except UsageError:
        return False
    return found is not None and path.suffix not in _LOGS


def _unreadable(path: Path, error: OSError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"{path} does not exist.")
    return UsageError(f"{path} cannot be read: {error.strerror or error}. Check path and permissions.")


def _is_candidate(path: Path) -> bool:
    try:
        if path.is_dir():
            return kind_of(path) in (Kind.SOURCE, Kind.RUNTIME, Kind.LIBRARY)
    except OSError:  # an unreadable subfolder was not named
        return False
    return is_archive(path) or (path.suffix in (".nb", ".whl", ".so", *_SOURCES) and path.suffix != ".pdiparams")


def kind_of(path: Path) -> Kind:
    """Return the kind of a path, by its content first and its name last.  Raises: UsageError when it is unreadable."""
    if path.is_dir():
        return _kind_of_folder(path)
    head = _head(path)
    if head.startswith(_LIBRARIES) or (head.startswith(_FAT) and path.suffix in (".dylib", ".so", "")):
        return Kind.LIBRARY
    if path.suffix == ".whl" or _is_wheel(path, head):
        return Kind.WHEEL
    if is_archive(path) and _holds_library(path):
        return Kind.LIBRARY
    if path.suffix in _SOURCES or path.name in ("__model__", "__params__") or _is_pir(path, head):
        return Kind.SOURCE
    if path.suffix == ".nb" or _is_nb(head):
        return Kind.NB
    if path.suffix in _LOGS:
        return Kind.LOG
    is_program = head.startswith(b"\x0a") or path.name in _PARAMS
    return Kind.SOURCE if is_program and _is_source(path.with_name(_PARAMS.get(path.name, path.name))) else Kind.UNKNOWN


def _kind_of_folder(path: Path) -> Kind:
    if (path / "paddlelite").is_dir() or (path.name == "paddlelite" and any(path.glob("lite*.so"))):
        return Kind.RUNTIME
    if is_release(path):
        return Kind.LIBRARY
    names = {p.name for p in path.iterdir()}
    if names & {"__model__", "inference.json"} or any(n.endswith(".pdmodel") for n in names):
        return Kind.SOURCE
    return Kind.SOURCE if len(names) <= _FEW and _is_source(path) else Kind.UNKNOWN


def _holds_library(archive: Path) -> bool:
    """Whether an archive holds Paddle-Lite's library, by its published name or its content; a damaged one may."""
    if "inference_lite" in archive.name:
        return True
    try:
        read_library(archive, default_cache())
    except FindingError as error:
        return all(found.code == "LF322" for found in error.findings)
    return True


def _is_source(path: Path) -> bool:
    """Whether a path is a source model by its content: files under any names, as `litefleet convert` takes them."""
    try:
        find_source(path)
    except (FindingError, OSError):
        return False
    return True


def _head(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe blocks, and a device has no end
            raise UsageError(f"{path} is not a regular file; save the output of a pipe or a device to a file first.")
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


def examine(path: Path, arch: Arch | None = None, opt_version: str = DEFAULT_PADDLELITE) -> Examined:
    """Describe and judge a file: a .nb for `arch`, a source model for conversion with Paddle-Lite `opt_version`.

    Raises: UsageError when it is unreadable.
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
            diagnose = diagnose_release if is_release(path) else diagnose_library
            return Examined(diagnose(path), runtime=runtime_of(path))
        case Kind.LOG:
            return Examined(diagnose_log(path))
    return Examined(_unknown(path))


def _nb(path: Path, arch: Arch | None) -> Examined:
    head = _head(path)
    other = None if _is_nb(head) else other_file(head, path.name)
    if other is not None:
        return Examined(_no_model(path, other))
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
    observed = f"{sanitize(path.name)} is neither a .nb, nor a PaddlePaddle model, a wheel, a library or a log."
    return _no_model(path, other_file(head, path.name) or finding("LF106", observed))


def _no_model(path: Path, found: Finding) -> Diagnosis:
    return Diagnosis(Kind.UNKNOWN, sanitize(path.name), (_size(path),), findings=(found,), path=path)


def _size(path: Path) -> Fact:
    return Fact("size", f"{path.stat().st_size:,} bytes")


@dataclass(frozen=True)
class Place:
    """Where files will run: a probed device, or an architecture alone (`facts` None)."""

    name: str
    arch: Arch | None  # None: Paddle-Lite has no CPU backend for it
    facts: Facts | None = None

    @classmethod
    def of_device(cls, name: str, facts: Facts) -> Place:
        """Return a device as a place."""
        return cls(name, ARCHES.get(facts.arch), facts)


def diagnose_pairs(files: Iterable[Examined], places: Iterable[Place], opt_version: str) -> list[Diagnosis]:
    """Judge each model with each runtime, if any is given, on each place, if any is given.

    Files that are neither model nor runtime, or unreadable, are in no pair.  `opt_version` is the converter's, for
    source models.
    """
    given = list(files)
    models = [f for f in given if f.model or f.source]
    runtimes = [f for f in given if f.runtime]
    everywhere = list(places)
    beside: list[Examined | None] = [*runtimes] or [None]
    where: list[Place | None] = [*everywhere] or [None]
    found = [
        _judge(model, runtime, place, opt_version)
        for place in where
        for model in models
        for runtime in beside
        if place or runtime
    ]
    if not models:
        found += [_judge_runtime(runtime, place) for place in everywhere for runtime in runtimes]
    return [pair for pair in found if pair.findings or pair.works]  # the others add nothing to the files' own diagnoses


def _judge(model: Examined, runtime: Examined | None, place: Place | None, opt_version: str) -> Diagnosis:
    findings: list[Finding] = []
    if place is not None and place.arch is None:
        findings.append(_no_backend(place))
    elif model.source is not None:
        targets = place.arch.target if place and place.arch else ""
        findings += check_source_for(model.source, targets, opt_version) if targets else []
        if runtime is not None and place is not None:
            findings += _runtime_on(runtime, place)
    elif model.model is not None:
        findings += _nb_on(model.model, runtime, place)
    return _paired([model, *([runtime] if runtime else [])], place, findings)


def _nb_on(model: NbModel, runtime: Examined | None, place: Place | None) -> list[Finding]:
    facts = place.facts if place else None
    found: list[Finding] = []
    if place and place.arch:
        features = frozenset(facts.cpu.features) or None if facts else None
        found += check_file(model, place.arch, features)
    if facts is not None:
        found += check_environment(model, facts, runtime.runtime if runtime else None)
    elif runtime is not None and runtime.runtime is not None:
        found += _nb_with(model, runtime.runtime)
        found += _runtime_on(runtime, place) if place else []
    return found


def _nb_with(model: NbModel, runtime: RuntimeFacts) -> list[Finding]:
    """Judge a .nb with a runtime and no device: their versions, and the CPU that the runtime's binary is for."""
    arch = ARCHES.get(runtime.so_machine)
    found = check_file(model, arch) if arch else []
    return [*found, *check_build(model, runtime), *grade_versions(model.opt_version, runtime.paddlelite_version)]


def _judge_runtime(runtime: Examined, place: Place) -> Diagnosis:
    findings = [_no_backend(place)] if place.arch is None else _runtime_on(runtime, place)
    return _paired([runtime], place, findings)


def _runtime_on(runtime: Examined, place: Place) -> list[Finding]:
    described = runtime.runtime
    if described is None:
        return []
    if place.facts is not None:
        return list(pair_runtime(described, place.facts))
    if place.arch and described.so_machine and described.so_machine != place.arch.name:
        observed = f"{runtime.diagnosis.subject} is for {described.so_machine}; {place.name} is {place.arch.name}."
        return [finding("LF308", observed)]
    return []


def _no_backend(place: Place) -> Finding:
    machine = place.facts.machine if place.facts else place.name
    return finding(
        "LF303", f"{place.name} is {machine or 'of an unknown architecture'}; Paddle-Lite runs on x86 and ARM."
    )


def _paired(files: list[Examined], place: Place | None, findings: list[Finding]) -> Diagnosis:
    names = " with ".join(f.diagnosis.subject for f in files)
    own = {f for file in files for f in file.diagnosis.findings}
    new = tuple(dict.fromkeys(f for f in findings if f not in own))
    return Diagnosis(
        kind=Kind.PAIR,
        subject=f"{names} on {place.name}" if place else names,
        works=_works(files, place, (*own, *new)),
        findings=new,
        path=files[0].diagnosis.path,
    )


def _works(files: list[Examined], place: Place | None, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the sentence for a pair without errors; only a run proves that it works, and the sentence states so."""
    if any(f.severity is Severity.ERROR for f in findings):
        return ()
    files_text = "these files" if len(files) > 1 else "this file"
    if place is None:
        return ("No check before a run rules out these two together.",)
    if place.facts is None:
        return (f"Nothing in {files_text} rules out {place.name}; the device itself was not probed.",)
    return (f"No check before a run rules out {files_text} there; `litefleet verify` proves it.",)
