"""Diagnoses of Paddle-Lite runtimes: wheels, folders and libraries, their needs and their damage."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.facts.runtime import (
    RuntimeFacts,
    binary_of,
    describe_library,
    describe_runtime,
    python_in,
    with_flavour,
)
from litefleet_agent.findings import Finding, Severity, finding
from litefleet_agent.findings.runtime import (
    check_cpu,
    check_interface,
    check_leftovers,
    check_numpy,
    check_runtime,
    check_system,
    dotted,
    newest_version,
)

from ..build.runtimes.build import runtime_to_dict
from ..build.runtimes.compatibility import wheel_name
from ..build.runtimes.library import is_library, read_library
from ..build.runtimes.library_files import is_archive
from ..build.toolchain import default_cache
from ..common.errors import FindingError
from ..common.text import sanitize
from ..config.choices import RuntimeChoice
from .diagnosis import Diagnosis, Fact, Kind
from .wheels import check_tags, unpack

_SYSTEMS = {"linux": "Linux", "android": "Android", "windows": "Windows", "macos": "macOS"}
_FLAVOURS = {"full": "full (reads source models and .nb files)", "tiny": "small (reads .nb files only)"}
_INTERFACES = {
    "c++": "C++ with today's string ABI",
    "old-strings": "C++ with the old string ABI",
    "android": "C++ for Android",
    "libc++": "C++ of libc++",
    "java": "Java only",
    "none": "no C++ functions",
}
_WINDOWS = re.compile(r"lite(\.[-\w]+)?\.pyd")


@dataclass(frozen=True)
class _Read:
    """The content of a wheel, folder or library; `runtime` is None when it holds no Paddle-Lite."""

    runtime: RuntimeFacts | None
    findings: tuple[Finding, ...] = ()
    facts: tuple[Fact, ...] = ()
    works: tuple[str, ...] = ()


def diagnose_wheel(path: Path) -> Diagnosis:
    """Describe a wheel, or a runtime bundle's zip; check that it is complete and fits its name."""
    return _diagnosis(Kind.WHEEL, path, _inspect(_read_wheel, path))


def diagnose_runtime(folder: Path) -> Diagnosis:
    """Describe a folder that holds a built paddlelite/ package, or that is one."""
    return _diagnosis(Kind.RUNTIME, folder, _read_folder(folder))


def diagnose_library(path: Path) -> Diagnosis:
    """Describe one library file: lite.so, libpaddle_light_api_shared.so, or any other."""
    return _diagnosis(Kind.LIBRARY, path, _inspect(_read_library, path))


def diagnose_release(path: Path) -> Diagnosis:
    """Describe the C++ library of a release archive, or of an unpacked one."""
    return _diagnosis(Kind.LIBRARY, path, _inspect(_read_release, path))


def runtime_of(path: Path) -> RuntimeFacts | None:
    """Return the runtime's facts; None when `path` holds no Paddle-Lite, or one too damaged to describe."""
    if is_release(path):
        return _inspect(_read_release, path).runtime
    if path.is_dir():
        return _read_folder(path).runtime
    return _inspect(_read_wheel if _is_zip(path) else _read_library, path).runtime


def is_release(path: Path) -> bool:
    """Return whether a path is a release archive by its name, or a folder that holds the C++ library and no Python package."""
    if path.is_dir():
        return is_library(RuntimeChoice("folder", path=path))
    return is_archive(path)


def pair_runtime(runtime: RuntimeFacts, facts: Facts) -> tuple[Finding, ...]:
    """Return the findings against this runtime on the device of `facts`, whatever the model."""
    arch = ARCHES.get(facts.arch)
    if arch is None:
        return (finding("LF303", f"This device is {facts.machine or 'unknown'} with a {facts.bits}-bit userland."),)
    if not runtime.path:
        return (finding("LF302", "The runtime's folder holds no paddlelite package."),)
    return (*check_runtime(facts, runtime), *check_cpu(facts, arch.isa, runtime))


