"""Runs a rollout's engine, and reports each device's outcome and the rollout's state."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..common.errors import UsageError
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..project.run_fleet import Stopwatch
from ..rollout import DeviceRow, DeviceState, IllegalMove, Rollout, RolloutEvent
from ..rollout.states import move_rollout
from ..rollout_engine.store import endings
from ..state.model import RowChange
from .context import RolloutContext

__all__ = ["Stopwatch", "about", "end_rollout", "interruptible", "make_due", "report_of"]


@contextmanager
def interruptible(command: str, watch: Stopwatch) -> Iterator[None]:
    """Turn Ctrl-C into Interrupted; what is committed stays."""
    try:
        yield
    except asyncio.CancelledError:
        raise Interrupted(RunReport(command, watch.stamp, watch.seconds, ())) from None


def about(rollout: Rollout, rows: Sequence[DeviceRow]) -> dict[str, object]:
    """Return a rollout's state and counts, for a report; `offline`: devices that are tried again, `next_try_at` an epoch time."""
    offline = [row for row in rows if row.state is DeviceState.OFFLINE]
    return {
        "id": rollout.id,
        "kind": rollout.kind,
        "state": str(rollout.state),
        "wave": rollout.wave + 1,
        "waves": len(rollout.waves),
        "reason": rollout.reason,
        "devices": list(rollout.behind),
        "counts": dict(Counter(row.state for row in rows)),
        "not_begun": [
            {"device": row.device, "model": row.model, "state": row.state.value, "wave": row.wave + 1}
            for row in rows
            if untouched(row)
        ],
        "offline": len({row.device for row in offline}),
        "next_try_at": min((row.next_try_at for row in offline), default=0.0),
    }


def report_of(
    command: str,
    watch: Stopwatch,
    rollout: Rollout | None,
    rows: Sequence[DeviceRow],
    outcomes: Mapping[tuple[str, str], DeviceOutcome],
) -> RunReport:
    """Return the report; devices that were not begun are only named."""
    shown = [outcomes[key] for row in rows if (key := (row.device, row.model)) in outcomes and not untouched(row)]
    return RunReport(command, watch.stamp, watch.seconds, tuple(shown), about(rollout, rows) if rollout else {})


def untouched(row: DeviceRow) -> bool:
    """Whether a row was not begun, so that it has no outcome."""
    return row.state is DeviceState.SKIPPED or (row.state is DeviceState.PENDING and row.attempts == 0)


async def end_rollout(context: RolloutContext, rollout: Rollout, reason: str) -> None:
    """End an open rollout: what it has not begun is skipped, and nothing continues it."""
    released, left = endings(await context.read(context.state.rows, rollout.id))
    after = replace(
        rollout,
        state=move_rollout(rollout.state, RolloutEvent.ABORT),
        reason=reason,
        behind=(),
        request="",
        updated_at=context.clock.now(),
    )
    await context.write(context.state.move, context.lock, rollout.id, released)
    details = {"reason": reason}
    await context.write(context.state.advance, context.lock, rollout, RolloutEvent.ABORT, after, left, (), details)


async def make_due(context: RolloutContext, rollout: Rollout, devices: Container[str]) -> None:
    """Make these devices' offline rows due now instead of at their next retry."""
    now = context.clock.now()
    rows = await context.read(context.state.rows, rollout.id)
    due = [
        replace(
            r, next_try_at=now, offline_since=now
        )  # however long they were away: a person or an answer asks for a try
        for r in rows
        if r.state is DeviceState.OFFLINE and r.device in devices
    ]
    if due:
        await context.write(context.state.relocate, context.lock, rollout.id, due)


async def moved(
    context: RolloutContext, before: Rollout, event: RolloutEvent, after: Rollout, changes: Sequence[RowChange] = ()
) -> Rollout:
    """Store a person's decision about a rollout and return it as it is afterwards.  Raises UsageError where it has no effect."""
    try:
        after = replace(after, state=move_rollout(before.state, event), updated_at=context.clock.now())
    except IllegalMove:
        raise UsageError(f"{before.id} is {before.state}: there is nothing to {event}") from None
    await context.write(context.state.advance, context.lock, before, event, after, changes, (), {"by": context.actor})
    return after
