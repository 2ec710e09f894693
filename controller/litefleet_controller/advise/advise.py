"""`litefleet advise`: the fewest files that the fleet needs, the file of each device, and the options."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings import Finding
from litefleet_inventory import Device

from ..build.conversion.convert import Artifact
from ..build.releases import ReleaseBuilder
from ..common.errors import LitefleetError, UsageError, findings_of
from ..config import Config
from ..config.choices import PUBLISHED_PYTHONS
from ..devices.outcome import DeviceOutcome, RunReport
from ..devices.progress import Progress
from ..evaluate.run import Evaluations
from ..project import Options
from ..project.project import Project, open_project
from ..project.run_fleet import read_report, run_fleet
from .kinds import DeviceReport, Kind, Origin, runtime_on
from .option_benchmarks import benchmark_options, sizes_of
from .options import Proof, options_for
from .release_sizes import KnownFleet, load_known
from .summary import Advice, KindAdvice, OptionBenchmark
from .variants import CandidateFile, Placement, needed_files, place

_LARGEST = 256 << 20  # bytes of a report: tens of thousands of devices


@dataclass(frozen=True)
class AdviceRequest:
    """The arguments of `litefleet advise`."""

    options: Options
    reports: tuple[Path, ...] = ()  # saved probe reports; none: the devices are probed now
    measure: bool = False  # convert and run every option on this machine


@dataclass
class _Files:
    """Builds the files that devices are placed with, and collects notes."""

    release_builder: ReleaseBuilder
    notes: list[str] = field(default_factory=list)

    async def candidate(self, model: str, device: Device, arch: str) -> tuple[CandidateFile | None, Sequence[Finding]]:
        """Return (the file for a device's architecture, findings); None with the findings when there is none."""
        if arch not in ARCHES:
            return None, ()
        try:
            made = await self.release_builder.artifact(model, ARCHES[arch], device.artifact)
        except LitefleetError as error:
            return None, findings_of(error)
        return CandidateFile(made.sha256, _label(made), made.nb), ()


def _label(made: Artifact) -> str:
    return made.variant.label if made.variant else "the ready-made file"


async def advise(request: AdviceRequest, progress_for: Callable[[int], Progress]) -> Advice:
    """Return the advice.  Devices are probed now unless reports are given; no release on them is changed.

    Raises: ConfigError and UsageError before anything is done; StateError; Interrupted after Ctrl-C.
    """
    project = open_project(request.options)
    known_fleet = load_known(project.config)
    device_report = await _device_reports(project, request, known_fleet, progress_for)
    with progress_for(0) as progress:
        release_builder = project.release_builder(progress)
        try:
            return await _advice(project, request, device_report, known_fleet, release_builder, progress)
        finally:
            await release_builder.close()


async def _advice(
    project: Project,
    request: AdviceRequest,
    device_report: Mapping[str, DeviceReport],
    known_fleet: KnownFleet,
    release_builder: ReleaseBuilder,
    progress: Progress,
) -> Advice:
    files, config = _Files(release_builder), project.config
    placements = []
    for device in project.devices:
        runtime = runtime_on(config, device, device_report[device.name].facts)
        for model in project.models_of(device):
            file, problems = await files.candidate(model, device, device_report[device.name].facts.arch)
            placements.append(place(model, device_report[device.name], runtime, file, problems))
    arm = any(p.kind.isa == "arm" for p in placements)
    sizes = await sizes_of(config, project.models, release_builder, files.notes.append) if arm else {}
    benchmarks: tuple[OptionBenchmark, ...] = ()
    if request.measure:
        evaluations = Evaluations(project, release_builder, progress, again=False)
        await evaluations.prepare()
        benchmarks = await benchmark_options(
            config, project.models, release_builder, progress.message, files.notes.append, evaluations=evaluations
        )
    return Advice(
        project.models,
        needed_files(placements),
        tuple(placements),
        _kinds(config, project.models, placements, sizes, known_fleet),
        benchmarks,
        tuple(dict.fromkeys([*known_fleet.notes, *files.notes])),
        time.time(),
    )


async def _device_reports(
    project: Project, request: AdviceRequest, known_fleet: KnownFleet, progress_for: Callable[[int], Progress]
) -> dict[str, DeviceReport]:
    """Return the facts of every selected device: from the newest report, else from the state database."""
    if request.reports:
        reports = sorted((_report(path) for path in request.reports), key=_moment)
        origin = Origin.REPORT
    else:
        reports, origin = [await run_fleet("probe", request.options, progress_for)], Origin.PROBE
    found = {device.name: known_fleet.device_report(device.name) for device in project.devices}
    for report in reports:
        for outcome in report.outcomes:
            if outcome.device in found:
                found[outcome.device] = _report_from_outcome(outcome, origin, _moment(report), found[outcome.device])
    return found


def _report_from_outcome(outcome: DeviceOutcome, origin: Origin, at: float, before: DeviceReport) -> DeviceReport:
    """Return a device's report from one outcome; without facts in it, the earlier facts with the outcome's findings."""
    try:
        facts = Facts.from_dict(dict(outcome.facts))
    except AgentError:
        facts = Facts()
    if not facts.machine or (origin is Origin.REPORT and before.seen_at > at and before.facts.arch):
        return DeviceReport(before.device, before.facts, before.origin, before.seen_at, outcome.findings)
    return DeviceReport(before.device, facts, origin, at, outcome.findings)


def _report(path: Path) -> RunReport:
    """Return a saved report.  Raises: UsageError when the file is not one, or is larger than 256 MiB."""
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise UsageError(f"{path} is larger than {_LARGEST >> 20} MiB: that is no probe report")
    return read_report(path)


def _moment(report: RunReport) -> float:
    try:
        return datetime.fromisoformat(report.started_at).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _kinds(
    config: Config,
    models: Sequence[str],
    placements: Sequence[Placement],
    sizes: Mapping[str, Mapping[str, int]],
    known_fleet: KnownFleet,
) -> tuple[KindAdvice, ...]:
    groups: dict[Kind, list[str]] = {}
    for one in placements:
        if one.kind.isa:
            groups.setdefault(one.kind, []).append(one.device)
    ordered = sorted(groups.items(), key=lambda item: (-len(set(item[1])), item[0]))
    return tuple(_kind(config, models, kind, names, sizes, known_fleet.proofs) for kind, names in ordered)


def _kind(
    config: Config,
    models: Sequence[str],
    kind: Kind,
    names: Sequence[str],
    sizes: Mapping[str, Mapping[str, int]],
    proofs: Sequence[Proof],
) -> KindAdvice:
    chosen = [config.models[model].options.for_arch(kind.arch) for model in models]
    in_use = {"fp16" for one in chosen if one.fp16} | {one.quant for one in chosen if one.quant != "none"}
    options = options_for(
        kind,
        sizes if kind.isa == "arm" else {},
        PUBLISHED_PYTHONS,
        tuple(PUBLISHED_PYTHONS),
        sorted(in_use),
        config.toolchain.paddlelite,
    )
    here = tuple(p for p in proofs if (p.arch, p.parts) == (kind.arch, kind.parts) and p.model in models)
    return KindAdvice(kind, tuple(dict.fromkeys(names)), options, here)