@functools.lru_cache(maxsize=16)
def _read_once(read: Any, path: Path, size: int, changed: int) -> _Read:
    """Read a file once for its diagnosis and its pairs; `size` and `changed` (ns) make a changed file another key."""
    found: _Read = read(path)
    return found


def _inspect(read: Any, path: Path) -> _Read:
    try:
        state = path.stat()
    except OSError as error:
        return _Read(None, (finding("LF315", f"{sanitize(path.name)} cannot be read: {error.strerror or error}."),))
    return _read_once(read, path, state.st_size, state.st_mtime_ns)


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return path.suffix == ".whl" or stream.read(4) == b"PK\x03\x04"
    except OSError:
        return path.suffix == ".whl"


def _read_wheel(path: Path) -> _Read:
    with tempfile.TemporaryDirectory(prefix="litefleet-doctor-") as name:
        folder = Path(name)
        try:
            files = unpack(path, folder)
        except FindingError as error:
            return _Read(None, error.findings)
        read = _read_folder(folder)
        if not (folder / "paddlelite").is_dir():
            return _not_ours(path, folder)
        if read.runtime is None or read.runtime.so_problem == "it has no lite.so":
            lacks = "lite.so" if read.runtime else "__init__.py"
            return _Read(None, (finding("LF322", f"{sanitize(path.name)} holds no paddlelite/{lacks}."),))
        python = python_in(binary_of(read.runtime.path))
        findings = (*read.findings, *check_tags(path.name, read.runtime.so_machine, python))
        works = (f"The archive is whole: the CRC-32 of {files} files was checked.", *read.works)
        return _Read(replace(read.runtime, path=str(path)), findings, read.facts, works)


def _not_ours(path: Path, folder: Path) -> _Read:
    """Describe a wheel without paddlelite/; one that is named paddlelite is damaged."""
    names = sorted(p.name.removesuffix(".dist-info") for p in folder.glob("*.dist-info"))
    wheel = wheel_name(path.name)
    if (wheel and wheel.project == "paddlelite") or any(n.lower().startswith("paddlelite-") for n in names):
        return _Read(None, (finding("LF322", f"{sanitize(path.name)} holds no paddlelite/ package."),))
    if not names:
        return _Read(None, (finding("LF322", f"{sanitize(path.name)} holds no *.dist-info/WHEEL: it is not a wheel."),))
    return _Read(None, (), (Fact("package", f"{sanitize(names[0])}; it is not Paddle-Lite"),))


def _read_folder(folder: Path) -> _Read:
    base = folder.parent if _is_package(folder) else folder
    runtime = describe_runtime(str(base), [])
    if not runtime.path:
        observed = f"{sanitize(folder.name)} holds no paddlelite/__init__.py: give the folder that a built paddlelite/ lies in."
        return _Read(None, (finding("LF302", observed),))
    windows = [name for name in _names(Path(runtime.path)) if _WINDOWS.fullmatch(name)]
    if windows and runtime.so_problem:
        runtime = replace(runtime, so_system="windows", so_problem=f"it has {windows[0]}, a Windows library")
    return _judged(with_flavour(runtime))


def _is_package(folder: Path) -> bool:
    return folder.resolve().name == "paddlelite" and (folder / "__init__.py").is_file()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir())
    except OSError:
        return []


def _read_release(path: Path) -> _Read:
    try:
        library = read_library(path, default_cache())
    except FindingError as error:
        return _Read(None, error.findings)
    read = _judged(replace(library.runtime, path=str(path)))
    files = [file for file in library.tree.rglob("*") if file.is_file()]
    travels = f"{', '.join(sorted(file.name for file in files))} ({sum(f.stat().st_size for f in files) / 1e6:.1f} MB)"
    more = [Fact("a device gets", sanitize(travels))]
    more += [Fact("link-time optimisation", "yes")] if library.lto else []
    return replace(read, facts=(*read.facts, *more))


