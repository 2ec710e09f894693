"""`litefleet rollout`: plan, write the plan down, and carry it out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from litefleet_agent.findings import decide

from ..common.errors import LitefleetError
from ..devices.deliver import fingerprint_of, measurements_of, revert_findings
from ..devices.fan_out import interrupted_outcome
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.visit import DeviceSession
from ..project import Options
from ..project.run_fleet import save_report
from ..rollout import DeviceEvent, DeviceRow, DeviceState, Policy, Rollout, RolloutEvent, RolloutState
from ..rollout.board import retry_at
from ..rollout.states import move_device, move_rollout
from ..rollout_engine import WaitPolicy
from ..rollout_engine.fleet_survey import FleetSurvey
from ..rollout_engine.store import endings
from ..state.model import Confirmed, RowChange
from .context import ProgressFor, RolloutContext, actor, open_context
from .device_history import collect
from .plan import Planned, plan_devices
from .run import Stopwatch, interruptible, make_due, report_of, run_to_report

__all__ = ["StillOpen", "create", "start_rollout", "start_with_context"]


class StillOpen(LitefleetError):
    """A rollout of this fleet waits for somebody's decision (exit code 3)."""

    exit_code = 3


async def start_rollout(
    options: Options, progress_for: ProgressFor, wait_policy: WaitPolicy = WaitPolicy.WAVES, supersede: bool = False
) -> RunReport:
    """Plan and carry out; an open rollout with the very same plan is gone on with instead.

    Raises: StillOpen while another one is paused or waits; Held, ConfigError, UsageError; Interrupted after Ctrl-C.
    """
    watch = Stopwatch()
    with interruptible("rollout", watch), progress_for(0) as progress:
        async with open_context(options, progress) as context:
            return await start_with_context(context, wait_policy, supersede, watch)


async def start_with_context(
    context: RolloutContext, wait_policy: WaitPolicy, supersede: bool, watch: Stopwatch
) -> RunReport:
    """Do what `start_rollout` does, at a desk that is open."""
    open_rollout = await _open_rollout(context, supersede)
    known = await context.read(context.state.known)
    context.last_seen = {name: entry.seen_at for name, entry in known.items()}
    try:
        planned = await plan_devices(
            context.project,
            context.session_factory,
            context.release_builder,
            known,
            context.progress,
            context.clock.now(),
            partial(_on_device, context),
        )
    except asyncio.CancelledError:
        nothing = tuple(interrupted_outcome(device.name) for device in context.project.devices)
        raise Interrupted(RunReport("rollout", watch.stamp, watch.seconds, nothing)) from None
    await context.write(context.state.record_facts, planned.survey.known)
    before = _outcomes_of(planned)
    if open_rollout is not None and not supersede and await _same_plan(context, open_rollout, planned.plan.rows):
        context.progress.message(f"going on with {open_rollout.id}")
        answered = {name for name, probe in planned.survey.probes.items() if probe.reached}
        await make_due(context, open_rollout, answered)
        return await run_to_report(
            context, await context.mark_running(open_rollout), wait_policy, "rollout", watch, before
        )
    if open_rollout is not None:
        await _supersede(context, open_rollout)
    if not await _anything_to_write(context, planned.plan.rows):
        report = report_of("rollout", watch, None, planned.plan.rows, before)
        save_report(context.config, report)
        return report
    context.runtime_findings.update(planned.survey.runtime_findings)
    rollout = await create(context, planned)
    context.progress.message(f"rollout {rollout.id}: wave 1 of {len(rollout.waves)}")
    return await run_to_report(context, rollout, wait_policy, "rollout", watch, before)


async def _on_device(context: RolloutContext, session: DeviceSession) -> None:
    """Hear what a device did while nobody watched."""
    session.notes += revert_findings(session.hello, context.last_seen.get(session.device.name, 0.0))
    await collect(context, session)


async def create(context: RolloutContext, planned: Planned) -> Rollout:
    """Write a plan down as a rollout that runs: with its releases sealed, and what needs nothing already settled."""
    plan, now = planned.plan, context.clock.now()
    numbers = {m: await context.write(context.state.next_number, context.config.fleet, m) for m in plan.models}
    releases = await context.signed(planned.survey.releases, numbers)
    rows = [replace(r, state=DeviceState.PENDING) if r.state is DeviceState.UNCHANGED else r for r in plan.rows]
    rows = [_queued(r, plan.policy, now) if r.state is DeviceState.OFFLINE else r for r in rows]
    rollout = Rollout(
        id="",
        fleet=context.config.fleet,
        kind="rollout",
        state=RolloutState.PLANNED,
        policy=plan.policy,
        waves=plan.waves,
        created_at=now,
        by=actor(),
        models=plan.models,
        number=max(numbers.values(), default=0),
        limit=context.project.options.limit,
        origin={**context.origin(), "recipes": {r.model: r.recipe for r in releases}},
        updated_at=now,
    )
    about = {"models": list(plan.models), "devices": len({r.device for r in rows}), **rollout.origin}
    made = await context.write(context.state.create, context.lock, rollout, rows, releases, about)
    running = await context.mark_running(made)
    await _settle_unchanged(context, running, planned)
    return running


