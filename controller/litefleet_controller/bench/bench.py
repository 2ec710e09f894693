"""`litefleet bench`: measures the selected devices, a few at a time, and returns the report.

One device: connect, wait until no other bench runs on its machine, measure each model, check the figures.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from litefleet_agent.findings import Verdict, decide, finding
from litefleet_inventory import Device
from pydantic import ValidationError

from ..common.checked import findings_or_empty, mapping_or_empty
from ..common.errors import UsageError
from ..devices.agent_client import Request, RequestRejected
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.progress import Progress
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..project import Options
from ..project.project import open_project
from ..project.run_fleet import Stopwatch, fan_out, save_report
from .choice import BenchChoice
from .figures import BenchFigures

_MOST_FINDINGS = 100  # read of one device's answer


async def run_bench(
    options: Options, choice: BenchChoice, at_once: int, progress_for: Callable[[int], Progress]
) -> RunReport:
    """Measure at most `at_once` devices at a time, save the report and return it.  Nothing on the devices changes.

    Raises: ConfigError and UsageError before any device is contacted; Interrupted, with the report so far, after Ctrl-C.
    """
    project = open_project(options)
    if (choice.release or choice.against not in ("", "previous")) and len(project.models) > 1:
        raise UsageError("a release belongs to one model: name the model with --model")
    wanted = {device.name: project.models_of(device) for device in project.devices}
    devices = [device for device in project.devices if wanted[device.name]]
    if not devices:
        raise UsageError("the inventory gives none of these models to a selected device")
    watch, limits = Stopwatch(), ParallelLimits()
    with progress_for(len(devices)) as progress:
        session_factory = project.session_factory(progress)

        async def work(device: Device) -> list[DeviceOutcome]:
            return await bench_device(
                device, wanted[device.name], choice, session_factory, limits, bool(options.models)
            )

        outcomes, interrupted = await fan_out(project, devices, work, progress, at_once)
    report = save_report(project.config, RunReport("bench", watch.stamp, watch.seconds, outcomes))
    if interrupted:
        raise Interrupted(report)
    return report


@dataclass
class ParallelLimits:
    """Locks, one per machine: devices that share a machine (containers) are measured one after another."""

    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def of(self, session: DeviceSession) -> asyncio.Lock:
        """Return the lock of a device's machine, found by the kernel's boot id, which all containers on it share."""
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
    """Return one outcome per model that is current on the device; with `models_named` (--model), one per given model."""

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        current = mapping_or_empty(session.hello.get("current"))
        wanted = [model for model in models if model in current]
        session.step("wait for its turn")
        async with limits.of(session):
            session.step("measure")
            for model in models if models_named or not wanted else wanted:
                done.append(await _bench(session, model, choice, model in current))

    return await open_session(session_factory, device, models, work)


async def _bench(session: DeviceSession, model: str, choice: BenchChoice, is_current: bool) -> DeviceOutcome:
    if not is_current and not choice.release:
        runs = ", ".join(sorted(map(str, mapping_or_empty(session.hello.get("current"))))[:20]) or "nothing"
        observed = f"no release of {model} is current on this device, which runs {runs[:200]}: roll it out first"
        return session.outcome(model, [*session.notes, finding("LF619", observed)])
    try:
        (answer,) = await session.ask(Request("bench", choice.fields(model)), limit_s=choice.limit_s)
    except RequestRejected as error:
        return session.outcome(model, [*session.notes, error.found])
    return _outcome(session, model, answer)


def _outcome(session: DeviceSession, model: str, answer: Mapping[str, object]) -> DeviceOutcome:
    reported_findings = findings_or_empty(answer.get("findings"), _MOST_FINDINGS)
    try:
        figures = BenchFigures.model_validate(answer)
    except ValidationError as error:
        return session.outcome(model, [*session.notes, *reported_findings, finding("LF507", _form_error(error))])
    findings = [*session.notes, *reported_findings]
    if decide(findings) is Verdict.VERIFIED and not _complete(figures):
        findings.append(finding("LF900", "the agent completed no measurement and gave no reason"))
    release = figures.first.release if figures.first else ""
    return replace(session.outcome(model, findings, release), measurements=measurements_of(figures))


def _complete(figures: BenchFigures) -> bool:
    return bool(figures.releases) and all(reported.right and reported.warm for reported in figures.releases)


def _form_error(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"the answer to bench has a wrong form at {where[:120]}: {first['msg'][:200]}"


def measurements_of(figures: BenchFigures) -> dict[str, object]:
    """Return an outcome's `measurements`: latency, load time and peak memory of the first release, and the whole bench."""
    measured: dict[str, object] = {"bench": figures.to_dict()}
    first = figures.first
    if first is not None and first.warm is not None:
        ranks = ("min", "p50", "p90", "p99", "runs")
        measured["latency_ms"] = {name: getattr(first.warm, name) for name in ranks}
    if first is not None and first.cold.first is not None:
        measured["load_ms"] = first.cold.first.load_ms
    if first is not None and first.memory.peak is not None:
        measured["peak_rss_bytes"] = first.memory.peak
    return measured