def _read_library(path: Path) -> _Read:
    runtime = with_flavour(describe_library(str(path)))
    read = _judged(runtime)
    signs = runtime.flavour.kind or runtime.flavour.ops or runtime.paddlelite_version
    if runtime.so_machine and not signs and runtime.interface in ("", "none"):
        sign = Fact("Paddle-Lite", "no sign of it in this library")
        return _Read(None, tuple(f for f in read.findings if f.code not in ("LF315", "LF323")), (sign, *read.facts), ())
    return read


def _judged(runtime: RuntimeFacts) -> _Read:
    found: list[Finding] = list(check_system(runtime))
    if runtime.so_problem and not found:
        found.append(finding("LF315", f"The runtime cannot be loaded: {sanitize(runtime.so_problem).rstrip('.')}."))
    if not found and not runtime.python_tags:  # a package's lite.so may have its binding alone
        found += check_interface(runtime)
    found += check_leftovers(runtime)
    found += check_numpy(runtime) if runtime.numpy_version else []
    works: tuple[str, ...] = ()
    if not any(f.severity is Severity.ERROR for f in found):
        works = (
            f"The library is complete, and for {runtime.so_machine} with {_SYSTEMS.get(runtime.so_system, 'any system')}.",
        )
        if runtime.interface == "c++":
            works += ("litefleet drives it without Python binding and numpy: `litefleet runtime add FILE` names it.",)
    return _Read(runtime, tuple(found), tuple(_described(runtime)), works)


def _described(runtime: RuntimeFacts) -> Iterable[Fact]:
    """Return the known facts of a runtime, one line each."""
    pages, flavour = runtime.page_align, runtime.flavour
    lines = (
        ("Paddle-Lite", runtime.paddlelite_version),
        ("machine", runtime.so_machine),
        ("system", _SYSTEMS.get(runtime.so_system, "")),
        ("Python", " or ".join(_python(tag) for tag in runtime.python_tags)),
        ("needs", ", ".join(_needs(runtime))),
        ("libraries", ", ".join(runtime.so_needed[:32])),
        ("pages", f"aligned to {pages // 1024} KiB" if pages else ""),
        ("build", _FLAVOURS.get(flavour.kind, "")),
        ("interface", _INTERFACES.get(runtime.interface, "")),
        ("operators", _operators(runtime)),
        ("fp16", "" if flavour.fp16 is None else "has fp16 kernels for ARM" if flavour.fp16 else "built without fp16"),
        ("OpenCL", "can use it" if runtime.opencl else ""),
        ("numpy", runtime.numpy_version),
    )
    return (Fact(label, sanitize(text)) for label, text in lines if text)


def _python(tag: str) -> str:
    found = re.fullmatch(r"cp(\d)(\d{1,2})", tag)
    return f"CPython {found[1]}.{found[2]}" if found else tag


def _needs(runtime: RuntimeFacts) -> list[str]:
    """Return the newest symbol versions that the device's libraries must provide."""
    named = (("glibc", "GLIBC_"), ("GLIBCXX", "GLIBCXX_"), ("CXXABI", "CXXABI_"))
    newest = [(name, newest_version(runtime.so_versions, prefix)) for name, prefix in named]
    return [f"{name} {dotted(version)}" for name, version in newest if version]


def _operators(runtime: RuntimeFacts) -> str:
    flavour = runtime.flavour
    if not flavour.ops:
        return ""
    return f"{len(flavour.ops)}, {'with' if flavour.extra_ops else 'without'} the extra ones"


def _diagnosis(kind: Kind, path: Path, read: _Read) -> Diagnosis:
    return Diagnosis(
        kind=kind,
        subject=sanitize(path.name or str(path)),
        facts=read.facts,
        works=read.works,
        findings=read.findings,
        path=path,
        data=runtime_to_dict(read.runtime) if read.runtime else {},
    )
