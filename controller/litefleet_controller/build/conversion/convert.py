"""Converts a checked source model: runs opt in a subprocess, normalises the header, checks the file, stores it."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from litefleet_agent.facts.arch import Arch
from litefleet_agent.findings import Finding, Severity, finding
from litefleet_agent.findings.model_file import accelerators, check_alone, check_file
from litefleet_agent.formats.checked import shortened
from litefleet_agent.formats.files import open_regular
from litefleet_agent.formats.nb import NbError, NbModel, read_nb
from litefleet_agent.formats.nb.header import VERSION_END, normalised_version
from litefleet_agent.sandbox import Policy
from litefleet_agent.sandbox.launch import command

from ...common.errors import FindingError, FolderError, LitefleetError
from ...common.subprocesses import SubprocessEnd, run_subprocess
from ..artifacts import ArtifactStore
from ..toolchain import Toolchain
from .aborts import check_aborts
from .params import PIECE
from .preflight import Source, check_age
from .static import check_source_for
from .variant import Variant, target_arch

_UNSUPPORTED = re.compile(
    r"ops? (?:are|is) not supported|is not supported in the supported_ops|no kernel", re.IGNORECASE
)
_TELLING = re.compile(
    r"\[F |check failed|error|wrong target|not supported|unsupported|terminate|exception", re.IGNORECASE
)
_LOG_HEAD = re.compile(r"^\[[FEW] [^\]]*\]\s*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_QUANT_FLAGS = {"int8": "QUANT_INT8", "int16": "QUANT_INT16"}
# Bytes that opt may take in memory and write to one file, besides multiples of its model
_DATA, _FILE = (4 << 30, 1 << 30)


class Converters(Protocol):
    """Source of Paddle-Lite converters by version; `Toolchains` implements it."""

    async def lite(self, version: str) -> Toolchain:
        """Return the ready converter.  Raises: LitefleetError when it is unavailable."""
        ...


@dataclass(frozen=True)
class Artifact:
    """A .nb in the store that passed the static checks; `variant` is None for a ready-made file."""

    sha256: str
    path: Path
    variant: Variant | None
    nb: NbModel
    findings: tuple[Finding, ...] = ()  # warnings and notes; of a ready-made file, errors too
    cached: bool = False
    seconds: float = 0.0


def gate(path: Path, hashes: tuple[str, str], arches: Iterable[Arch]) -> tuple[NbModel | None, list[Finding]]:
    """Return (the model, findings) of a .nb, by itself and for each of `arches`; None for an unreadable file.

    The file is one of the store, which nobody shortens: it is mapped.  `hashes` are its SHA-256 and the normalised one.
    """
    try:
        model = _read_mapped(path, hashes)
    except NbError as error:
        return None, [finding(error.finding_code, str(error))]
    found = list(check_alone(model))
    for arch in arches:
        found += check_file(model, arch)
    return model, list(dict.fromkeys(found))


def _read_mapped(path: Path, hashes: tuple[str, str]) -> NbModel:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        # It ends with its last view.  Parameters are walked over: their pages are never read.
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
        return read_nb(memoryview(data), hashes)


def _errors(findings: Iterable[Finding]) -> list[Finding]:
    return [found for found in findings if found.severity is Severity.ERROR]


def _lines(output: str) -> list[str]:
    """Return at most three lines that name a cause; the last ones of the output where no line does."""
    lines = [_COLOUR.sub("", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if _TELLING.search(line)]
    return [shortened(_LOG_HEAD.sub("", line), 400) for line in (telling or lines)[-3:]]


def explain_end(end: SubprocessEnd, variant: Variant, time_limit_s: float) -> Finding:
    """Return LF205 for a converter that wrote no file, LF206 when it names operators without a kernel."""
    converter = f"Paddle-Lite {variant.opt_version}'s converter, target {variant.label},"
    if end.timed_out:
        return finding("LF205", f"{converter} did not finish within {time_limit_s:g} s and was stopped.")
    lines = _lines(end.output)
    output = f" Its output: {' | '.join(lines)}".rstrip(".: ") + "." if lines else " It printed nothing."
    code = "LF206" if _UNSUPPORTED.search(end.output) else "LF205"
    if end.signal_name == "SIGABRT":
        return finding(code, f"{converter} stopped itself at a failed check.{output}")
    if end.signal_name:
        return finding(code, f"{converter} was killed by {end.signal_name}.{output}")
    if end.code:
        return finding(code, f"{converter} ended with exit code {end.code}.{output}")
    return finding(code, f"{converter} reported success and wrote no file.{output}")


def _opt_argv(source: Source, toolchain: Toolchain, variant: Variant, folder: Path) -> list[str]:
    """Return the command that runs opt confined: it parses a file that others made, and writes into `folder` only."""
    arguments = [
        f"--model_file={folder / 'source.pdmodel'}",
        f"--param_file={folder / 'source.pdiparams'}",
        f"--valid_targets={variant.target}",
        "--optimize_out_type=naive_buffer",
        f"--optimize_out={folder / 'converted'}",
    ]
    if variant.fp16:
        arguments.append("--enable_fp16=true")
    if variant.quant:
        arguments += ["--quant_model=true", f"--quant_type={_QUANT_FLAGS[variant.quant]}"]
    size = source.facts.size
    policy = Policy(work=str(folder), data_bytes=_DATA + 8 * size, file_bytes=_FILE + 4 * size)
    return command(str(toolchain.python), policy, str(toolchain.opt), arguments)


async def _run_opt(
    source: Source, variant: Variant, toolchain: Toolchain, store: ArtifactStore, time_limit_s: float
) -> tuple[str, NbModel, list[Finding]]:
    """Convert in a temporary folder, check the normalised .nb and store it; return its SHA-256, content and findings.

    Raises: FindingError with LF205, LF206 or the checks' findings; FolderError where the temporary folder cannot be used.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="litefleet-opt-") as name:
            written = await _run_opt_in(Path(name), source, variant, toolchain, time_limit_s)
            return await asyncio.to_thread(_stored, written, variant, store)
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        raise FolderError(f"{where} cannot be used: {error.strerror}. Free space there, or set TMPDIR.") from error


