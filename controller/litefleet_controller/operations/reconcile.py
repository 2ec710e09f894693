"""`litefleet reconcile`, for a timer: continues the open rollout, adds new devices, finds drift and, if asked, repairs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from litefleet_agent.findings import Finding, Verdict, decide, finding
from litefleet_inventory import SelectError
from litefleet_inventory.model import Device
from litefleet_inventory.select import select

from ..common.checked import mapping_or_empty
from ..devices.deliver import fingerprint_of, measurements_of
from ..devices.identity import Identity
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.release import Release
from ..devices.steps import WaitPolicy
from ..devices.visit import DeviceSession, open_session
from ..project import Options
from ..project.run_fleet import fan_out
from ..rollout import DeviceRow, DeviceState, Rollout, RolloutEvent, RolloutState, Wave
from ..rollout.states import move_rollout
from ..rollout_engine.fleet_survey import report_replaced
from ..state.model import Confirmed, KnownDevice
from .carry_out import revert_if_due
from .conflicts import refuse
from .context import ProgressFor, RolloutContext, open_context
from .device_history import collect
from .device_tasks import drift
from .run import Stopwatch, about, interruptible


@dataclass
class _ReconcilePass:
    """The results of one pass."""

    context: RolloutContext
    watch: Stopwatch
    deep: bool
    repair: bool
    outcomes: dict[tuple[str, str], DeviceOutcome] = field(default_factory=dict)
    known: list[KnownDevice] = field(default_factory=list)
    drifted: list[Confirmed] = field(default_factory=list)
    run: set[tuple[str, str]] = field(default_factory=set)  # (device, model) that the open rollout has handled since
    failed: Mapping[tuple[str, str], Confirmed] = field(
        default_factory=dict
    )  # what the latest rollout counts as failed
    conflicts: dict[str, str] = field(default_factory=dict)  # by device: who switched it last, if not this state

    def put(self, outcomes: Mapping[tuple[str, str], DeviceOutcome]) -> None:
        """Store the outcomes of a rollout that continued in this pass."""
        self.outcomes.update(outcomes)
        self.run.update(outcomes)


async def reconcile(
    options: Options, progress_for: ProgressFor, *, repair: bool = False, deep: bool = False
) -> RunReport:
    """Restore what was confirmed on the fleet, as far as possible now, and return the report.

    The report has an outcome for each model on each device that was checked; drift that remains is a failure.
    """
    watch = Stopwatch()
    with interruptible("reconcile", watch), progress_for(0) as progress:
        async with open_context(options, progress) as context:
            return await reconcile_with_context(context, repair, deep, watch)


async def reconcile_with_context(context: RolloutContext, repair: bool, deep: bool, watch: Stopwatch) -> RunReport:
    """Do what `reconcile` does, in an open context."""
    current_pass = _ReconcilePass(context, watch, deep, repair)
    await _check_devices(current_pass)  # first: it finds devices that another state leads, before anything is changed
    rollout = await _continue(context, current_pass)
    rollout = await _add_new_devices(context, current_pass, rollout)
    current_pass.drifted = [
        entry for entry in current_pass.drifted if (entry.device, entry.model) not in current_pass.run
    ]
    if repair and current_pass.drifted:
        rollout = await _repair(current_pass, rollout)
    # That was reported when it was aborted
    show_rollout = rollout is not None and rollout.state is not RolloutState.ABORTED
    rollout_summary = (
        about(rollout, await context.read(context.state.rows, rollout.id))
        if rollout is not None and show_rollout
        else {}
    )
    report = RunReport("reconcile", watch.stamp, watch.seconds, tuple(current_pass.outcomes.values()), rollout_summary)
    return await context.keep(report)


async def _continue(context: RolloutContext, current_pass: _ReconcilePass) -> Rollout | None:
    """Continue a running rollout: offline devices that are due, waves whose soak or window has come."""
    rollouts = await context.read(context.state.rollouts, context.config.fleet, 20)
    # The older one first, where a repair is open beside a rollout
    running = [r for r in reversed(rollouts) if r.state in (RolloutState.RUNNING, RolloutState.PLANNED)]
    if not running:
        if rollouts:  # its controller may have died before its rollback
            await _revert(context, current_pass, rollouts[0])
        stopped = next((r for r in rollouts if not r.state.over), None)  # a person decides how that one goes on
        return stopped or next((r for r in rollouts if r.kind == "rollout"), None)
    for rollout in running:
        context.progress.message(f"resuming {rollout.id}")
        engine = await context.run_engine(await context.mark_running(rollout), WaitPolicy.NONE)
        current_pass.put(engine.outcomes)
        await _revert(context, current_pass, engine.rollout)
    return engine.rollout


async def _revert(context: RolloutContext, current_pass: _ReconcilePass, rollout: Rollout) -> None:
    """Revert a rollout whose gate says so, where that is still due."""
    if (reverted := await revert_if_due(context, rollout, current_pass.watch)) is not None:
        current_pass.put({(o.device, o.model): o for o in reverted.outcomes})


async def _add_new_devices(
    context: RolloutContext, current_pass: _ReconcilePass, rollout: Rollout | None
) -> Rollout | None:
    """Roll the last rollout's release out to devices that joined its selection since."""
    if rollout is None or rollout.kind != "rollout" or rollout.state is not RolloutState.DONE:
        return rollout
    rows = await context.read(context.state.rows, rollout.id)
    if any(r.state is DeviceState.ROLLED_BACK for r in rows):
        return rollout  # it was reverted: no new device gets it
    there = {r.device for r in rows}
    new = [d for d in _selected(context, rollout) if d.name not in there]
    joined = [
        DeviceRow(d.name, m, len(rollout.waves) - 1, len(rows) + number, jump=d.jump)
        for number, d in enumerate(new)
        for m in rollout.models
        if d.model in ("", m)
    ]
    if not joined:
        return rollout
    names = [d.name for d in new]
    context.progress.message(
        f"{len(names)} new device{'s' if len(names) > 1 else ''} for {rollout.id}: {', '.join(names[:10])}"
    )
    after = replace(rollout, state=move_rollout(rollout.state, RolloutEvent.REOPEN), wave=len(rollout.waves) - 1)
    details = {"joined": names[:200]}
    await context.write(context.state.advance, context.lock, rollout, RolloutEvent.REOPEN, after, (), joined, details)
    engine = await context.run_engine(after, WaitPolicy.NONE)
    current_pass.put(engine.outcomes)
    return engine.rollout


