"""One device's bench: connect, wait until its machine is free, measure each model, check what it tells."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from litefleet_agent.findings import Finding, Verdict, decide, finding
from litefleet_inventory.model import Device
from pydantic import ValidationError

from ..devices.agent_client import Request, RequestRejected
from ..devices.deliver import mapping
from ..devices.outcome import DeviceOutcome
from ..devices.visit import DeviceSession, SessionFactory, open_session
from .choice import BenchChoice
from .figures import BenchFigures

__all__ = ["ParallelLimits", "bench_device"]

_MOST_FINDINGS = 100


@dataclass
class ParallelLimits:
    """Who measures on which machine: one at a time, as devices that share one would disturb each other."""

    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def of(self, session: DeviceSession) -> asyncio.Lock:
        """Return the turn of a device's machine: its kernel names its boot, in every container on it alike."""
        boot = str(session.hello.get("boot") or "")[:64]
        return self._locks[boot or f"device {session.device.name}"]


async def bench_device(
    device: Device,
    models: Sequence[str],
    choice: BenchChoice,
    session_factory: SessionFactory,
    limits: ParallelLimits,
    models_named: bool,
) -> list[DeviceOutcome]:
    """Return one outcome per model that is current on the device, or per model when they were `asked` for by name."""

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        current = mapping(session.hello.get("current"))
        wanted = [model for model in models if model in current]
        session.step("wait for its turn")
        async with limits.of(session):
            session.step("measure")
            for model in models if models_named or not wanted else wanted:
                done.append(await _bench(session, model, choice, model in current))

    return await open_session(session_factory, device, models, work)


async def _bench(session: DeviceSession, model: str, choice: BenchChoice, is_current: bool) -> DeviceOutcome:
    if not is_current and not choice.release:
        runs = ", ".join(sorted(map(str, mapping(session.hello.get("current"))))[:20]) or "nothing"
        observed = f"no release of {model} is current on this device, which runs {runs[:200]}: roll it out first"
        return session.outcome(model, [*session.notes, finding("LF619", observed)])
    try:
        (answer,) = await session.ask(Request("bench", choice.fields(model)), limit_s=choice.limit_s)
    except RequestRejected as error:
        return session.outcome(model, [*session.notes, error.found])
    return _outcome(session, model, answer)


def _outcome(session: DeviceSession, model: str, answer: Mapping[str, Any]) -> DeviceOutcome:
    reported = answer.get("findings")
    reported_findings = [
        Finding.from_dict(f) for f in (reported if isinstance(reported, list) else [])[:_MOST_FINDINGS]
    ]
    try:
        figures = BenchFigures.model_validate(answer)
    except ValidationError as error:
        return session.outcome(model, [*session.notes, *reported_findings, finding("LF507", _misfit(error))])
    findings = [*session.notes, *reported_findings]
    if decide(findings) is Verdict.VERIFIED and not _complete(figures):
        findings.append(finding("LF900", "the agent measured nothing to the end, and gave no reason"))
    release = figures.first.release if figures.first else ""
    return replace(session.outcome(model, findings, release), measurements=_measurements(figures))


def _complete(figures: BenchFigures) -> bool:
    return bool(figures.releases) and all(reported.right and reported.warm for reported in figures.releases)


def _misfit(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"the answer to bench does not have its form: {where[:120]}: {first['msg'][:200]}"


def _measurements(figures: BenchFigures) -> dict[str, Any]:
    """Return what every report shows of a device, and the whole bench beside it."""
    measured: dict[str, Any] = {"bench": figures.to_dict()}
    first = figures.first
    if first is not None and first.warm is not None:
        ranks = ("min", "p50", "p90", "p99", "runs")
        measured["latency_ms"] = {name: getattr(first.warm, name) for name in ranks}
    if first is not None and first.cold.first is not None:
        measured["load_ms"] = first.cold.first.load_ms
    if first is not None and first.memory.peak is not None:
        measured["peak_rss_bytes"] = first.memory.peak
    return measured
