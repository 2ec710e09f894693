"""`litefleet plan`: what a rollout would do to each device, from a probe of the live fleet; nothing on it changes.

With --offline, from what the state knows of the devices, without a probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from litefleet_inventory import SelectError
from litefleet_inventory.model import Device
from litefleet_inventory.select import select

from ..common.errors import UsageError
from ..config.bandwidth import SiteCacheConfig
from ..devices.identity import Identity
from ..devices.progress import Progress
from ..devices.site_cache import LEAST_SIZE
from ..devices.steps import ReleaseProvider
from ..devices.visit import DeviceSession, SessionFactory
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..project.run_fleet import ProgressFor
from ..rollout_engine import SystemClock
from ..rollout_engine.fleet_survey import FleetSurvey, OnDevice, survey_fleet
from ..rollout_engine.plan import Plan, make_plan, site_traffic
from ..rollout_engine.stored_fleet import StoredFleet, survey_stored
from ..state.model import KnownDevice
from .session_source import session_factory_for


@dataclass(frozen=True)
class Planned:
    """A plan, and the survey that it was made from."""

    plan: Plan
    survey: FleetSurvey


async def plan_rollout(options: Options, progress_for: ProgressFor) -> Plan:
    """Return the plan; an agent that was not on a device before is removed from it afterwards.

    Raises: ConfigError, UsageError, StateError; CancelledError after Ctrl-C.
    """
    project = open_project(options)
    with progress_for(len(project.devices)) as progress:
        release_builder = project.release_builder(progress)
        state = open_state(project.config)
        try:
            state.check_identity(project.config.fleet)
            known, identity = state.known(), state.identity(project.config.fleet)
            async with session_factory_for(project, progress, keep_agent=False) as session_factory:
                planned = await plan_devices(
                    project,
                    session_factory,
                    release_builder,
                    known,
                    progress,
                    SystemClock().now(),
                    lambda session: _note_conflict(identity, session),
                )
            # So that a bundle can be written for devices that were probed once
            state.record_facts(planned.survey.known)
            versions = state.versions_with(planned.survey.releases)
        finally:
            await release_builder.close()
            state.close()
    return planned.plan.with_versions(versions)


async def plan_offline(options: Options, progress_for: ProgressFor) -> Plan:
    """Return the plan by what the state knows of the devices; none is contacted, and the state stays as it is.

    Raises: ConfigError, UsageError, StateError.
    """
    project = open_project(options)
    with progress_for(0) as progress:
        release_builder = project.release_builder(progress)
        state = open_state(project.config)
        try:
            state.check_identity(project.config.fleet)
            survey = await survey_stored(StoredFleet.read(state), _wanted(project), release_builder)
            plan = _plan_of(project, survey, SystemClock().now())
            versions = state.versions_with(survey.releases)
        finally:
            await release_builder.close()
            state.close()
    return replace(plan.with_versions(versions), offline=True)


async def _note_conflict(identity: Identity, session: DeviceSession) -> None:
    session.notes += identity.conflict(session.hello)


async def plan_devices(
    project: Project,
    session_factory: SessionFactory,
    release_builder: ReleaseProvider,
    known: Mapping[str, KnownDevice],
    progress: Progress,
    now: float,
    on_device: OnDevice | None = None,
) -> Planned:
    """Probe the selected devices at `now` (epoch seconds) and return the plan."""
    wanted = _wanted(project)
    at_once, per_jump = session_factory.at_once or project.config.ssh.concurrency, project.config.rollout.per_jump_host
    fleet_survey = await survey_fleet(
        session_factory, wanted, release_builder, at_once, known, progress, now, on_device, per_jump
    )
    if fleet_survey.interrupted:
        raise asyncio.CancelledError
    return Planned(_plan_of(project, fleet_survey, now), fleet_survey)


def _wanted(project: Project) -> dict[Device, list[str]]:
    return {device: project.models_of(device) for device in project.devices}


def _plan_of(project: Project, survey: FleetSurvey, now: float) -> Plan:
    plan = make_plan(
        survey.drafts,
        project.config.rollout,
        lambda name: _named(project, name),
        fleet=project.config.fleet,
        created_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        models=project.models,
    )
    if project.config.site_cache == SiteCacheConfig() or project.options.cluster:  # workers share nothing
        return plan
    sites = {device.name: project.site_of(device) for device in project.devices}
    return replace(plan, sites=site_traffic(plan.devices, sites, LEAST_SIZE))


def _named(project: Project, name: str) -> frozenset[str]:
    """Return the devices of a selection that `waves:` names; a group that has no device yet is a wave without any."""
    if any(group.name == name and not group.devices for group in project.inventory.groups):
        return frozenset()
    try:
        return frozenset(device.name for device in select(project.inventory, name))
    except SelectError as error:
        raise UsageError(f"rollout.waves: {error}") from error
