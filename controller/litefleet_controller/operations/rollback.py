"""`litefleet rollback`: one device, a wave or the fleet goes back to a release that it kept; nothing travels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import UsageError
from ..devices.outcome import RunReport
from ..project.project import Options
from ..project.run_fleet import keep_report
from ..rollout import Rollout, RolloutState, Row, Wave
from ..rollout.policy import Gates
from ..rollout_engine import Patience
from .context import Desk, ProgressFor, find_rollout, open_desk, who
from .rollout import StillOpen, make_due
from .status import Stopwatch, interruptible, report_of

__all__ = ["Target", "roll_back", "roll_back_at"]


@dataclass(frozen=True)
class Target:
    """Where to: "previous", "nothing", or a release's id (its first 8 characters or more); and whose."""

    to: str = "previous"
    rollout: str = ""  # the devices of this rollout, "" = those that are selected
    wave: int = 0  # only this wave of it, from 1; 0 = all


async def roll_back(options: Options, progress_for: ProgressFor, target: Target) -> RunReport:
    """Take every chosen device back and return the report.

    Raises: UsageError for a target that can't be; StillOpen while a rollout of this fleet is running or waits.
    """
    if target.to not in ("previous", "nothing") and not re.fullmatch(r"[0-9a-f]{8,64}", target.to):
        raise UsageError(
            f"--to {target.to}: write previous, nothing, or the first 8 or more characters of a release's id"
        )
    watch = Stopwatch()
    with interruptible("rollback", watch), progress_for(0) as progress:
        async with open_desk(options, progress) as desk:
            return await roll_back_at(desk, target, watch)


async def roll_back_at(desk: Desk, target: Target, watch: Stopwatch) -> RunReport:
    """Do what `roll_back` does, at a desk that is open."""
    parent = await _parent(desk, target)
    rollout = await _open_one(desk, target)
    if rollout is None:
        rollout = await _create(desk, target, parent, await _rows(desk, target, parent))
    else:
        desk.progress.message(f"going on with {rollout.id}")
        await make_due(desk, rollout, desk.project.inventory.by_name)
    engine = await desk.carry_out(rollout, Patience.WAVES)
    report = report_of("rollback", watch, engine.rollout, engine.rows, engine.outcomes)
    keep_report(desk.config, report)
    return report


async def _parent(desk: Desk, target: Target) -> Rollout | None:
    open_ones = [r for r in await desk.write(desk.state.rollouts, desk.config.fleet, 20) if not r.state.over]
    running = [r for r in open_ones if r.state is RolloutState.RUNNING and r.kind == "rollout"]
    if running:
        raise StillOpen(
            f"{running[0].id} is under way: `litefleet pause {running[0].id}` or abort it before going back"
        )
    if target.rollout:
        return await desk.write(find_rollout, desk.state, desk.config.fleet, target.rollout)
    if target.wave:
        raise UsageError("--wave needs --rollout: a wave is one of a rollout's")
    return None


def _asked(target: Target) -> dict[str, str | int]:
    return {"to": target.to, "of": target.rollout, "of_wave": target.wave}


async def _open_one(desk: Desk, target: Target) -> Rollout | None:
    """Return the rollback that asks the same and has not come to its end: begun again, "previous" would lead forth."""
    asked, limit = _asked(target), desk.project.options.limit
    for rollout in await desk.write(desk.state.rollouts, desk.config.fleet, 20):
        same = rollout.limit == limit and rollout.models == desk.project.models
        if rollout.kind == "rollback" and not rollout.state.over and same and asked.items() <= rollout.origin.items():
            return await desk.begun(rollout)
    return None


async def _rows(desk: Desk, target: Target, parent: Rollout | None) -> list[Row]:
    chosen = {d.name for d in desk.project.devices}
    if parent is not None:
        stored = await desk.write(desk.state.rows, parent.id)
        pairs = [
            (r.device, r.model)
            for r in stored
            if r.state.well and r.device in chosen and r.model in desk.project.models and target.wave in (0, r.wave + 1)
        ]
    else:
        pairs = [(d.name, m) for d in desk.project.devices for m in desk.project.models_of(d)]
    if not pairs:
        raise UsageError("no device is left to be taken back: none of the chosen ones was confirmed")
    confirmed = await desk.write(desk.state.confirmed)
    by_name = desk.project.inventory.by_name
    return [
        Row(
            device=device,
            model=model,
            wave=0,
            position=number,
            jump=by_name[device].jump,
            before=confirmed[(device, model)].release if (device, model) in confirmed else "",
        )
        for number, (device, model) in enumerate(pairs)
    ]


async def _create(desk: Desk, target: Target, parent: Rollout | None, rows: Sequence[Row]) -> Rollout:
    at_once = {"waves": ("100%",), "gates": Gates.none(), "soak": 0.0, "approve": False, "windows": ()}
    policy = desk.config.rollout.model_copy(update=at_once)
    now = desk.clock.now()
    latest = await desk.write(desk.state.rollouts, desk.config.fleet, 20)
    taken = parent or next((r for r in latest if r.kind != "rollback"), None)
    rollout = Rollout(
        id="",
        fleet=desk.config.fleet,
        kind="rollback",
        state=RolloutState.PLANNED,
        policy=policy,
        waves=(Wave(len({r.device for r in rows}), "100%"),),
        created_at=now,
        by=who(),
        models=desk.project.models,
        parent=taken.id if taken else "",
        limit=desk.project.options.limit,
        origin={**desk.origin(), **_asked(target)},
        updated_at=now,
    )
    about = {"to": target.to, "devices": sorted({r.device for r in rows})[:200], "parent": rollout.parent}
    made = await desk.write(desk.state.create, desk.hold, rollout, rows, [], about)
    return await desk.begun(made)
