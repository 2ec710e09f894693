"""`litefleet doctor --limit ...`: probes devices and judges what will work on them, changing nothing there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from litefleet_agent.facts import Facts, FactsError
from litefleet_agent.findings import Finding, Verdict
from litefleet_inventory import Device

from ..common.checked import findings_or_empty, mapping_or_empty
from ..common.errors import LitefleetError
from ..common.text import sanitize
from ..devices.agent_client import Request, RequestRejected
from ..devices.deliver import is_special, kind_of, space_beforehand
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.progress import Progress, QuietProgress
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..project.run_fleet import Stopwatch, fan_out
from ..state import State
from ..state.schema import sqlite_path
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
    space: tuple[Finding, ...] | None = None  # against its free space, as `plan` says; None: its releases are not known


async def diagnose_devices(
    options: Options, progress_for: Callable[[int], Progress]
) -> tuple[list[Probed], list[Diagnosis]]:
    """Probe the selected devices; return each one's facts and diagnosis, in the inventory's order.

    No report is saved, and an agent that was not installed before is removed afterwards.
    Raises: ConfigError and UsageError before any is asked; Interrupted after Ctrl-C.
    """
    project = open_project(options)
    watch = Stopwatch()
    hellos: dict[str, Mapping[str, object]] = {}
    with progress_for(len(project.devices)) as progress:
        session_factory = project.session_factory(progress, keep_agent=False)

        async def work(device: Device) -> list[DeviceOutcome]:
            return await _ask(session_factory, device, hellos)

        outcomes, interrupted = await fan_out(project, project.devices, work, progress)
    if interrupted:
        raise Interrupted(RunReport("doctor", watch.stamp, watch.seconds, outcomes))
    by_name = {device.name: device for device in project.devices}
    probed = [Probed(o.device, _facts(o), o, _current(hellos.get(o.device, {}))) for o in outcomes]
    probed = await _judge_space(project, probed, hellos)
    return probed, [_diagnose(project, by_name[one.device], one) for one in probed]


async def _judge_space(
    project: Project, probed: Sequence[Probed], hellos: Mapping[str, Mapping[str, object]]
) -> list[Probed]:
    """Return the devices with what `plan` says of their free space, where the state has the releases they would get."""
    path = sqlite_path(project.config.state or project.config.store / "state.db")
    if path is not None and not path.is_file():
        return list(probed)  # nothing was planned yet, and doctor makes no state
    try:
        recipes = await _recipes(project)
        by_name = {device.name: device for device in project.devices}
        with closing(open_state(project.config)) as state:
            return [
                replace(one, space=_space(project, state, recipes, by_name[one.device], one.facts, hellos[one.device]))
                if one.facts is not None and one.device in hellos
                else one
                for one in probed
            ]
    except LitefleetError:  # commands that need the state say what is wrong with it
        return list(probed)


async def _recipes(project: Project) -> dict[str, str]:
    """Return by model what decides its releases; none for a model that cannot be read: `check` and `plan` report it."""
    recipes = {}
    builder = project.release_builder(QuietProgress())
    try:
        for model in project.models:
            with suppress(LitefleetError, OSError):
                recipes[model] = await builder.recipe(model)
    finally:
        await builder.close()
    return recipes


def _space(
    project: Project,
    state: State,
    recipes: Mapping[str, str],
    device: Device,
    facts: Facts,
    hello: Mapping[str, object],
) -> tuple[Finding, ...] | None:
    """Return what speaks against a device's free space by its stored releases; None where one is not known and none does."""
    if is_special(device):
        return None
    models = project.models_of(device)
    stored = [state.latest_release(m, recipes[m], kind_of(facts)) for m in models if m in recipes]
    known = [release for release in stored if release is not None and all(p.is_file() for p in release.files.values())]
    short = [space_beforehand(facts, hello, release) for release in known]
    found = tuple(finding for finding in short if finding is not None)
    return found if found or len(known) == len(models) else None


async def _ask(
    session_factory: SessionFactory, device: Device, hellos: dict[str, Mapping[str, object]]
) -> list[DeviceOutcome]:
    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        hellos[device.name] = session.hello
        drifted = await _drift(session) if _current(session.hello) else []
        done.append(session.outcome("", [*session.notes, *drifted]))

    return await open_session(session_factory, device, [""], work)


def _current(hello: Mapping[str, object]) -> dict[str, str]:
    """Return the releases that a device reports to run, by model."""
    return {str(k): str(v) for k, v in list(mapping_or_empty(hello.get("current")).items())[:_MOST]}


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
    works, findings = judge_device(project.config, device, probed.facts, probed.space)
    answers = ("It answers, and runs the agent.",) if probed.outcome.verdict is Verdict.VERIFIED else ()
    facts = (where, *device_facts(probed.facts), *_running(probed.current))
    return Diagnosis(Kind.DEVICE, device.name, facts, (*answers, *works), (*reported, *findings), data=_data(probed))


def _running(current: Mapping[str, str]) -> Iterable[Fact]:
    return [Fact("runs", sanitize(", ".join(f"{model} {release[:12]}" for model, release in current.items())))] * bool(
        current
    )


def _data(probed: Probed) -> dict[str, object]:
    return {"facts": dict(probed.outcome.facts), "current": dict(probed.current)}
