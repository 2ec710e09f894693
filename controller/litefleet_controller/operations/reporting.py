"""A rollout as a run's report: what became of each device that was reached, and how the whole stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..outcome import DeviceOutcome, RunReport
from ..rollout import DeviceState, Rollout, Row
from ..run import Interrupted

__all__ = ["Stopwatch", "about", "interruptible", "report_of"]


@dataclass(frozen=True)
class Stopwatch:
    """When a run began."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)

    @property
    def stamp(self) -> str:
        """ISO 8601, UTC."""
        return self.started.isoformat(timespec="seconds").replace("+00:00", "Z")

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.clock


@contextmanager
def interruptible(command: str, watch: Stopwatch) -> Iterator[None]:
    """Make Ctrl-C an Interrupted wherever it strikes; what was committed by then stays."""
    try:
        yield
    except asyncio.CancelledError:
        raise Interrupted(RunReport(command, watch.stamp, watch.seconds, ())) from None


def about(rollout: Rollout, rows: Sequence[Row]) -> dict[str, Any]:
    """Return how a rollout stands, for a report."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    return {
        "id": rollout.id,
        "kind": rollout.kind,
        "state": str(rollout.state),
        "wave": rollout.wave + 1,
        "waves": len(rollout.waves),
        "reason": rollout.reason,
        "devices": list(rollout.behind),
        "counts": counts,
    }


def report_of(
    command: str,
    watch: Stopwatch,
    rollout: Rollout | None,
    rows: Sequence[Row],
    outcomes: Mapping[tuple[str, str], DeviceOutcome],
) -> RunReport:
    """Return the report: devices whose turn did not come are only counted."""
    shown = [outcomes[key] for row in rows if (key := (row.device, row.model)) in outcomes and not _untouched(row)]
    return RunReport(command, watch.stamp, watch.seconds, tuple(shown), about(rollout, rows) if rollout else {})


def _untouched(row: Row) -> bool:
    return row.state is DeviceState.SKIPPED or (row.state is DeviceState.PENDING and row.attempts == 0)
