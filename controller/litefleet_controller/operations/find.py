"""Finds the rollout that a command is about, in the state alone: commands that only read it start without the engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..common.errors import UsageError
from ..rollout import DeviceRow, DeviceState, Rollout, RolloutState

if TYPE_CHECKING:
    from ..devices.outcome import DeviceOutcome
    from ..rollout.conditions import RowSummary
    from ..state import StateReader

SEARCHED = 20  # latest rollouts


@dataclass(frozen=True)
class RolloutStatus:
    """One rollout as recorded in the project's state; no device is contacted.

    `rows` has one entry for each device and model, `outcomes` the last outcome of each that was reached.  In brief they hold
    what a text names: then `summary` counts all rows, and `sent_besides` is what the other outcomes sent, in bytes.
    """

    rollout: Rollout
    rows: tuple[DeviceRow, ...]
    outcomes: tuple[DeviceOutcome, ...]
    holder: str = ""  # the controller that runs the fleet at the moment, "" for none
    older: str = ""  # why this state is not the latest copy, as far as is known
    running: Mapping[tuple[str, str], float] = field(
        default_factory=dict
    )  # failed (device, model) that ran it, when seen
    versions: Mapping[str, str] = field(default_factory=dict)  # of the stored releases, by their ids
    summary: RowSummary | None = None
    sent_besides: int = 0


def read_status(
    state: StateReader, fleet: str, rollout_id: str = "", chosen: Collection[str] | None = None
) -> RolloutStatus:
    """Return where a rollout stands, of the chosen devices or of all.

    Raises: UsageError for an unknown rollout.
    """
    one = find_rollout(state, fleet, rollout_id)
    rows = tuple(row for row in state.rows(one.id) if chosen is None or row.device in chosen)
    return _status(state, one, rows, state.outcomes(one.id, chosen))


def read_status_in_brief(state: StateReader, fleet: str, rollout_id: str = "") -> RolloutStatus:
    """Return where a rollout stands as far as a text shows it.

    Raises: UsageError for an unknown rollout.
    """
    one = find_rollout(state, fleet, rollout_id)
    found = state.in_brief(one.id)
    status = _status(state, one, found.rows, found.outcomes)
    return replace(status, summary=found.summary, sent_besides=found.sent_bytes)


def _status(
    state: StateReader, one: Rollout, rows: tuple[DeviceRow, ...], outcomes: tuple[DeviceOutcome, ...]
) -> RolloutStatus:
    return RolloutStatus(
        one,
        rows,
        outcomes,
        str(state.holder(one.fleet) or ""),
        state.behind(one.fleet),
        {key: entry.at for key, entry in state.runs_failed(one.id).items()},
        state.versions(),
    )


def find_rollout(state: StateReader, fleet: str, rollout_id: str = "", command: str = "") -> Rollout:
    """Return a rollout by its id; without one, the open rollout, else the latest; UsageError when there is none.

    With `command` ("abort", "resume", …) only an open one counts; for "retry", the latest that has failed devices to retry.
    """
    if rollout_id:
        found = state.rollout(rollout_id)
        if found is None or found.fleet != fleet:
            raise UsageError(
                f"there is no rollout {rollout_id} of the fleet '{fleet}'; `litefleet status --all` lists them"
            )
        return found
    latest = state.rollouts(fleet, SEARCHED)
    if not latest:
        raise UsageError(f"the fleet '{fleet}' has had no rollout yet: `litefleet rollout` makes the first")
    open_ones = [rollout for rollout in latest if not rollout.state.over]
    if command == "retry":
        retried = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.DONE)
        return next((r for r in latest if r.state in retried and to_retry(state, r)), latest[0])
    if command and len(open_ones) > 1:
        raise UsageError(f"{', '.join(r.id for r in open_ones)} are open: name the one to {command}")
    if command and not open_ones:
        hint = "`litefleet status --all` lists the rollouts"
        raise UsageError(
            f"nothing to {command}: no rollout is open, the latest, {latest[0].id}, is {latest[0].state}; {hint}"
        )
    return open_ones[0] if open_ones else latest[0]


def to_retry(state: StateReader, rollout: Rollout) -> tuple[DeviceRow, ...]:
    """Return a rollout's failed rows, but for devices that a newer rollout or rollback has brought what it asked for."""
    failed = tuple(row for row in state.rows(rollout.id) if row.state is DeviceState.FAILED)
    if not failed:
        return ()
    latest = state.rollouts(rollout.fleet, SEARCHED)
    ids = [r.id for r in latest]
    newer = latest[: ids.index(rollout.id)] if rollout.id in ids else latest
    changed = {
        (row.device, row.model) for r in newer if r.kind != "reconcile" for row in state.rows(r.id) if row.state.well
    }
    return tuple(row for row in failed if (row.device, row.model) not in changed)
