"""`litefleet reconcile`, for a timer: goes on with what is open, takes in new devices, finds drift and, if asked, repairs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from litefleet_agent.findings import Verdict, decide
from litefleet_inventory import SelectError
from litefleet_inventory.model import Device
from litefleet_inventory.select import select

from ..devices.deliver import fingerprint_of, measurements_of
from ..devices.fan_out import fan_out
from ..devices.outcome import DeviceOutcome, RunReport
from ..devices.visit import Visit, visit
from ..project.project import Options
from ..project.run_fleet import Interrupted, keep_report
from ..rollout import DeviceState, Rollout, RolloutEvent, RolloutState, Row, Wave
from ..rollout.states import move_rollout
from ..rollout_engine import Patience
from ..state.model import Confirmed, KeptRelease, KnownDevice
from .context import Desk, ProgressFor, open_desk, who
from .drift import drift
from .install_reports import collect
from .status import Stopwatch, about, interruptible

__all__ = ["reconcile", "reconcile_at"]


@dataclass
class _Round:
    """What one pass found."""

    desk: Desk
    watch: Stopwatch
    deep: bool
    repair: bool
    outcomes: dict[tuple[str, str], DeviceOutcome] = field(default_factory=dict)
    known: list[KnownDevice] = field(default_factory=list)
    drifted: list[Confirmed] = field(default_factory=list)


async def reconcile(
    options: Options, progress_for: ProgressFor, *, repair: bool = False, deep: bool = False
) -> RunReport:
    """Bring the fleet in line with what was confirmed, as far as it can be done now, and return the report.

    The report has an outcome for each model on each device that was looked at; drift that stays is a failure.
    """
    watch = Stopwatch()
    with interruptible("reconcile", watch), progress_for(0) as progress:
        async with open_desk(options, progress) as desk:
            return await reconcile_at(desk, repair, deep, watch)


async def reconcile_at(desk: Desk, repair: bool, deep: bool, watch: Stopwatch) -> RunReport:
    """Do what `reconcile` does, at a desk that is open."""
    this = _Round(desk, watch, deep, repair)
    rollout = await _go_on(desk, this)
    rollout = await _take_in(desk, this, rollout)
    await _look(this)
    if repair and this.drifted:
        rollout = await _repair(this, rollout)
    told = rollout is not None and rollout.state is not RolloutState.ABORTED  # that was said when it was aborted
    stands = about(rollout, await desk.write(desk.state.rows, rollout.id)) if rollout is not None and told else {}
    report = RunReport("reconcile", watch.stamp, watch.seconds, tuple(this.outcomes.values()), stands)
    keep_report(desk.config, report)
    return report


async def _go_on(desk: Desk, this: _Round) -> Rollout | None:
    """Go on with a rollout that is under way: offline devices that are due, waves whose soak or window has come."""
    rollouts = await desk.write(desk.state.rollouts, desk.config.fleet, 20)
    running = [r for r in rollouts if r.state in (RolloutState.RUNNING, RolloutState.PLANNED)]
    if not running:
        return next((r for r in rollouts if r.kind == "rollout"), None)
    desk.progress.message(f"going on with {running[0].id}")
    engine = await desk.carry_out(await desk.begun(running[0]), Patience.NONE)
    this.outcomes.update(engine.outcomes)
    return engine.rollout


async def _take_in(desk: Desk, this: _Round, rollout: Rollout | None) -> Rollout | None:
    """Give devices that joined the rollout's selection since the release that it brought."""
    if rollout is None or rollout.kind != "rollout" or rollout.state is not RolloutState.DONE:
        return rollout
    rows = await desk.write(desk.state.rows, rollout.id)
    if any(r.state is DeviceState.ROLLED_BACK for r in rows):
        return rollout  # it was taken back: nobody new gets it
    there = {r.device for r in rows}
    new = [d for d in _selected(desk, rollout) if d.name not in there]
    joined = [
        Row(d.name, m, len(rollout.waves) - 1, len(rows) + number, jump=d.jump)
        for number, d in enumerate(new)
        for m in rollout.models
        if d.model in ("", m)
    ]
    if not joined:
        return rollout
    names = [d.name for d in new]
    desk.progress.message(
        f"{len(names)} new device{'s' if len(names) > 1 else ''} for {rollout.id}: {', '.join(names[:10])}"
    )
    after = replace(rollout, state=move_rollout(rollout.state, RolloutEvent.REOPEN), wave=len(rollout.waves) - 1)
    what = {"joined": names[:200]}
    await desk.write(desk.state.advance, desk.hold, rollout, RolloutEvent.REOPEN, after, (), joined, what)
    engine = await desk.carry_out(after, Patience.NONE)
    this.outcomes.update(engine.outcomes)
    return engine.rollout