def _selected(context: RolloutContext, rollout: Rollout) -> Sequence[Device]:
    """Return the devices that the rollout was made for, as the inventory has them now."""
    if not rollout.limit:
        return context.project.devices
    try:
        chosen = {d.name for d in select(context.project.inventory, rollout.limit)}
    except SelectError:  # a device that it named is no longer in the inventory
        return ()
    return [d for d in context.project.devices if d.name in chosen]


async def _check_devices(current_pass: _ReconcilePass) -> None:
    """Check every confirmed device for drift."""
    context = current_pass.context
    confirmed: dict[str, dict[str, Confirmed]] = {}
    for (device, model), entry in (await context.read(context.state.confirmed)).items():
        confirmed.setdefault(device, {})[model] = entry
    devices = [d for d in context.project.devices if d.name in confirmed]

    identity = await context.read(context.state.identity, context.config.fleet)
    latest = await context.read(context.state.rollouts, context.config.fleet, 20)
    rollout = next((r for r in latest if r.kind == "rollout"), None)
    if rollout is not None:
        current_pass.failed = await context.read(context.state.runs_failed, rollout.id)

    async def work(device: Device) -> list[DeviceOutcome]:
        return await _check_device(current_pass, device, confirmed[device.name], identity)

    context.progress.expect(len(devices))
    outcomes, interrupted = await fan_out(context.project, devices, work, context.progress)
    current_pass.outcomes.update({(o.device, o.model): o for o in outcomes})
    report_replaced(await context.read(context.state.known), current_pass.known, context.progress)
    await context.write(context.state.record_facts, current_pass.known)
    if interrupted:
        outcomes = tuple(current_pass.outcomes.values())
        raise Interrupted(RunReport("reconcile", current_pass.watch.stamp, current_pass.watch.seconds, outcomes))
    refuse(current_pass.conflicts)


