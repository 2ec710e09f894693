"""A rollout as a run's report: what became of each device that was reached, and how the whole stands."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..devices.outcome import DeviceOutcome, RunReport
from ..project.run_fleet import Interrupted, Stopwatch
from ..rollout import DeviceRow, DeviceState, Rollout

__all__ = ["Stopwatch", "about", "interruptible", "report_of"]


@contextmanager
def interruptible(command: str, watch: Stopwatch) -> Iterator[None]:
    """Make Ctrl-C an Interrupted wherever it strikes; what was committed by then stays."""
    try:
        yield
    except asyncio.CancelledError:
        raise Interrupted(RunReport(command, watch.stamp, watch.seconds, ())) from None


def about(rollout: Rollout, rows: Sequence[DeviceRow]) -> dict[str, Any]:
    """Return how a rollout stands, for a report."""
    return {
        "id": rollout.id,
        "kind": rollout.kind,
        "state": str(rollout.state),
        "wave": rollout.wave + 1,
        "waves": len(rollout.waves),
        "reason": rollout.reason,
        "devices": list(rollout.behind),
        "counts": dict(Counter(row.state for row in rows)),
    }


def report_of(
    command: str,
    watch: Stopwatch,
    rollout: Rollout | None,
    rows: Sequence[DeviceRow],
    outcomes: Mapping[tuple[str, str], DeviceOutcome],
) -> RunReport:
    """Return the report: devices whose turn did not come are only counted."""
    shown = [outcomes[key] for row in rows if (key := (row.device, row.model)) in outcomes and not _untouched(row)]
    return RunReport(command, watch.stamp, watch.seconds, tuple(shown), about(rollout, rows) if rollout else {})


def _untouched(row: DeviceRow) -> bool:
    return row.state is DeviceState.SKIPPED or (row.state is DeviceState.PENDING and row.attempts == 0)
