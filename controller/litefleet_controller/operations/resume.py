"""Resume, approve, retry, pause and abort: what a person decides about a rollout that was written down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from ..common.errors import UsageError
from ..config import load_config
from ..devices.outcome import RunReport
from ..project.project import Options, open_state
from ..rollout import IllegalMove, Rollout, RolloutEvent, RolloutState
from ..rollout.states import move_rollout
from ..rollout_engine import Patience, SystemClock
from ..rollout_engine.changes import endings, retries
from ..state import Held, Hold, StatePort, this_process
from ..state.model import Change
from .context import Desk, ProgressFor, find_rollout, open_desk, who
from .rollout import carry_on, make_due
from .status import Stopwatch, interruptible

__all__ = ["STEPS", "Step", "abort", "approve", "end_here", "go_on_at", "pause", "resume", "retry"]


async def resume(options: Options, progress_for: ProgressFor, rollout_id: str, patience: Patience) -> RunReport:
    """Go on with a rollout that is paused, or that a dead controller left; the failures that stopped it no longer do."""
    return await _go_on(options, progress_for, rollout_id, patience, "resume")


async def approve(options: Options, progress_for: ProgressFor, rollout_id: str, patience: Patience) -> RunReport:
    """Say that a rollout which waits for approval may begin its next wave, and go on with it."""
    return await _go_on(options, progress_for, rollout_id, patience, "approve")


async def retry(options: Options, progress_for: ProgressFor, rollout_id: str, patience: Patience) -> RunReport:
    """Give a rollout's failed devices another try."""
    return await _go_on(options, progress_for, rollout_id, patience, "retry")


Step = Callable[[Desk, Rollout], Awaitable[Rollout]]


async def _go_on(
    options: Options, progress_for: ProgressFor, rollout_id: str, patience: Patience, command: str
) -> RunReport:
    watch = Stopwatch()
    with interruptible(command, watch), progress_for(0) as progress:
        async with open_desk(options, progress, whole_fleet=True) as desk:
            return await go_on_at(desk, rollout_id, patience, command, watch)


async def go_on_at(desk: Desk, rollout_id: str, patience: Patience, command: str, watch: Stopwatch) -> RunReport:
    """Take the step that `command` of STEPS stands for, and carry the rollout out."""
    rollout = await desk.write(find_rollout, desk.state, desk.config.fleet, rollout_id)
    rollout = await STEPS[command](desk, rollout)
    told = {(o.device, o.model): o for o in await desk.write(desk.state.outcomes, rollout.id)}
    return await carry_on(desk, rollout, patience, command, watch, told)


async def _resumed(desk: Desk, rollout: Rollout) -> Rollout:
    await make_due(desk, rollout, desk.project.inventory.by_name)
    if rollout.state is RolloutState.RUNNING:
        return rollout
    if rollout.state is RolloutState.PLANNED:  # the controller died between writing it down and beginning
        return await desk.begun(rollout)
    rows = await desk.write(desk.state.rows, rollout.id)
    seen = [replace(r, forgiven=True) for r in rows if r.failed and r.device in rollout.behind]
    if rollout.state is RolloutState.PAUSED:
        await desk.write(desk.state.relocate, desk.hold, rollout.id, seen)
    return await _moved(desk, rollout, RolloutEvent.RESUME, replace(rollout, reason="", behind=(), request=""))


async def _approved(desk: Desk, rollout: Rollout) -> Rollout:
    after = replace(rollout, approved=rollout.wave + 1, reason="", behind=())
    return await _moved(desk, rollout, RolloutEvent.APPROVE, after)


async def _retried(desk: Desk, rollout: Rollout) -> Rollout:
    rows = await desk.write(desk.state.rows, rollout.id)
    changes = retries(rows)
    if not changes:
        raise UsageError(f"no device of {rollout.id} has failed")
    if rollout.state is RolloutState.RUNNING:
        await desk.write(desk.state.move, desk.hold, rollout.id, changes)
        return rollout
    events = {RolloutState.DONE: RolloutEvent.REOPEN, RolloutState.PAUSED: RolloutEvent.RESUME}
    if rollout.state not in events:
        raise UsageError(f"{rollout.id} is {rollout.state}: its devices can't be tried again; make a new rollout")
    after = replace(rollout, reason="", behind=(), request="")
    return await _moved(desk, rollout, events[rollout.state], after, changes)


STEPS: Mapping[str, Step] = {"resume": _resumed, "approve": _approved, "retry": _retried}


async def _moved(
    desk: Desk, before: Rollout, event: RolloutEvent, after: Rollout, changes: Sequence[Change] = ()
) -> Rollout:
    try:
        after = replace(after, state=move_rollout(before.state, event), updated_at=desk.clock.now())
    except IllegalMove:
        raise UsageError(f"{before.id} is {before.state}: there is nothing to {event}") from None
    await desk.write(desk.state.advance, desk.hold, before, event, after, changes, (), {"by": who()})
    return after


def pause(options: Options, rollout_id: str) -> str:
    """Stop a rollout from beginning further devices and return the sentence that says so."""
    return _ask(options, rollout_id, RolloutEvent.PAUSE)


def abort(options: Options, rollout_id: str) -> str:
    """End a rollout: what it has not begun is skipped.  Return the sentence that says so."""
    return _ask(options, rollout_id, RolloutEvent.ABORT)


def _ask(options: Options, rollout_id: str, event: RolloutEvent) -> str:
    config = load_config(options.config)
    with closing(open_state(config)) as state:
        rollout = find_rollout(state, config.fleet, rollout_id)
        try:
            move_rollout(rollout.state, event)
        except IllegalMove:
            raise UsageError(f"{rollout.id} is {rollout.state}: there is nothing to {event}") from None
        try:
            hold = state.acquire(config.fleet, this_process())
        except Held as held:
            state.ask(rollout.id, str(event), who())
            return f"asked for: the controller at work on {rollout.id} will {event} it ({held})"
        try:
            end_here(state, hold, rollout, event, SystemClock().now())
        finally:
            state.release(hold)
        return f"{rollout.id} is {move_rollout(rollout.state, event)}"


def end_here(state: StatePort, hold: Hold, rollout: Rollout, event: RolloutEvent, now: float) -> None:
    """Store PAUSE or ABORT ourselves, because nobody is at work; `now` is the epoch's seconds."""
    back, left = endings(state.rows(rollout.id))
    state.move(hold, rollout.id, back)
    changes = left if event is RolloutEvent.ABORT else []
    reason = f"{event} by {who()}"
    after = replace(rollout, state=move_rollout(rollout.state, event), reason=reason, behind=(), updated_at=now)
    state.advance(hold, rollout, event, after, changes, (), {"reason": reason})