async def _check_device(
    current_pass: _ReconcilePass, device: Device, confirmed: Mapping[str, Confirmed], identity: Identity
) -> list[DeviceOutcome]:
    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        if conflict := identity.conflict(session.hello):
            current_pass.conflicts[device.name] = conflict[0].observed
            done.extend(session.outcome(model, conflict) for model in confirmed)
            return
        now = {**confirmed, **{entry.model: entry for entry in await collect(current_pass.context, session)}}
        expected = {m: c.release for m, c in now.items()}
        found = await drift(session, expected, current_pass.deep, current_pass.repair)
        current_pass.known.append(
            KnownDevice(
                device.name,
                session.reported_facts,
                fingerprint_of(session.hello),
                current_pass.context.clock.now(),
                session.host_key,
            )
        )
        for model, entry in now.items():
            findings = [*session.notes, *found[model], *_failed_release(current_pass, session, entry)]
            current_pass.drifted += [entry] if found[model] else []
            done.append(
                session.outcome(
                    model,
                    findings,
                    entry.release,
                    entry.artifact,
                    unchanged=decide(findings) is Verdict.VERIFIED,
                    activated=decide(findings) is Verdict.VERIFIED,
                    measurements=measurements_of(session.hello, entry.release),
                )
            )

    return await open_session(current_pass.context.session_factory, device, list(confirmed), work)


def _failed_release(current_pass: _ReconcilePass, session: DeviceSession, entry: Confirmed) -> list[Finding]:
    """Return LF631 where the device runs what its rollout counts as failed: it was away when it was to be checked."""
    failed = current_pass.failed.get((entry.device, entry.model))
    runs = mapping_or_empty(session.hello.get("current")).get(entry.model)
    if failed is None or runs != failed.release:
        return []
    return [finding("LF631", f"{entry.model} runs as {failed.release[:12]}, which failed in {failed.rollout}")]


async def _repair(current_pass: _ReconcilePass, parent: Rollout | None) -> Rollout:
    """Restore the confirmed release on the devices that drifted, verified again."""
    context, now = current_pass.context, current_pass.context.clock.now()
    kept: dict[str, Release] = {}
    rows = []
    for number, entry in enumerate(current_pass.drifted):
        release = await context.read(context.state.stored_release, entry.release)
        if release is not None:
            kept[release.id] = release
        device = context.project.inventory.by_name[entry.device]
        rows.append(
            DeviceRow(
                entry.device, entry.model, 0, number, jump=device.jump, release=entry.release, runtime=entry.runtime
            )
        )
    models = tuple(dict.fromkeys(r.model for r in rows))
    # Under new numbers: a device that was rolled back has accepted a higher one than that of what it runs.
    numbers = {m: await context.write(context.state.next_number, context.config.fleet, m) for m in models}
    releases = await context.signed(list(kept.values()), numbers)
    rollout = Rollout(
        id="",
        fleet=context.config.fleet,
        kind="reconcile",
        state=RolloutState.PLANNED,
        policy=context.config.rollout.model_copy(update={"waves": ("100%",), "soak": 0.0, "approve": False}),
        waves=(Wave(len({r.device for r in rows}), "100%"),),
        created_at=now,
        by=context.actor,
        models=models,
        number=max(numbers.values(), default=0),
        parent=parent.id if parent else "",
        origin=context.origin(),
        updated_at=now,
    )
    details = {"drifted": [r.device for r in rows][:200], "parent": rollout.parent}
    made = await context.write(context.state.create, context.lock, rollout, rows, releases, details)
    engine = await context.run_engine(await context.mark_running(made), WaitPolicy.NONE)
    current_pass.put(engine.outcomes)
    return engine.rollout
