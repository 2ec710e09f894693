"""Builds runtime bundles: the Paddle-Lite and numpy for a device's own Python, resolved with uv, packed into one zip."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import uv
from litefleet_agent.facts.flavour import Flavour
from litefleet_agent.facts.runtime import RuntimeFacts, describe_runtime, with_flavour, with_interface

from ...common.errors import FindingError, FolderError, ToolchainError
from ...common.files import foreign_writers, locked, make_private_folder, sha256_of, write_atomically
from ...common.subprocesses import SubprocessEnd, run_subprocess
from ...config.choices import RuntimeChoice
from ..toolchain import requirement_lines
from .compatibility import (
    DeviceKind,
    binding_fits,
    platform_of,
    refusal_of_device,
    refusal_of_elf,
    refusal_of_interpreter,
    refusal_of_wheel,
    sentence_of_resolver,
    wheels_for,
)
from .library import Library, is_library, read_library
from .pack import Packed, fingerprint, pack, unpack_wheel

_DEFAULT_NUMPY = RuntimeChoice().numpy
_RECIPE = 3  # raise it when bundles come to be packed in another way


@dataclass(frozen=True)
class Bundle:
    """One runtime as a zip whose root belongs on sys.path; `key` names its content ("system": no file).  Sizes in bytes."""

    key: str
    path: Path | None
    sha256: str
    size: int
    unpacked_size: int
    description: str
    runtime: RuntimeFacts | None = None  # what it holds, with its flavour; None for "system"


async def build_bundle(choice: RuntimeChoice, device: DeviceKind, cache: Path, time_limit_s: float = 600) -> Bundle:
    """Return the bundle for devices of this kind, from `cache` when it was built before.

    Raises: FindingError LF302, LF307, LF308 or LF309 with what would fit; ToolchainError when uv failed.
    """
    if choice.kind == "system":
        return Bundle("system", None, "", 0, 0, "the Paddle-Lite that the device's own Python has")
    refused = refusal_of_device(choice, device)
    if refused is not None:
        raise FindingError([refused])
    library = await asyncio.to_thread(read_library, choice.path, cache.parent) if is_library(choice) else None
    if library is not None and library.runtime.so_machine != device.arch:
        observed = f"{library.words} is for {library.runtime.so_machine}; this device is {device.arch}."
        raise FindingError.of("LF308", observed)
    request = _request_key(choice, device, library)
    make_private_folder(cache)
    if why := foreign_writers(cache):
        raise FolderError(
            f"The cache folder {cache} is not used: {why}, and devices run what is in it. Remove it and run again."
        )
    async with locked(cache / f"{request}.lock"):
        known = await asyncio.to_thread(_recall, cache, request)  # hashed again: a damaged file is never sent
        if known is None and library is not None:
            return await asyncio.to_thread(_pack_library, library, cache, request)
        return known or await _build(choice, device, cache, request, time_limit_s)


def _request_key(choice: RuntimeChoice, device: DeviceKind, library: Library | None) -> str:
    """Return the key of a request; a changed wheel or folder changes it."""
    if library is not None:
        return hashlib.sha256(json.dumps([_RECIPE, fingerprint(library.tree)]).encode()).hexdigest()[:32]
    content = fingerprint(choice.path) if choice.kind in ("wheel", "folder") else ""
    facts = [_RECIPE, choice.kind, choice.paddlelite, choice.numpy, str(choice.path), content]
    brings = _brings_numpy(choice, device)
    python = device.python_tag if brings else wheels_for(choice, device).python_tag
    facts += [device.arch, python, brings, platform_of(device) or device.libc_kind]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _brings_numpy(choice: RuntimeChoice, device: DeviceKind) -> bool:
    """Return whether the bundle holds a numpy: the binding uses it, or the configuration names another than the default."""
    return bool(choice.numpy) and (binding_fits(choice, device) or choice.numpy != _DEFAULT_NUMPY)


def _recall(cache: Path, request: str) -> Bundle | None:
    """Return the bundle that this request gave before; None when its file is missing or damaged."""
    try:
        facts = json.loads((cache / f"{request}.json").read_text(encoding="utf-8"))
        runtime = runtime_from_dict(facts.pop("runtime"))
        bundle = Bundle(**{**facts, "path": cache / f"{facts['key']}.zip"}, runtime=runtime)
        intact = sha256_of(cache / f"{bundle.key}.zip") == bundle.sha256
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return bundle if intact else None


async def _build(choice: RuntimeChoice, device: DeviceKind, cache: Path, request: str, time_limit_s: float) -> Bundle:
    """Gather the runtime's files, check them, pack them and record the result."""
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as name:
        work = Path(name)
        if choice.kind == "wheels":
            folder, described = work / "tree", f"paddlelite {choice.paddlelite} from wheels"
            numpy = await _resolve_wheels(choice, device, folder, time_limit_s)
            device = wheels_for(choice, device)
        else:
            folder, described = await _take(choice, device, work)
            numpy = await _add_numpy(choice, device, work / "numpy", folder, time_limit_s)
        label = str(choice.path) if choice.kind != "wheels" else "the paddlelite wheel"
        refused = refusal_of_elf(folder, device, label) or refusal_of_interpreter(
            folder, device, choice.path.name or label
        )
        if refused is not None:
            raise FindingError([refused])
        layers = [folder, work / "numpy"] if (work / "numpy").is_dir() else [folder]
        packed = await asyncio.to_thread(pack, layers, work / "bundle.zip")
        runtime = await asyncio.to_thread(_describe, layers)
        described = f"{described}, {numpy}, for {_words(device)}"
        return _keep(packed, work / "bundle.zip", cache, request, described, runtime)


