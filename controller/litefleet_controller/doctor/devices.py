"""`litefleet doctor --limit ...`: probes devices and judges what will work on them, changing nothing there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from litefleet_agent.facts import Facts, FactsError
from litefleet_agent.findings import Finding, Verdict
from litefleet_inventory import Device

from ..common.checked import findings_or_empty, mapping_or_empty
from ..common.text import sanitize
from ..devices.agent_client import Request, RequestRejected
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.progress import Progress
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..project import Options
from ..project.project import Project, open_project
from ..project.run_fleet import Stopwatch, fan_out
from .device_checks import device_facts, judge_device
from .diagnosis import Diagnosis, Fact, Kind

_MOST = 50  # findings that are read of what one device runs


@dataclass(frozen=True)
class Probed:
    """One probed device; `facts` is None when it reported none."""

    device: str
    facts: Facts | None
    outcome: DeviceOutcome
    current: Mapping[str, str]  # model -> release that it runs


async def diagnose_devices(
    options: Options, progress_for: Callable[[int], Progress]
) -> tuple[list[Probed], list[Diagnosis]]:
    """Probe the selected devices; return each one's facts and diagnosis, in the inventory's order.

    No report is saved, and an agent that was not installed before is removed afterwards.
    Raises: ConfigError and UsageError before any is asked; Interrupted after Ctrl-C.
    """
    project = open_project(options)
    watch = Stopwatch()
    current: dict[str, Mapping[str, str]] = {}
    with progress_for(len(project.devices)) as progress:
        session_factory = project.session_factory(progress, keep_agent=False)

        async def work(device: Device) -> list[DeviceOutcome]:
            return await _ask(session_factory, device, current)

        outcomes, interrupted = await fan_out(project, project.devices, work, progress)
    if interrupted:
        raise Interrupted(RunReport("doctor", watch.stamp, watch.seconds, outcomes))
    probed = [Probed(o.device, _facts(o), o, current.get(o.device, {})) for o in outcomes]
    by_name = {device.name: device for device in project.devices}
    return probed, [_diagnose(project, by_name[one.device], one) for one in probed]


async def _ask(
    session_factory: SessionFactory, device: Device, current: dict[str, Mapping[str, str]]
) -> list[DeviceOutcome]:
    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        reported = mapping_or_empty(session.hello.get("current"))
        runs = {str(k): str(v) for k, v in list(reported.items())[:_MOST]}
        current[device.name] = runs
        drifted = await _drift(session) if runs else []
        done.append(session.outcome("", [*session.notes, *drifted]))

    return await open_session(session_factory, device, [""], work)


async def _drift(session: DeviceSession) -> list[Finding]:
    """Return the device's findings on the releases that it runs, checked by presence and size of their files."""
    try:
        (answer,) = await session.ask(Request("check", {"deep": False, "repair": False}))
    except RequestRejected as error:
        return [error.found]
    models = map(mapping_or_empty, mapping_or_empty(answer.get("models")).values())
    return [found for model in models for found in findings_or_empty(model.get("findings"), _MOST)][:_MOST]


def _facts(outcome: DeviceOutcome) -> Facts | None:
    """Return the agent's facts; None when the agent did not run."""
    if not outcome.facts or "python" not in outcome.facts:
        return None
    try:
        return Facts.from_dict(dict(outcome.facts))
    except FactsError:
        return None


def _diagnose(project: Project, device: Device, probed: Probed) -> Diagnosis:
    reported = tuple(replace(f, observed=sanitize(f.observed, 1000)) for f in probed.outcome.findings)
    where = Fact("address", sanitize(f"{device.host}:{device.port}"))
    if probed.facts is None:
        shell = probed.outcome.facts.get("machine")
        more = (Fact("machine", sanitize(str(shell))),) if shell else ()
        return Diagnosis(Kind.DEVICE, device.name, (where, *more), findings=reported, data=_data(probed))
    works, findings = judge_device(project.config, device, probed.facts)
    answers = ("It answers, and runs the agent.",) if probed.outcome.verdict is Verdict.VERIFIED else ()
    facts = (where, *device_facts(probed.facts), *_running(probed.current))
    return Diagnosis(Kind.DEVICE, device.name, facts, (*answers, *works), (*reported, *findings), data=_data(probed))


def _running(current: Mapping[str, str]) -> Iterable[Fact]:
    return [Fact("runs", sanitize(", ".join(f"{model} {release[:12]}" for model, release in current.items())))] * bool(
        current
    )


def _data(probed: Probed) -> dict[str, object]:
    return {"facts": dict(probed.outcome.facts), "current": dict(probed.current)}
