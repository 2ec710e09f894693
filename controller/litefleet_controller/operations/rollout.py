"""`litefleet rollout`: plan, write the plan down, and carry it out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from litefleet_agent.findings import decide

from ..devices.agent_client import Request
from ..devices.deliver import fingerprint_of, measurements_of, revert_findings
from ..devices.fan_out import interrupted_outcome
from ..devices.identity import Identity
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.steps import WaitPolicy
from ..devices.visit import DeviceSession
from ..project import Options
from ..rollout import DeviceEvent, DeviceRow, DeviceState, Policy, Rollout, RolloutEvent, RolloutState
from ..rollout.board import retry_at
from ..rollout.states import move_device, move_rollout
from ..rollout_engine.fleet_survey import FleetSurvey
from ..rollout_engine.store import endings
from ..state.model import Confirmed, RowChange
from .carry_out import run_to_report
from .conflicts import conflict_of, refuse
from .context import ProgressFor, RolloutContext, open_context, open_ones
from .device_history import collect
from .open_rollouts import StillOpen, Wanted, different_command, different_plan, given_up, still_open
from .plan import Planned, plan_devices
from .run import Stopwatch, interruptible, make_due, report_of

__all__ = ["StillOpen", "create", "start_rollout", "start_with_context"]


async def start_rollout(
    options: Options,
    progress_for: ProgressFor,
    wait_policy: WaitPolicy = WaitPolicy.WAVES,
    supersede: bool = False,
    take_over: bool = False,
) -> RunReport:
    """Plan and carry out, or continue an open rollout that has just this plan left to do.

    With `take_over`, devices that another state has switched last follow this one from now on.
    Raises: StillOpen while another rollout is open, unless `supersede`; StateOlder where another state leads devices, unless
    `take_over`; FleetLocked, ConfigError, UsageError; Interrupted.
    """
    watch = Stopwatch()
    with interruptible("rollout", watch), progress_for(0) as progress:
        async with open_context(options, progress, adopting=take_over) as context:
            context.take_over = take_over
            async with context.keeping_sessions():
                return await start_with_context(context, wait_policy, supersede, watch)


async def start_with_context(
    context: RolloutContext, wait_policy: WaitPolicy, supersede: bool, watch: Stopwatch
) -> RunReport:
    """Do what `start_rollout` does, in an open context."""
    open_rollouts = await open_ones(context)
    wanted = Wanted(context.project.options.limit, context.project.models, context.config.rollout)
    if open_rollouts and not supersede and (why := different_command(open_rollouts[0], wanted)):
        raise still_open(open_rollouts[0], why)
    # Before a device is contacted: data that cannot be used ends the command
    await context.evaluator(context.project.models)
    if context.take_over:
        await context.write(
            context.state.adopt, context.lock, (), (), True, context.actor, {"by": "rollout --take-over"}
        )
    planned = await _plan(context, watch)
    refuse({name: why for name, probe in planned.survey.probes.items() if (why := conflict_of(probe.findings))})
    rows, before = planned.plan.rows, _outcomes_of(planned)
    await context.let_go(but={row.device for row in rows if row.state is DeviceState.PENDING})
    if open_rollouts and not supersede:
        return await _continue(context, open_rollouts[0], planned, wait_policy, watch)
    if _only_blocked(rows):
        for rollout in open_rollouts:
            context.progress.message(f"{rollout.id} stays open: the new plan changes no device, and blocks some")
    else:
        for rollout in open_rollouts:
            await _supersede(context, rollout, rows)
    await context.write(context.state.name_versions, context.lock, planned.survey.releases)
    if not await _anything_to_write(context, rows):
        report = report_of("rollout", watch, None, rows, before)
        return await context.keep(report)
    context.runtime_findings.update(planned.survey.runtime_findings)
    context.built.update({built.id: built for built in planned.survey.releases})
    rollout = await create(context, planned)
    del planned, rows  # what devices answered is of no further use, and large
    context.progress.message(f"rollout {rollout.id}: wave 1 of {len(rollout.waves)}")
    return await run_to_report(context, rollout, wait_policy, "rollout", watch, before)


async def _plan(context: RolloutContext, watch: Stopwatch) -> Planned:
    """Probe the devices and plan; Interrupted after Ctrl-C."""
    known = await context.read(context.state.known)
    context.last_seen = {name: entry.seen_at for name, entry in known.items()}
    identity = await context.read(context.state.identity, context.config.fleet)
    try:
        planned = await plan_devices(
            context.project,
            context.session_factory,
            context.release_builder,
            known,
            context.progress,
            context.clock.now(),
            partial(_on_device, context, identity),
        )
    except asyncio.CancelledError:
        nothing = tuple(interrupted_outcome(device.name) for device in context.project.devices)
        raise Interrupted(RunReport("rollout", watch.stamp, watch.seconds, nothing)) from None
    await context.write(context.state.record_facts, planned.survey.known)
    return planned


async def _continue(
    context: RolloutContext, rollout: Rollout, planned: Planned, wait_policy: WaitPolicy, watch: Stopwatch
) -> RunReport:
    """Continue an open rollout whose rest is the new plan.

    Raises: StillOpen when it is not.
    """
    rows = await context.read(context.state.rows, rollout.id)
    recipes = await context.recipes(rollout.models)
    why = different_plan(rollout, rows, planned.plan.rows, recipes, context.project.inventory.by_name)
    if why:
        raise still_open(rollout, why)
    context.progress.message(f"resuming {rollout.id}")
    answered = {name for name, probe in planned.survey.probes.items() if probe.reached}
    await make_due(context, rollout, answered)
    running = await context.mark_running(rollout)
    return await run_to_report(context, running, wait_policy, "rollout", watch, _outcomes_of(planned))


async def _on_device(context: RolloutContext, identity: Identity, session: DeviceSession) -> None:
    """Collect a device's reports; a device that another state leads keeps them for that one."""
    conflict = identity.conflict(session.hello)
    if conflict and not context.take_over:
        session.notes += conflict
        return
    if conflict:
        context.progress.message(f"{session.device.name} is taken over: it was {conflict[0].observed}")
        await session.ask(Request("follow", identity.order(session.hello)))
    session.notes += revert_findings(session.hello, context.last_seen.get(session.device.name, 0.0))
    await collect(context, session)


