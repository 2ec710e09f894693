"""`litefleet rollout`: plan, write the plan down, and carry it out."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from functools import partial

from litefleet_agent.findings import decide

from ..common.errors import LitefleetError
from ..devices.deliver import fingerprint_of, measurements_of, went_back
from ..devices.fan_out import interrupted_outcome
from ..devices.outcome import DeviceOutcome, RunReport
from ..devices.visit import Visit
from ..project.project import Options
from ..project.run_fleet import Interrupted, keep_report
from ..rollout import DeviceEvent, DeviceState, Policy, Rollout, RolloutEvent, RolloutState, Row
from ..rollout.board import retry_at
from ..rollout.states import move_device, move_rollout
from ..rollout_engine import Engine, Patience
from ..rollout_engine.changes import endings
from ..rollout_engine.fleet_survey import Survey
from ..state.model import Change, Confirmed
from .context import Desk, ProgressFor, open_desk, who
from .install_reports import collect
from .plan import Planned, draw_up
from .status import Stopwatch, interruptible, report_of

__all__ = ["StillOpen", "carry_on", "create", "make_due", "start_at", "start_rollout"]


class StillOpen(LitefleetError):
    """A rollout of this fleet waits for somebody's decision (exit code 3)."""

    exit_code = 3


async def start_rollout(
    options: Options, progress_for: ProgressFor, patience: Patience = Patience.WAVES, supersede: bool = False
) -> RunReport:
    """Plan and carry out; an open rollout with the very same plan is gone on with instead.

    Raises: StillOpen while another one is paused or waits; Held, ConfigError, UsageError; Interrupted after Ctrl-C.
    """
    watch = Stopwatch()
    with interruptible("rollout", watch), progress_for(0) as progress:
        async with open_desk(options, progress) as desk:
            return await start_at(desk, patience, supersede, watch)


async def start_at(desk: Desk, patience: Patience, supersede: bool, watch: Stopwatch) -> RunReport:
    """Do what `start_rollout` does, at a desk that is open."""
    open_one = await _open_rollout(desk, supersede)
    known = await desk.write(desk.state.known)
    desk.last_seen = {name: entry.seen_at for name, entry in known.items()}
    try:
        planned = await draw_up(
            desk.project,
            desk.contact,
            desk.supply,
            known,
            desk.progress,
            desk.clock.now(),
            partial(_meet, desk),
        )
    except asyncio.CancelledError:
        nothing = tuple(interrupted_outcome(device.name) for device in desk.project.devices)
        raise Interrupted(RunReport("rollout", watch.stamp, watch.seconds, nothing)) from None
    await desk.write(desk.state.learn, planned.survey.known)
    before = _outcomes_of(planned)
    if open_one is not None and not supersede and await _same_plan(desk, open_one, planned.plan.rows):
        desk.progress.message(f"going on with {open_one.id}")
        answered = {name for name, look in planned.survey.looks.items() if look.reached}
        await make_due(desk, open_one, answered)
        return await carry_on(desk, await desk.begun(open_one), patience, "rollout", watch, before)
    if open_one is not None:
        await _supersede(desk, open_one)
    if not await _anything_to_write(desk, planned.plan.rows):
        report = report_of("rollout", watch, None, planned.plan.rows, before)
        keep_report(desk.config, report)
        return report
    desk.asides.update(planned.survey.asides)
    rollout = await create(desk, planned)
    desk.progress.message(f"rollout {rollout.id}: wave 1 of {len(rollout.waves)}")
    return await carry_on(desk, rollout, patience, "rollout", watch, before)


async def _meet(desk: Desk, here: Visit) -> None:
    """Hear what a device did while nobody watched."""
    here.notes += went_back(here.hello, desk.last_seen.get(here.device.name, 0.0))
    await collect(desk, here)