async def _run_opt_in(
    folder: Path, source: Source, variant: Variant, toolchain: Toolchain, time_limit_s: float
) -> Path:
    (folder / "source.pdmodel").write_bytes(source.program)
    await asyncio.to_thread(_write, folder / "source.pdiparams", source.pieces())
    env = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
    argv = _opt_argv(source, toolchain, variant, folder)
    end = await run_subprocess(argv, time_limit_s=time_limit_s, env=env, cwd=folder)
    path = folder / "converted.nb"
    try:
        with open_regular(path, follow=False) as stream:
            written = not (end.timed_out or end.code) and stream.read(1) != b""
    except OSError:
        written = False
    if not written:
        raise FindingError([explain_end(end, variant, time_limit_s)])
    return path


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def _stored(written: Path, variant: Variant, store: ArtifactStore) -> tuple[str, NbModel, list[Finding]]:
    """Copy a converted file into the store, normalised, and keep it there when it fits the variant's target."""
    with store.received(_normalised(written)) as received:
        model, found = _gated(received.path, received.sha256, variant)
        store.keep(received)
        return received.sha256, model, found


def _normalised(path: Path) -> Iterator[bytes]:
    """Yield a file with its header's unused bytes zeroed, so that equal conversions give equal bytes."""
    with open_regular(path, follow=False) as stream:
        yield normalised_version(stream.read(VERSION_END))
        while piece := stream.read(PIECE):
            yield piece


def _gated(path: Path, sha256: str, variant: Variant) -> tuple[NbModel, list[Finding]]:
    """Check a converted file for its variant's target.  Raises: FindingError when the file does not fit it."""
    arch = target_arch(variant.target)
    model, found = gate(path, (sha256, sha256), [arch] if arch else [])  # it was normalised before
    errors = _errors(found)
    if model is None or errors:
        raise FindingError(errors)
    asked = {name for name in variant.target.split(",") if name not in ("x86", "arm")}
    if asked and not accelerators(model):
        observed = f"The file converted for {variant.target} has no accelerator's kernel: {model.kernels_by_target()}."
        raise FindingError.of("LF206", observed)
    return model, found


