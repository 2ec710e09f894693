"""`litefleet rollback`: one device, a wave or the fleet goes back to a release that it kept; nothing travels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import UsageError
from ..devices.outcome import RunReport
from ..project import Options
from ..project.run_fleet import save_report
from ..rollout import DeviceRow, Rollout, RolloutState, Wave
from ..rollout.policy import Gates
from ..rollout_engine import WaitPolicy
from .context import ProgressFor, RolloutContext, actor, find_rollout, open_context
from .rollout import StillOpen
from .run import Stopwatch, interruptible, make_due, report_of

__all__ = ["Target", "roll_back", "roll_back_with_context"]


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
        async with open_context(options, progress) as context:
            return await roll_back_with_context(context, target, watch)


async def roll_back_with_context(context: RolloutContext, target: Target, watch: Stopwatch) -> RunReport:
    """Do what `roll_back` does, at a desk that is open."""
    parent = await _parent(context, target)
    rollout = await _open_one(context, target)
    if rollout is None:
        rollout = await _create(context, target, parent, await _rows(context, target, parent))
    else:
        context.progress.message(f"going on with {rollout.id}")
        await make_due(context, rollout, context.project.inventory.by_name)
    engine = await context.run_engine(rollout, WaitPolicy.WAVES)
    report = report_of("rollback", watch, engine.rollout, engine.rows, engine.outcomes)
    save_report(context.config, report)
    return report


async def _parent(context: RolloutContext, target: Target) -> Rollout | None:
    open_rollouts = [
        r for r in await context.read(context.state.rollouts, context.config.fleet, 20) if not r.state.over
    ]
    running = [r for r in open_rollouts if r.state is RolloutState.RUNNING and r.kind == "rollout"]
    if running:
        raise StillOpen(
            f"{running[0].id} is under way: `litefleet pause {running[0].id}` or abort it before going back"
        )
    if target.rollout:
        return await context.read(find_rollout, context.state, context.config.fleet, target.rollout)
    if target.wave:
        raise UsageError("--wave needs --rollout: a wave is one of a rollout's")
    return None


def _origin_fields(target: Target) -> dict[str, str | int]:
    return {"to": target.to, "of": target.rollout, "of_wave": target.wave}


async def _open_one(context: RolloutContext, target: Target) -> Rollout | None:
    """Return the rollback that asks the same and has not come to its end: begun again, "previous" would lead forth."""
    origin_fields, limit = _origin_fields(target), context.project.options.limit
    for rollout in await context.read(context.state.rollouts, context.config.fleet, 20):
        same = rollout.limit == limit and rollout.models == context.project.models
        if (
            rollout.kind == "rollback"
            and not rollout.state.over
            and same
            and origin_fields.items() <= rollout.origin.items()
        ):
            return await context.mark_running(rollout)
    return None


async def _rows(context: RolloutContext, target: Target, parent: Rollout | None) -> list[DeviceRow]:
    chosen = {d.name for d in context.project.devices}
    if parent is not None:
        stored = await context.read(context.state.rows, parent.id)
        pairs = [
            (r.device, r.model)
            for r in stored
            if r.state.well
            and r.device in chosen
            and r.model in context.project.models
            and target.wave in (0, r.wave + 1)
        ]
    else:
        pairs = [(d.name, m) for d in context.project.devices for m in context.project.models_of(d)]
    if not pairs:
        raise UsageError("no device is left to be taken back: none of the chosen ones was confirmed")
    confirmed = await context.read(context.state.confirmed)
    by_name = context.project.inventory.by_name
    return [
        DeviceRow(
            device=device,
            model=model,
            wave=0,
            position=number,
            jump=by_name[device].jump,
            before=confirmed[(device, model)].release if (device, model) in confirmed else "",
        )
        for number, (device, model) in enumerate(pairs)
    ]


async def _create(
    context: RolloutContext, target: Target, parent: Rollout | None, rows: Sequence[DeviceRow]
) -> Rollout:
    at_once = {"waves": ("100%",), "gates": Gates.none(), "soak": 0.0, "approve": False, "windows": ()}
    policy = context.config.rollout.model_copy(update=at_once)
    now = context.clock.now()
    latest = await context.read(context.state.rollouts, context.config.fleet, 20)
    reverted = parent or next((r for r in latest if r.kind != "rollback"), None)
    rollout = Rollout(
        id="",
        fleet=context.config.fleet,
        kind="rollback",
        state=RolloutState.PLANNED,
        policy=policy,
        waves=(Wave(len({r.device for r in rows}), "100%"),),
        created_at=now,
        by=actor(),
        models=context.project.models,
        parent=reverted.id if reverted else "",
        limit=context.project.options.limit,
        origin={**context.origin(), **_origin_fields(target)},
        updated_at=now,
    )
    about = {"to": target.to, "devices": sorted({r.device for r in rows})[:200], "parent": rollout.parent}
    made = await context.write(context.state.create, context.lock, rollout, rows, [], about)
    return await context.mark_running(made)