def _selected(desk: Desk, rollout: Rollout) -> Sequence[Device]:
    """Return the devices that the rollout was made for, as the inventory has them now."""
    if not rollout.limit:
        return desk.project.devices
    try:
        chosen = {d.name for d in select(desk.project.inventory, rollout.limit)}
    except SelectError:  # a device that it named is gone
        return ()
    return [d for d in desk.project.devices if d.name in chosen]


async def _look(this: _Round) -> None:
    """Ask every confirmed device whether it is still as it was confirmed."""
    desk = this.desk
    confirmed: dict[str, dict[str, Confirmed]] = {}
    for (device, model), entry in (await desk.write(desk.state.confirmed)).items():
        if (device, model) not in this.outcomes:  # it has just been settled
            confirmed.setdefault(device, {})[model] = entry
    devices = [d for d in desk.project.devices if d.name in confirmed]

    async def work(device: Device) -> list[DeviceOutcome]:
        return await _look_at(this, device, confirmed[device.name])

    desk.progress.expect(len(devices))
    at_once, per_jump = desk.config.ssh.concurrency, desk.config.rollout.per_jump_host
    outcomes, interrupted = await fan_out(devices, work, at_once, desk.progress.device_done, per_jump)
    this.outcomes.update({(o.device, o.model): o for o in outcomes})
    await desk.write(desk.state.learn, this.known)
    if interrupted:
        outcomes = tuple(this.outcomes.values())
        raise Interrupted(RunReport("reconcile", this.watch.stamp, this.watch.seconds, outcomes))


async def _look_at(this: _Round, device: Device, confirmed: Mapping[str, Confirmed]) -> list[DeviceOutcome]:
    async def work(here: Visit, done: list[DeviceOutcome]) -> None:
        now = {**confirmed, **{entry.model: entry for entry in await collect(this.desk, here)}}
        expected = {m: c.release for m, c in now.items()}
        found = await drift(here, expected, this.deep, this.repair)
        this.known.append(KnownDevice(device.name, here.told_facts, fingerprint_of(here.hello), this.desk.clock.now()))
        for model, entry in now.items():
            findings = [*here.notes, *found[model]]
            this.drifted += [entry] if found[model] else []
            done.append(
                here.outcome(
                    model,
                    findings,
                    entry.release,
                    entry.artifact,
                    unchanged=decide(findings) is Verdict.VERIFIED,
                    activated=decide(findings) is Verdict.VERIFIED,
                    measurements=measurements_of(here.hello, entry.release),
                )
            )

    return await visit(this.desk.contact, device, list(confirmed), work)


async def _repair(this: _Round, parent: Rollout | None) -> Rollout:
    """Bring back what was confirmed on the devices that drifted, proven anew."""
    desk, now = this.desk, this.desk.clock.now()
    kept: dict[str, KeptRelease] = {}
    rows = []
    for number, entry in enumerate(this.drifted):
        release = await desk.write(desk.state.kept_release, entry.release)
        if release is not None:
            kept[release.id] = release
        device = desk.project.inventory.by_name[entry.device]
        rows.append(
            Row(entry.device, entry.model, 0, number, jump=device.jump, release=entry.release, runtime=entry.runtime)
        )
    models = tuple(dict.fromkeys(r.model for r in rows))
    # Under new numbers: a device that was rolled back has accepted a higher one than that of what it runs.
    numbers = {m: await desk.write(desk.state.next_number, desk.config.fleet, m) for m in models}
    releases = await desk.sealed(list(kept.values()), numbers)
    rollout = Rollout(
        id="",
        fleet=desk.config.fleet,
        kind="reconcile",
        state=RolloutState.PLANNED,
        policy=desk.config.rollout.model_copy(update={"waves": ("100%",), "soak": 0.0, "approve": False}),
        waves=(Wave(len({r.device for r in rows}), "100%"),),
        created_at=now,
        by=who(),
        models=models,
        number=max(numbers.values(), default=0),
        parent=parent.id if parent else "",
        origin=desk.origin(),
        updated_at=now,
    )
    what = {"drifted": [r.device for r in rows][:200], "parent": rollout.parent}
    made = await desk.write(desk.state.create, desk.hold, rollout, rows, releases, what)
    engine = await desk.carry_out(await desk.begun(made), Patience.NONE)
    this.outcomes.update(engine.outcomes)
    return engine.rollout