async def carry_on(
    desk: Desk,
    rollout: Rollout,
    patience: Patience,
    command: str,
    watch: Stopwatch,
    before: Mapping[tuple[str, str], DeviceOutcome],
) -> RunReport:
    """Run a rollout and return its report; Interrupted after Ctrl-C, with everything given back."""
    outcomes = dict(before)
    try:
        engine: Engine = await desk.carry_out(rollout, patience)
    except asyncio.CancelledError:
        stands = await desk.write(desk.state.rollout, rollout.id) or rollout
        rows = await desk.write(desk.state.rows, rollout.id)
        outcomes.update({(o.device, o.model): o for o in await desk.write(desk.state.outcomes, rollout.id)})
        undone = [r for r in rows if r.state is DeviceState.PENDING]
        outcomes.update({(r.device, r.model): interrupted_outcome(r.device, r.model, r.release) for r in undone})
        raise Interrupted(report_of(command, watch, stands, rows, outcomes)) from None
    outcomes.update(engine.outcomes)
    report = report_of(command, watch, engine.rollout, engine.rows, outcomes)
    keep_report(desk.config, report)
    history = desk.config.history
    await desk.write(desk.state.prune, history.keep_days, history.keep_rollouts)
    return report


async def make_due(desk: Desk, rollout: Rollout, devices: Container[str]) -> None:
    """Let these devices be tried now, and not when their time would have come."""
    now = desk.clock.now()
    rows = await desk.write(desk.state.rows, rollout.id)
    due = [replace(r, next_try_at=now) for r in rows if r.state is DeviceState.OFFLINE and r.device in devices]
    if due:
        await desk.write(desk.state.relocate, desk.hold, rollout.id, due)


async def create(desk: Desk, planned: Planned) -> Rollout:
    """Write a plan down as a rollout that runs: with its releases sealed, and what needs nothing already settled."""
    plan, now = planned.plan, desk.clock.now()
    numbers = {m: await desk.write(desk.state.next_number, desk.config.fleet, m) for m in plan.models}
    releases = await desk.sealed(planned.survey.releases, numbers)
    rows = [replace(r, state=DeviceState.PENDING) if r.state is DeviceState.UNCHANGED else r for r in plan.rows]
    rows = [_queued(r, plan.policy, now) if r.state is DeviceState.OFFLINE else r for r in rows]
    rollout = Rollout(
        id="",
        fleet=desk.config.fleet,
        kind="rollout",
        state=RolloutState.PLANNED,
        policy=plan.policy,
        waves=plan.waves,
        created_at=now,
        by=who(),
        models=plan.models,
        number=max(numbers.values(), default=0),
        limit=desk.project.options.limit,
        origin={**desk.origin(), "recipes": {r.model: r.recipe for r in releases}},
        updated_at=now,
    )
    about = {"models": list(plan.models), "devices": len({r.device for r in rows}), **rollout.origin}
    made = await desk.write(desk.state.create, desk.hold, rollout, rows, releases, about)
    running = await desk.begun(made)
    await _settle_unchanged(desk, running, planned)
    return running


def _queued(row: Row, policy: Policy, now: float) -> Row:
    """Return the row of a device that did not answer when it was looked at: that was its first try."""
    row = replace(row, attempts=1, offline_since=now)
    return replace(row, next_try_at=retry_at(row, policy, now))


async def _settle_unchanged(desk: Desk, rollout: Rollout, planned: Planned) -> None:
    outcomes = _outcomes_of(planned)
    begin, same = [], []
    for row in planned.plan.rows:
        if row.state is DeviceState.UNCHANGED:
            pending = replace(row, state=DeviceState.PENDING)
            staging = replace(row, state=move_device(DeviceState.PENDING, DeviceEvent.BEGIN), attempts=1)
            begin.append(Change(pending, DeviceEvent.BEGIN, staging))
            outcome = outcomes[(row.device, row.model)]
            after = replace(row, attempts=1, verdict=outcome.verdict)
            confirmed = _confirmed(row, rollout, planned.survey, outcome, desk.clock.now())
            same.append(Change(staging, DeviceEvent.SAME, after, outcome, confirmed))
    if begin:
        await desk.write(desk.state.move, desk.hold, rollout.id, begin)
        await desk.write(desk.state.move, desk.hold, rollout.id, same)


