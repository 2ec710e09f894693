"""Carries out a stored rollout to its report; where a gate says `then: rollback`, what it has switched on is reverted at once.

That a rollout is to be reverted is stored with it, as its request: when the controller dies in between, `litefleet resume` and
`litefleet reconcile` do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from ..devices.fan_out import interrupted_outcome
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.steps import WaitPolicy
from ..rollout import DeviceState, Rollout, RolloutState
from ..rollout.model import REVERT
from ..rollout_engine import RolloutEngine
from .context import RolloutContext
from .rollback import Target, roll_back_with_context
from .run import Stopwatch, report_of


def is_due(rollout: Rollout) -> bool:
    """Return whether a gate ended this rollout and requires that what it activated is reverted."""
    return rollout.state is RolloutState.ABORTED and rollout.request == REVERT


async def revert_if_due(context: RolloutContext, rollout: Rollout, watch: Stopwatch) -> RunReport | None:
    """Revert what `rollout` has switched on when that is due, and return the report; None when there is nothing to revert."""
    if not is_due(rollout) or not await context.read(context.state.switched_on, rollout.id):
        return None
    context.progress.message(f"{rollout.id} is rolled back: its gate says so")
    return await roll_back_with_context(context, Target(rollout=rollout.id), watch, checked=True)


async def run_to_report(
    context: RolloutContext,
    rollout: Rollout,
    wait_policy: WaitPolicy,
    command: str,
    watch: Stopwatch,
    before: Mapping[tuple[str, str], DeviceOutcome],
) -> RunReport:
    """Run a rollout, revert it where a gate says so, and return its report.

    Raises: Interrupted after Ctrl-C, with all rows in flight pending again.
    """
    outcomes, reverted = dict(before), None
    try:
        engine: RolloutEngine = await context.run_engine(rollout, wait_policy)
        reverted = await revert_if_due(context, engine.rollout, watch)
    except asyncio.CancelledError:
        latest_rollout = await context.read(context.state.rollout, rollout.id) or rollout
        rows = await context.read(context.state.rows, rollout.id)
        outcomes.update({(o.device, o.model): o for o in await context.read(context.state.outcomes, rollout.id)})
        undone = [r for r in rows if r.state is DeviceState.PENDING]
        outcomes.update({(r.device, r.model): interrupted_outcome(r.device, r.model, r.release) for r in undone})
        raise Interrupted(report_of(command, watch, latest_rollout, rows, outcomes)) from None
    outcomes.update(engine.outcomes)
    report = report_of(command, watch, engine.rollout, engine.rows, outcomes)
    if reverted is not None:
        now = {(o.device, o.model): o for o in reverted.outcomes}
        shown = tuple(now.get((o.device, o.model), o) for o in report.outcomes)
        report = replace(report, outcomes=shown, rollout={**report.rollout, "rollback": reverted.rollout})
    report = await context.keep(report)
    history = context.config.history
    await context.write(context.state.prune, history.keep_days, history.keep_rollouts)
    return report
