"""Resume, approve, retry, pause and abort: a person's decisions about a stored rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import replace

from ..common.errors import UsageError
from ..common.operator import actor
from ..config import load_config
from ..devices.outcome import RunReport
from ..devices.steps import WaitPolicy
from ..project import Options
from ..project.project import open_state
from ..rollout import DeviceState, IllegalMove, Rollout, RolloutEvent, RolloutState
from ..rollout.board import Board
from ..rollout.states import move_rollout
from ..rollout_engine import SystemClock
from ..rollout_engine.store import endings, retries
from ..state import FleetLock, FleetLocked, State, this_process
from .carry_out import is_due, revert_if_due, run_to_report
from .conflicts import check_devices
from .context import ProgressFor, RolloutContext, open_context, open_ones
from .find import find_rollout, to_retry
from .open_rollouts import still_open
from .run import Stopwatch, interruptible, make_due, moved


async def resume(options: Options, progress_for: ProgressFor, rollout_id: str, wait_policy: WaitPolicy) -> RunReport:
    """Continue a rollout that is paused, or that a dead controller left; the failures that stopped it no longer count."""
    return await _continue(options, progress_for, rollout_id, wait_policy, "resume")


async def approve(options: Options, progress_for: ProgressFor, rollout_id: str, wait_policy: WaitPolicy) -> RunReport:
    """Approve the next wave of a waiting rollout, and continue it."""
    return await _continue(options, progress_for, rollout_id, wait_policy, "approve")


async def retry(options: Options, progress_for: ProgressFor, rollout_id: str, wait_policy: WaitPolicy) -> RunReport:
    """Try a rollout's failed devices again."""
    return await _continue(options, progress_for, rollout_id, wait_policy, "retry")


Step = Callable[[RolloutContext, Rollout], Awaitable[Rollout]]


async def _continue(
    options: Options, progress_for: ProgressFor, rollout_id: str, wait_policy: WaitPolicy, command: str
) -> RunReport:
    watch = Stopwatch()
    with interruptible(command, watch), progress_for(0) as progress:
        async with open_context(options, progress, whole_fleet=True) as context:
            return await continue_with_context(context, rollout_id, wait_policy, command, watch)


async def continue_with_context(
    context: RolloutContext, rollout_id: str, wait_policy: WaitPolicy, command: str, watch: Stopwatch
) -> RunReport:
    """Apply the step of `command`, one of STEPS, and run the rollout."""
    wanted = await _wanted(context, rollout_id, command)
    rollout = await context.read(find_rollout, context.state, context.config.fleet, rollout_id, wanted)
    rows = await context.read(context.state.rows, rollout.id)
    every = is_due(rollout) or command == "retry"
    await check_devices(context, (r.device for r in rows if every or not r.state.settled), rollout)
    if command == "resume" and (reverted := await revert_if_due(context, rollout, watch)) is not None:
        return reverted
    rollout = await STEPS[command](context, rollout)
    last_outcomes = {(o.device, o.model): o for o in await context.read(context.state.outcomes, rollout.id)}
    return await run_to_report(context, rollout, wait_policy, command, watch, last_outcomes)


async def _wanted(context: RolloutContext, rollout_id: str, command: str) -> str:
    """Return the command that `find_rollout` serves; `resume` also carries out a rollback that a gate requires."""
    if rollout_id or command != "resume":
        return command
    latest = await context.read(context.state.rollouts, context.config.fleet, 1)
    return "" if latest and is_due(latest[0]) else command


async def _resumed(context: RolloutContext, rollout: Rollout) -> Rollout:
    await make_due(context, rollout, context.project.inventory.by_name)
    if rollout.state is RolloutState.RUNNING:
        return rollout
    if rollout.state is RolloutState.PLANNED:  # the controller died between creating and starting it
        return await context.mark_running(rollout)
    rows = await context.read(context.state.rows, rollout.id)
    forgiven_rows = [replace(r, forgiven=True) for r in rows if r.failed and r.device in rollout.behind]
    if rollout.state is RolloutState.PAUSED:
        await context.write(context.state.relocate, context.lock, rollout.id, forgiven_rows)
    return await moved(context, rollout, RolloutEvent.RESUME, replace(rollout, reason="", behind=(), request=""))


