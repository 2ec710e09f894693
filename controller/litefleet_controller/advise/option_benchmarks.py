"""Benchmarks options on this machine: converts each one, records its size, and verifies it against the golden."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding, Severity, Verdict, decide, finding
from litefleet_agent.verification.verify import VerifyResult, VerifySpec, verify

from ..build.artifacts import ArtifactStore
from ..build.conversion.convert import Artifact, convert
from ..build.conversion.preflight import Source
from ..build.conversion.variant import make_variant
from ..build.releases import ReleaseBuilder
from ..build.toolchain import Toolchains
from ..common.errors import LitefleetError, findings_of
from ..config import Config
from ..config.choices import PUBLISHED_PYTHONS
from ..evaluate.run import Evaluations
from .summary import OptionBenchmark

Say = Callable[[str], None]
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "fp16": {"fp16": True},
    "int8": {"quant": "int8"},
    "int16": {"quant": "int16"},
}
_TIME_LIMIT_S = 60.0


async def sizes_of(
    config: Config, models: Sequence[str], release_builder: ReleaseBuilder, note: Say
) -> dict[str, dict[str, int]]:
    """Return the bytes of each model's ARM file with each option; failed conversions are omitted and noted."""
    toolchains, store = Toolchains(), ArtifactStore(config.store / "artifacts")
    found: dict[str, dict[str, int]] = {}
    for model in models:
        source = await _source(release_builder, model, note)
        if source is None:
            continue
        for option in _OPTIONS:
            try:
                made = await _convert(source, "arm", option, config.toolchain.paddlelite, toolchains, store)
            except LitefleetError as error:
                note(f"{model} could not be converted for arm, {option}: {error}")
                continue
            found.setdefault(model, {})[option] = made.nb.size
    return found


async def benchmark_options(
    config: Config,
    models: Sequence[str],
    release_builder: ReleaseBuilder,
    say: Say,
    note: Say,
    versions: Sequence[str] = tuple(PUBLISHED_PYTHONS),
    evaluations: Evaluations | None = None,
) -> tuple[OptionBenchmark, ...]:
    """Run each of these Paddle-Lite versions with each option that x86 supports, one after the other.

    `evaluations` measures the accuracy of models with a data set.
    """
    toolchains, store = Toolchains(), ArtifactStore(config.store / "artifacts")
    done = []
    for model in models:
        source = await _source(release_builder, model, note)
        if source is None:
            continue
        try:
            goldens = await release_builder.goldens(model)
        except LitefleetError as error:
            note(f"{model} was not tried: {error}")
            continue
        for version, option in itertools.product(versions, ("plain", "int8", "int16")):
            say(f"trying {model} with Paddle-Lite {version}, {option}")
            tried = await _try(model, source, version, option, goldens, toolchains, store, release_builder)
            done.append(tried if evaluations is None else await _with_accuracy(tried, source, store, evaluations, note))
    return tuple(done)


async def _source(release_builder: ReleaseBuilder, model: str, note: Say) -> Source | None:
    """Return a model's source; None, with a note, when it has none or it is unreadable."""
    try:
        source = await release_builder.source(model)
    except LitefleetError as error:
        note(f"{model}: {error}")
        return None
    if source is None:
        note(f"{model} has ready-made files only: without its source no option can be converted")
    return source


async def _convert(
    source: Source, target: str, option: str, version: str, toolchains: Toolchains, store: ArtifactStore
) -> Artifact:
    variant = make_variant(source.sha256, target, opt_version=version, **_OPTIONS[option])
    return await convert(source, variant, toolchains, store)


async def _try(
    model: str,
    source: Source,
    version: str,
    option: str,
    goldens: Sequence[Path],
    toolchains: Toolchains,
    store: ArtifactStore,
    release_builder: ReleaseBuilder,
) -> OptionBenchmark:
    try:
        made = await _convert(source, "x86", option, version, toolchains, store)
        python = (await toolchains.lite(version)).python
        limits = await release_builder.limits(model, made)
    except LitefleetError as error:
        return _failed(model, version, option, findings_of(error))
    spec = VerifySpec(
        str(made.path),
        tuple(map(str, goldens)),
        time_limit_s=_TIME_LIMIT_S,
        tolerance=dict(limits.tolerance) if limits.tolerance is not None else None,
        outputs=limits.outputs(),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="litefleet-trial-") as work:
            result = await asyncio.to_thread(verify, spec, work, None, str(python))
    except (OSError, AgentError) as error:
        return _failed(
            model, version, option, [finding("LF900", f"The verification could not be run: {error}")], made.nb.size
        )
    return _judged(model, version, option, made, result)


async def _with_accuracy(
    tried: OptionBenchmark, source: Source, store: ArtifactStore, evaluations: Evaluations, note: Say
) -> OptionBenchmark:
    """Return a trial with its accuracy, and `wrong` where the data set says so; unchanged where nothing finite was computed."""
    if tried.max_abs is None:
        return tried
    try:
        made = await _convert(source, "x86", tried.option, tried.version, Toolchains(), store)
        accuracy = await evaluations.of_file(tried.model, made.path, tried.version)
    except LitefleetError as error:
        note(f"the accuracy of {tried.model} with {tried.version}, {tried.option}, was not measured: {error}")
        return tried
    if accuracy is None:
        return tried
    scored = replace(tried, accuracy=accuracy.value, reference=accuracy.reference)
    if accuracy.accepted or tried.verdict != Verdict.VERIFIED.value:
        return scored
    return replace(scored, verdict=Verdict.WRONG.value, code="LF430", sentence=accuracy.problem)


def _failed(model: str, version: str, option: str, found: Sequence[Finding], size: int = 0) -> OptionBenchmark:
    first = next((f for f in found if f.severity is Severity.ERROR), found[0])
    return OptionBenchmark(model, version, option, decide(found).value, first.observed, first.code, size=size)


def _judged(model: str, version: str, option: str, made: Artifact, result: VerifyResult) -> OptionBenchmark:
    verdict = decide(result.findings)
    first = next((f for f in result.findings if f.severity is Severity.ERROR), None)
    measured = result.measurements
    outputs = measured.outputs if measured is not None else []
    figures = [one.found.figures()["max_abs"] for one in outputs if one.found.elementwise is not None]
    off = None if any(one.found.problem == "non-finite" for one in outputs) else max(figures, default=None)
    return OptionBenchmark(
        model,
        version,
        option,
        verdict.value,
        first.observed if first and verdict is not Verdict.VERIFIED else "",
        first.code if first else "",
        off,
        made.nb.size,
        measured.load_ms if measured is not None else None,
        measured.latency_ms.p50 if measured is not None else None,
    )