def _describe(layers: list[Path]) -> RuntimeFacts:
    """Return what a bundle of these folders holds."""
    runtime = describe_runtime(str(layers[0]), [str(folder) for folder in layers[1:]])
    return with_interface(with_flavour(runtime))


def _pack_library(library: Library, cache: Path, request: str) -> Bundle:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as name:
        made = Path(name) / "bundle.zip"
        packed = pack([library.tree], made)
        described = f"Paddle-Lite {library.words}, for {library.runtime.so_machine}"
        return _keep(packed, made, cache, request, described, library.runtime)


def _keep(packed: Packed, made: Path, cache: Path, request: str, description: str, runtime: RuntimeFacts) -> Bundle:
    """Store the zip under its content's name and record the request's result."""
    key = packed.sha256[:32]
    path = cache / f"{key}.zip"
    made.replace(path)
    bundle = Bundle(key, path, packed.sha256, packed.size, packed.unpacked_size, description, runtime)
    facts = {**asdict(replace(bundle, runtime=None)), "path": path.name, "runtime": runtime_to_dict(runtime)}
    write_atomically(cache / f"{request}.json", json.dumps(facts).encode())
    return bundle


def _words(device: DeviceKind) -> str:
    """Return the text for a device kind: 'x86_64 with CPython 3.10'."""
    digits = device.python_tag.removeprefix("cp")
    return f"{device.arch} with CPython {digits[:1]}.{digits[1:]}"