def _confirmed(row: Row, rollout: Rollout, survey: Survey, outcome: DeviceOutcome, now: float) -> Confirmed:
    fingerprint = fingerprint_of(survey.looks[row.device].hello)
    measured = outcome.measurements
    return Confirmed(
        row.device, row.model, row.release, row.artifact, row.runtime, fingerprint, rollout.id, now, measured
    )


def _outcomes_of(planned: Planned) -> dict[tuple[str, str], DeviceOutcome]:
    """Return what the look alone settles: unchanged, impossible and unreachable devices."""
    outcomes = {}
    for draft in planned.plan.devices:
        row, look = draft.row, planned.survey.looks[draft.row.device]
        if row.state is DeviceState.PENDING or look.outcome is None:
            continue
        outcome = replace(
            look.outcome,
            model=row.model,
            release=row.release,
            artifact=row.artifact,
            findings=draft.findings,
            verdict=decide(draft.findings),
        )
        if row.state is DeviceState.UNCHANGED:
            measured = measurements_of(look.hello, row.release)
            outcome = replace(outcome, unchanged=True, activated=True, measurements=measured)
        outcomes[(row.device, row.model)] = outcome
    return outcomes


async def _open_rollout(desk: Desk, supersede: bool) -> Rollout | None:
    """Return the fleet's rollout that is not over; StillOpen when a person has to say what becomes of it."""
    latest = [r for r in await desk.write(desk.state.rollouts, desk.config.fleet, 20) if not r.state.over]
    if not latest:
        return None
    found = latest[0]
    if found.state in (RolloutState.PAUSED, RolloutState.WAITING) and not supersede:
        go_on = "approve" if found.state is RolloutState.WAITING else "resume"
        raise StillOpen(
            f"{found.id} is {found.state}: {found.reason}  `litefleet {go_on} {found.id}` goes on with it, "
            f"`litefleet abort {found.id}` ends it, `litefleet rollout --supersede` replaces it by a new one"
        )
    return found


async def _same_plan(desk: Desk, open_one: Rollout, rows: Sequence[Row]) -> bool:
    """Say whether all that the new plan would do is what the open rollout has yet to do."""
    stored = {(r.device, r.model): r for r in await desk.write(desk.state.rows, open_one.id)}
    for row in rows:
        if row.state not in (DeviceState.PENDING, DeviceState.OFFLINE):
            continue
        there = stored.get((row.device, row.model))
        if there is None or there.state.settled or (row.release and there.release and row.release != there.release):
            return False
    return True


async def _supersede(desk: Desk, rollout: Rollout) -> None:
    event = RolloutEvent.ABORT if rollout.state is RolloutState.PLANNED else RolloutEvent.SUPERSEDE
    back, left = endings(await desk.write(desk.state.rows, rollout.id))
    after = replace(
        rollout,
        state=move_rollout(rollout.state, event),
        reason="a newer rollout took over",
        updated_at=desk.clock.now(),
    )
    await desk.write(desk.state.move, desk.hold, rollout.id, back)
    await desk.write(desk.state.advance, desk.hold, rollout, event, after, left)


async def _anything_to_write(desk: Desk, rows: Sequence[Row]) -> bool:
    """Say whether there is work, or something that the state does not know yet."""
    if any(r.state in (DeviceState.PENDING, DeviceState.OFFLINE) for r in rows):
        return True
    confirmed = await desk.write(desk.state.confirmed)
    unchanged = [r for r in rows if r.state is DeviceState.UNCHANGED]
    return any((c := confirmed.get((r.device, r.model))) is None or c.release != r.release for r in unchanged)