async def create(context: RolloutContext, planned: Planned) -> Rollout:
    """Write a plan down as a rollout that runs: with its releases sealed, and what needs nothing already settled."""
    plan, now = planned.plan, context.clock.now()
    numbers = {m: await context.write(context.state.next_number, context.config.fleet, m) for m in plan.models}
    releases = await context.signed(planned.survey.releases, numbers)
    rows = [replace(r, state=DeviceState.PENDING) if r.state is DeviceState.UNCHANGED else r for r in plan.rows]
    rows = [_queued(r, plan.policy, now) if r.state is DeviceState.OFFLINE else r for r in rows]
    rows = [replace(r, attempts=1) if r.state is DeviceState.FAILED else r for r in rows]  # the probe was the attempt
    rollout = Rollout(
        id="",
        fleet=context.config.fleet,
        kind="rollout",
        state=RolloutState.PLANNED,
        policy=plan.policy,
        waves=plan.waves,
        created_at=now,
        by=context.actor,
        models=plan.models,
        number=max(numbers.values(), default=0),
        limit=context.project.options.limit,
        origin={
            **context.origin(),
            "recipes": await context.recipes(plan.models),
            **({"take_over": True} if context.take_over else {}),
        },
        updated_at=now,
    )
    about = {"models": list(plan.models), "devices": len({r.device for r in rows}), **rollout.origin}
    made = await context.write(context.state.create, context.lock, rollout, rows, releases, about)
    running = await context.mark_running(made)
    await _settle_unchanged(context, running, planned)
    return running


def _queued(row: DeviceRow, policy: Policy, now: float) -> DeviceRow:
    """Return the row of a device that did not answer its probe: that was its first attempt."""
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
    """Return what the probe alone settles: unchanged, impossible and unreachable devices."""
    outcomes: dict[tuple[str, str], DeviceOutcome] = {}
    counted: set[str] = set()  # devices whose connection counts with an earlier model
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
        if row.device in counted:
            outcome = replace(outcome, sent_bytes=0, round_trips=0)
        counted.add(row.device)
        outcomes[(row.device, row.model)] = outcome
    return outcomes


async def _supersede(context: RolloutContext, rollout: Rollout, plan: Sequence[DeviceRow]) -> None:
    """End an open rollout in favour of a new plan, and report the devices that neither of them brings anything."""
    event = RolloutEvent.ABORT if rollout.state is RolloutState.PLANNED else RolloutEvent.SUPERSEDE
    rows = await context.read(context.state.rows, rollout.id)
    released, left = endings(rows)
    lost = given_up(rows, plan)
    reason = "a newer rollout took over" + (f"; {lost}" if lost else "")
    after = replace(rollout, state=move_rollout(rollout.state, event), reason=reason, updated_at=context.clock.now())
    await context.write(context.state.move, context.lock, rollout.id, released)
    await context.write(context.state.advance, context.lock, rollout, event, after, left)
    context.progress.message(f"{rollout.id} is replaced" + (f": {lost}" if lost else ""))


def _only_blocked(rows: Sequence[DeviceRow]) -> bool:
    """Say whether a plan changes no device because it has nothing for some of them."""
    states = {r.state for r in rows}
    return DeviceState.BLOCKED in states and states <= {DeviceState.BLOCKED, DeviceState.UNCHANGED}


async def _anything_to_write(context: RolloutContext, rows: Sequence[DeviceRow]) -> bool:
    """Return whether there is work, or something that the state does not know yet."""
    if any(r.state in (DeviceState.PENDING, DeviceState.OFFLINE, DeviceState.FAILED) for r in rows):
        return True
    confirmed = await context.read(context.state.confirmed)
    unchanged = [r for r in rows if r.state is DeviceState.UNCHANGED]
    return any((c := confirmed.get((r.device, r.model))) is None or c.release != r.release for r in unchanged)