async def _uv_install(device: DeviceKind, target: Path, packages: list[str], time_limit_s: float) -> SubprocessEnd:
    """Install wheels for another machine into `target`, without building anything and without dependencies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = target.with_name(f"{target.name}-requirements.txt")
    wanted.write_text(requirement_lines(packages), encoding="utf-8")
    platform = platform_of(device)
    assert platform is not None  # checked by refusal_of_device and _add_numpy
    digits = device.python_tag.removeprefix("cp")
    argv = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--no-config",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--target",
        str(target),
    ]
    argv += [
        "--python",
        sys.executable,
        "--python-platform",
        platform,
        "--python-version",
        f"{digits[:1]}.{digits[1:]}",
    ]
    # Copies, since hard links would change with uv's cache.
    argv += ["--link-mode", "copy", "--color", "never", "--no-progress", "-r", str(wanted)]
    return await run_subprocess(argv, time_limit_s=time_limit_s)


async def _resolve_wheels(choice: RuntimeChoice, device: DeviceKind, target: Path, time_limit_s: float) -> str:
    """Install paddlelite and numpy for the device; FindingError with what would fit when no wheel does."""
    source = wheels_for(choice, device)
    packages = [f"paddlelite=={choice.paddlelite}", *([choice.numpy] if choice.numpy and source == device else [])]
    ended = await _uv_install(source, target, packages, time_limit_s)
    if ended.ok and source == device:
        return _numpy_words(target)
    if ended.ok:
        return await _add_numpy(choice, device, target.with_name("numpy"), target, time_limit_s)
    found = sentence_of_resolver(choice, device, ended.output)
    if found is not None:
        raise FindingError([found])
    raise ToolchainError(
        f"The runtime's wheels could not be fetched ({ended.ending}): {ended.last_lines(4) or 'no output'}. "
        "Check the package index and the network, then run again."
    )


async def _add_numpy(choice: RuntimeChoice, device: DeviceKind, target: Path, folder: Path, time_limit_s: float) -> str:
    """Resolve numpy for a wheel that brings none; return its description, such as "numpy 1.26.4"."""
    if (folder / "numpy" / "__init__.py").exists():
        return _numpy_words(folder)
    if choice.kind == "folder" or not _brings_numpy(choice, device):
        return "without numpy"
    if platform_of(device) is None:
        return f"without numpy (no wheels are published for {device.arch} with {device.libc_kind})"
    ended = await _uv_install(device, target, [choice.numpy], time_limit_s)
    if ended.ok:
        return _numpy_words(target)
    shutil.rmtree(target, ignore_errors=True)
    if sentence_of_resolver(choice, device, ended.output) is not None:
        return f"without numpy (no wheel of {choice.numpy} fits)"
    raise ToolchainError(
        f"numpy could not be fetched ({ended.ending}): {ended.last_lines(4)}. Check the network, then run again."
    )


def _numpy_words(folder: Path) -> str:
    """Return 'numpy 1.26.4' from the dist-info beside it."""
    versions = sorted(p.name.removesuffix(".dist-info").split("-")[1] for p in folder.glob("numpy-*.dist-info"))
    return f"numpy {versions[-1]}" if versions else "with a numpy of unknown version"


async def _take(choice: RuntimeChoice, device: DeviceKind, work: Path) -> tuple[Path, str]:
    """Return (the folder that holds the user's runtime, its description).  Raises: FindingError when it cannot fit."""
    if choice.kind == "folder":
        if not choice.path.is_dir():
            raise FindingError.of("LF302", f"The runtime folder {choice.path} is missing.")
        return choice.path, f"the folder {choice.path.name}"
    refused = refusal_of_wheel(choice.path, device)
    if refused is not None:
        raise FindingError([refused])
    await asyncio.to_thread(unpack_wheel, choice.path, work / "tree")
    return work / "tree", f"the wheel {choice.path.name}"


def runtime_to_dict(runtime: RuntimeFacts) -> dict[str, Any]:
    """Return the JSON form: sets as sorted lists."""
    data: dict[str, Any] = _simple(asdict(runtime))
    return data


def _simple(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _simple(item) for name, item in value.items()}
    return sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


def runtime_from_dict(data: Any) -> RuntimeFacts:
    """Read the JSON form back.  Raises: TypeError or KeyError for one that is not well formed."""
    flavour = _typed(Flavour(), dict(data["flavour"]))
    return RuntimeFacts(**{**_typed(RuntimeFacts("bundle"), dict(data)), "flavour": Flavour(**flavour)})


def _typed(empty: RuntimeFacts | Flavour, data: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the types of their fields: lists become the sets or tuples that they were."""
    kinds = {field.name: type(getattr(empty, field.name)) for field in fields(empty)}
    return {name: kinds[name](value) if kinds[name] in (tuple, frozenset) else value for name, value in data.items()}