def _queued(row: DeviceRow, policy: Policy, now: float) -> DeviceRow:
    """Return the row of a device that did not answer when it was looked at: that was its first try."""
    row = replace(row, attempts=1, offline_since=now)
    return replace(row, next_try_at=retry_at(row, policy, now))


async def _settle_unchanged(context: RolloutContext, rollout: Rollout, planned: Planned) -> None:
    outcomes = _outcomes_of(planned)
    begin, same = [], []
    for row in planned.plan.rows:
        if row.state is DeviceState.UNCHANGED:
            pending = replace(row, state=DeviceState.PENDING)
            staging = replace(row, state=move_device(DeviceState.PENDING, DeviceEvent.BEGIN), attempts=1)
            begin.append(RowChange(pending, DeviceEvent.BEGIN, staging))
            outcome = outcomes[(row.device, row.model)]
            after = replace(row, attempts=1, verdict=outcome.verdict)
            confirmed = _confirmed(row, rollout, planned.survey, outcome, context.clock.now())
            same.append(RowChange(staging, DeviceEvent.SAME, after, outcome, confirmed))
    if begin:
        await context.write(context.state.move, context.lock, rollout.id, begin)
        await context.write(context.state.move, context.lock, rollout.id, same)


def _confirmed(row: DeviceRow, rollout: Rollout, survey: FleetSurvey, outcome: DeviceOutcome, now: float) -> Confirmed:
    fingerprint = fingerprint_of(survey.probes[row.device].hello)
    measured = outcome.measurements
    return Confirmed(
        row.device, row.model, row.release, row.artifact, row.runtime, fingerprint, rollout.id, now, measured
    )


def _outcomes_of(planned: Planned) -> dict[tuple[str, str], DeviceOutcome]:
    """Return what the look alone settles: unchanged, impossible and unreachable devices."""
    outcomes = {}
    for draft in planned.plan.devices:
        row, probe = draft.row, planned.survey.probes[draft.row.device]
        if row.state is DeviceState.PENDING or probe.outcome is None:
            continue
        outcome = replace(
            probe.outcome,
            model=row.model,
            release=row.release,
            artifact=row.artifact,
            findings=draft.findings,
            verdict=decide(draft.findings),
        )
        if row.state is DeviceState.UNCHANGED:
            measured = measurements_of(probe.hello, row.release)
            outcome = replace(outcome, unchanged=True, activated=True, measurements=measured)
        outcomes[(row.device, row.model)] = outcome
    return outcomes


async def _open_rollout(context: RolloutContext, supersede: bool) -> Rollout | None:
    """Return the fleet's rollout that is not over; StillOpen when a person has to say what becomes of it."""
    latest = [r for r in await context.read(context.state.rollouts, context.config.fleet, 20) if not r.state.over]
    if not latest:
        return None
    found = latest[0]
    if found.state in (RolloutState.PAUSED, RolloutState.WAITING) and not supersede:
        next_command = "approve" if found.state is RolloutState.WAITING else "resume"
        raise StillOpen(
            f"{found.id} is {found.state}: {found.reason}  `litefleet {next_command} {found.id}` goes on with it, "
            f"`litefleet abort {found.id}` ends it, `litefleet rollout --supersede` replaces it by a new one"
        )
    return found


async def _same_plan(context: RolloutContext, open_rollout: Rollout, rows: Sequence[DeviceRow]) -> bool:
    """Say whether all that the new plan would do is what the open rollout has yet to do."""
    stored = {(r.device, r.model): r for r in await context.read(context.state.rows, open_rollout.id)}
    for row in rows:
        if row.state not in (DeviceState.PENDING, DeviceState.OFFLINE):
            continue
        there = stored.get((row.device, row.model))
        if there is None or there.state.settled or (row.release and there.release and row.release != there.release):
            return False
    return True


async def _supersede(context: RolloutContext, rollout: Rollout) -> None:
    event = RolloutEvent.ABORT if rollout.state is RolloutState.PLANNED else RolloutEvent.SUPERSEDE
    released, left = endings(await context.read(context.state.rows, rollout.id))
    after = replace(
        rollout,
        state=move_rollout(rollout.state, event),
        reason="a newer rollout took over",
        updated_at=context.clock.now(),
    )
    await context.write(context.state.move, context.lock, rollout.id, released)
    await context.write(context.state.advance, context.lock, rollout, event, after, left)


async def _anything_to_write(context: RolloutContext, rows: Sequence[DeviceRow]) -> bool:
    """Say whether there is work, or something that the state does not know yet."""
    if any(r.state in (DeviceState.PENDING, DeviceState.OFFLINE) for r in rows):
        return True
    confirmed = await context.read(context.state.confirmed)
    unchanged = [r for r in rows if r.state is DeviceState.UNCHANGED]
    return any((c := confirmed.get((r.device, r.model))) is None or c.release != r.release for r in unchanged)
