"""The same model by several Paddle-Lite versions, each in its own runtime on this machine, against the same golden."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding, Severity, Verdict, decide, finding
from litefleet_agent.verification.verify import VerifyResult, VerifySpec, verify

from ...common.errors import FindingError, LitefleetError
from ..artifacts import ArtifactStore
from ..toolchain import Toolchain
from .convert import Artifact, Converters, convert
from .preflight import Source
from .variant import Variant, make_variant

__all__ = ["VersionVerdict", "compare_versions"]


@dataclass(frozen=True)
class VersionVerdict:
    """What became of one model with one Paddle-Lite version on this machine."""

    version: str
    verdict: Verdict  # REFUSED where it could not be converted, UNSUPPORTED where the version can't be had here
    findings: tuple[Finding, ...] = ()
    max_abs: float | None = None  # the largest absolute error of any output; None where nothing ran
    p50_ms: float | None = None  # on this machine: no device's figure
    nb_sha256: str = ""
    nb_path: Path | None = None


async def compare_versions(
    source: Source,
    target: str,
    versions: Sequence[str],
    golden_files: Sequence[Path],
    toolchains: Converters,
    store: ArtifactStore,
    *,
    fp16: bool = False,
    quant: str = "",
    runs: int = 3,
    time_limit_s: float = 120.0,
) -> list[VersionVerdict]:
    """Convert with each version, run each file in that version's own runtime, and judge it by the golden files.

    Only files for x86 run here: for another `target`, a version that converts is judged by an x86 file of its own with
    the same options.  One verdict for each version, in order; one that fails is a verdict too.

    Raises: UsageError or FindingError for a target or options that no version could take.
    """
    wanted = make_variant(source.sha256, target, fp16=fp16, quant=quant)
    # fp16 does not exist on x86, and weights quantised there answer NaN: what runs here is the plain file.
    runnable = wanted if wanted.target == "x86" else make_variant(source.sha256, "x86")
    found = []
    for version in dict.fromkeys(versions):  # one after the other: they are timed
        pair = replace(wanted, opt_version=version), replace(runnable, opt_version=version)
        found.append(await _one(source, *pair, golden_files, toolchains, store, runs, time_limit_s))
    return found


async def _one(
    source: Source,
    wanted: Variant,
    runnable: Variant,
    golden_files: Sequence[Path],
    toolchains: Converters,
    store: ArtifactStore,
    runs: int,
    time_limit_s: float,
) -> VersionVerdict:
    version = wanted.opt_version
    try:
        made = await convert(source, wanted, toolchains, store)
        here = made if runnable == wanted else await convert(source, runnable, toolchains, store)
        toolchain = await toolchains.lite(version)
        spec = VerifySpec(str(here.path), tuple(map(str, golden_files)), runs=runs, time_limit_s=time_limit_s)
        result = await asyncio.to_thread(_verify, spec, toolchain)
    except FindingError as error:
        return VersionVerdict(version, Verdict.REFUSED, error.findings)
    except LitefleetError as error:
        return VersionVerdict(version, Verdict.UNSUPPORTED, (finding("LF900", str(error)),))
    return _judged(version, made, result)


def _verify(spec: VerifySpec, toolchain: Toolchain) -> VerifyResult:
    """Run the file in the version's own environment.  Raises: LitefleetError when that can't be started."""
    try:
        with tempfile.TemporaryDirectory(prefix="litefleet-compare-") as work:
            return verify(spec, work, python=str(toolchain.python))
    except (AgentError, OSError) as error:
        raise LitefleetError(f"Paddle-Lite {toolchain.version} can't be run on this machine: {error}") from error


def _judged(version: str, made: Artifact, result: VerifyResult) -> VersionVerdict:
    findings = tuple(result.findings)
    notes = tuple(f for f in made.findings if f.severity is not Severity.ERROR and f not in findings)
    return VersionVerdict(
        version=version,
        verdict=decide(findings),
        findings=(*findings, *notes),
        max_abs=_largest(result.measurements.get("outputs", [])),
        p50_ms=result.measurements.get("latency_ms", {}).get("p50"),
        nb_sha256=made.sha256,
        nb_path=made.path,
    )


def _largest(figures: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the largest absolute error; None where an output could not be measured (NaN, another shape)."""
    if not figures or any(not f["ok"] and not f["max_abs"] for f in figures):
        return None
    return max(float(f["max_abs"]) for f in figures)