def _from_store(store: ArtifactStore, source: Source, variant: Variant, started: float) -> Artifact | None:
    sha256 = store.lookup(variant.key)
    if sha256 is None:
        return None
    model, found = _gated(store.path(sha256), sha256, variant)
    return Artifact(
        sha256, store.path(sha256), variant, model, _all(source, variant, found), True, time.monotonic() - started
    )


def _all(source: Source, variant: Variant, found: Sequence[Finding]) -> tuple[Finding, ...]:
    facts = source.facts
    aborts = check_aborts(facts.forms, variant.target)
    return (*facts.findings, *aborts, *check_age(facts, variant.opt_version), *found)


async def convert(
    source: Source,
    variant: Variant,
    converters: Converters,
    store: ArtifactStore,
    *,
    time_limit_s: float = 300.0,
) -> Artifact:
    """Return the variant's .nb, from the store when it was converted before and is intact.

    Raises: FindingError (LF205, LF206, or the static checks' findings); LitefleetError when no toolchain is available
    or the store cannot be written.
    """
    if variant.source_sha256 != source.sha256:
        raise ValueError("the variant is of another source")
    started = time.monotonic()
    cached = await asyncio.to_thread(_from_store, store, source, variant, started)
    if cached is not None:
        return cached
    toolchain = await converters.lite(variant.opt_version)
    sha256, model, found = await _run_opt(source, variant, toolchain, store, time_limit_s)
    store.record(variant.key, sha256, {**asdict(variant), "source": source.name})
    return Artifact(
        sha256,
        store.path(sha256),
        variant,
        model,
        _all(source, variant, found),
        seconds=time.monotonic() - started,
    )


def admit(path: Path, store: ArtifactStore) -> Artifact:
    """Store a ready-made .nb file and return it with the findings on the file alone, errors among them.

    Raises: FindingError for a file that cannot be read or described; StoreError.
    """
    with store.received(_pieces(path)) as received:
        model, found = gate(received.path, (received.sha256, _normalised_sha256(received.path)), [])
        if model is None:
            raise FindingError(found)
        store.keep(received)
    return Artifact(received.sha256, store.path(received.sha256), None, model, tuple(found))


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise FindingError.of("LF201", f"{path} cannot be read: {error.strerror}.") from error


def _normalised_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in _normalised(path):
        digest.update(piece)
    return digest.hexdigest()


_CANNOT = frozenset({"LF205", "LF206"})  # another version may succeed
_MOST_OBSERVED = 1000


async def convert_with_any(
    source: Source,
    variant: Variant,
    also: Sequence[str],
    converters: Converters,
    store: ArtifactStore,
    *,
    time_limit_s: float = 300.0,
    say: Callable[[Variant], None] = lambda variant: None,
) -> Artifact:
    """Convert with the variant's own version, then with those in `also`, in order, until a file passes the checks.

    A file of a later version carries LF211 with the failures before it.  `say` is called before each conversion.

    Raises: FindingError with every version's findings, and those known for the model's operators with the first
    version; LitefleetError as `convert` does for the first version.
    """
    failed: dict[str, tuple[Finding, ...]] = {}
    for version in dict.fromkeys([variant.opt_version, *also]):
        candidate = replace(variant, opt_version=version)
        if store.lookup(candidate.key) is None:
            say(candidate)
        try:
            made = await convert(source, candidate, converters, store, time_limit_s=time_limit_s)
        except FindingError as error:
            failed[version] = error.findings
            if not any(found.code in _CANNOT for found in error.findings):
                break  # another version would fail too
        except LitefleetError as error:
            if not failed:
                raise
            failed[version] = (finding("LF205", f"Paddle-Lite {version}'s converter is unavailable: {error}"),)
        else:
            return replace(made, findings=(*made.findings, _failures_finding(version, failed))) if failed else made
    known = check_source_for(source.facts, variant.target, variant.opt_version, variant.fp16)
    reported = [found for findings in failed.values() for found in findings]
    raise FindingError([*reported, *(found for found in known if found.code not in {f.code for f in reported})])


def _failures_finding(version: str, failed: dict[str, tuple[Finding, ...]]) -> Finding:
    failures = "; ".join(
        f"{name} reported {found.code}: {shortened(found.observed, _MOST_OBSERVED).rstrip('.')}"
        for name, findings in failed.items()
        for found in findings
    )
    return finding("LF211", f"Paddle-Lite {version} made this file, as others could not: {failures}.")