async def _approved(context: RolloutContext, rollout: Rollout) -> Rollout:
    after = replace(rollout, approved=rollout.wave + 1, reason="", behind=())
    if rollout.state is RolloutState.RUNNING:  # a person continues without the success that the wave lacks
        board = Board(rollout, await context.read(context.state.rows, rollout.id))
        if not board.lacks_success():
            raise UsageError(f"{rollout.id} is running: nothing waits for approval")
        await context.write(
            context.state.advance,
            context.lock,
            rollout,
            None,
            after,
            (),
            (),
            {"action": "approve", "by": context.actor},
        )
        return after
    return await moved(context, rollout, RolloutEvent.APPROVE, after)


async def _retried(context: RolloutContext, rollout: Rollout) -> Rollout:
    rows = await context.read(context.state.rows, rollout.id)
    if any(r.state is DeviceState.ROLLED_BACK for r in rows):
        raise UsageError(f"{rollout.id} was rolled back: make a new rollout")
    other = next((r for r in await open_ones(context) if r.id != rollout.id), None)
    if other is not None and retries(rows):
        raise still_open(other, f"this command is about {rollout.id}", "")
    changes = retries(await context.read(to_retry, context.state, rollout))
    if not changes and retries(rows):
        raise UsageError(f"the devices that failed in {rollout.id} have had a newer rollout since: make a new rollout")
    if not changes:
        raise UsageError(f"no device of {rollout.id} has failed")
    if rollout.state is RolloutState.RUNNING:
        await context.write(context.state.move, context.lock, rollout.id, changes)
        return rollout
    events = {RolloutState.DONE: RolloutEvent.REOPEN, RolloutState.PAUSED: RolloutEvent.RESUME}
    if rollout.state not in events:
        raise UsageError(f"{rollout.id} is {rollout.state}: its devices cannot be tried again; make a new rollout")
    after = replace(rollout, reason="", behind=(), request="")
    return await moved(context, rollout, events[rollout.state], after, changes)


STEPS: Mapping[str, Step] = {"resume": _resumed, "approve": _approved, "retry": _retried}


def pause(options: Options, rollout_id: str) -> str:
    """Pause a rollout, so that no further device begins, and return the sentence that reports it."""
    return _ask(options, rollout_id, RolloutEvent.PAUSE)


def abort(options: Options, rollout_id: str) -> str:
    """Abort a rollout: devices that have not begun are skipped.  Return the sentence that reports it."""
    return _ask(options, rollout_id, RolloutEvent.ABORT)


def what_to_abort(options: Options) -> tuple[str, str]:
    """Return the open rollout's id, and a sentence about where it stands; UsageError when none is open."""
    config = load_config(options.config)
    with closing(open_state(config)) as state:
        rollout = find_rollout(state, config.fleet, "", "abort")
        counted = Counter(row.state.value for row in state.rows(rollout.id))
    counts = ", ".join(f"{count} {name}" for name, count in counted.items())
    return rollout.id, f"{rollout.id} ({rollout.kind}, {', '.join(rollout.models)}) is {rollout.state}: {counts}."


def _ask(options: Options, rollout_id: str, event: RolloutEvent) -> str:
    config = load_config(options.config)
    with closing(open_state(config)) as state:
        rollout = find_rollout(state, config.fleet, rollout_id, str(event))
        try:
            move_rollout(rollout.state, event)
        except IllegalMove:
            raise UsageError(f"{rollout.id} is {rollout.state}: there is nothing to {event}") from None
        try:
            lock = state.acquire(config.fleet, this_process(config.operator))
        except FleetLocked as held:
            state.ask(rollout.id, str(event), actor(config.operator))
            return f"asked for: the controller at work on {rollout.id} will {event} it ({held})"
        try:
            end_locally(state, lock, rollout, event, SystemClock().now(), actor(config.operator))
        finally:
            state.release(lock)
        return f"{rollout.id} is {move_rollout(rollout.state, event)}"


def end_locally(state: State, lock: FleetLock, rollout: Rollout, event: RolloutEvent, now: float, by: str = "") -> None:
    """Store PAUSE or ABORT ourselves, because no controller is at work; `now` in epoch seconds."""
    released, left = endings(state.rows(rollout.id))
    state.move(lock, rollout.id, released)
    changes = left if event is RolloutEvent.ABORT else []
    reason = f"{event} by {by or actor()}"
    after = replace(rollout, state=move_rollout(rollout.state, event), reason=reason, behind=(), updated_at=now)
    state.advance(lock, rollout, event, after, changes, (), {"reason": reason})
