"""What a new rollout may do while another one is open: the rules in docs/rollouts.md, as functions of stored values.

An open rollout is one that is not over: planned, running, paused, or waiting for approval.  `litefleet rollout` continues it only
when the new plan is what the open rollout has left to do, device by device and release by release.  Otherwise it refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..common.errors import LitefleetError
from ..rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState
from ..rollout.gates import names

_KINDS = {"rollout": "a rollout", "rollback": "a rollback", "reconcile": "a repair"}
_TO_DO = (DeviceState.PENDING, DeviceState.OFFLINE)


class StillOpen(LitefleetError):
    """Another rollout of this fleet is open and differs from what was asked (exit code 3)."""

    exit_code = 3


@dataclass(frozen=True)
class Wanted:
    """What `litefleet rollout` was asked for, before any device is probed."""

    limit: str
    models: tuple[str, ...]
    policy: Policy


def still_open(rollout: Rollout, why: str, instead: str = "`litefleet rollout --supersede` replaces it, ") -> StillOpen:
    """Return the refusal that names the open rollout, the difference, and the commands that lead on."""
    go_on = "approve" if rollout.state is RolloutState.WAITING else "resume"
    state = (
        f"{rollout.id} is {'open' if rollout.state in (RolloutState.RUNNING, RolloutState.PLANNED) else rollout.state}"
    )
    return StillOpen(
        f"{state}: {why}.  `litefleet {go_on} {rollout.id}` continues it, {instead}`litefleet abort {rollout.id}` ends it"
    )


def different_command(rollout: Rollout, wanted: Wanted) -> str:
    """Return how the open rollout differs from the command, as far as no device has to be probed; "" when it does not."""
    if rollout.kind != "rollout":
        return f"it is {_KINDS[rollout.kind]}, and this command would be a new rollout"
    if rollout.state in (RolloutState.PAUSED, RolloutState.WAITING):
        return rollout.reason.rstrip(".") or "a person has to decide how it continues"
    if rollout.limit != wanted.limit:
        return f"it was made for {_selection(rollout.limit)}, and this command is for {_selection(wanted.limit)}"
    if set(rollout.models) != set(wanted.models):
        return f"it is of {', '.join(rollout.models)}, and this command is for {', '.join(wanted.models)}"
    if rollout.policy != wanted.policy:
        return "`rollout:` in litefleet.yaml has changed since it was made"
    return ""


def _selection(limit: str) -> str:
    return f"--limit {limit}" if limit else "the whole fleet"


def different_plan(
    rollout: Rollout,
    rows: Iterable[DeviceRow],
    plan: Sequence[DeviceRow],
    recipes: Mapping[str, str],
    inventory: Collection[str],
) -> str:
    """Return how what the open rollout has left to do differs from a new plan; "" when it does not.

    `recipes` is the new plan's recipe by model, for devices whose release is not decided yet; a model that cannot be made has
    none.  Devices that have left the inventory are not compared: the open rollout skips them.
    """
    rest = {(r.device, r.model): r for r in rows if not r.state.settled and r.device in inventory}
    planned = {(r.device, r.model): r for r in plan}
    settled = {(r.device, r.model): r for r in rows if r.state.settled}
    extra = [key for key, row in planned.items() if row.state in _TO_DO and key not in rest]
    if extra:
        device, model = extra[0]
        old = settled.get(extra[0])
        which = f"{device} is {old.state} in it" if old else f"it does not include {device}"
        return f"{which}, and the new plan brings {model} to {_others(device, extra)}"
    for key, row in rest.items():
        new = planned.get(key)
        if new is None or new.state is DeviceState.BLOCKED:
            return f"{row.model} on {row.device} is not done, and the new plan does not contain it"
        if not _same_release(rollout, row, new, recipes):
            return (
                f"it brings {row.device} {_short(row.release)} of {row.model}, and the new plan {_short(new.release)}"
            )
    return ""


def _same_release(rollout: Rollout, row: DeviceRow, new: DeviceRow, recipes: Mapping[str, str]) -> bool:
    if row.release and new.release:
        return row.release == new.release
    made_from = rollout.origin.get("recipes")
    old = made_from.get(row.model) if isinstance(made_from, dict) else None
    return old is None or old == recipes.get(row.model)


def _others(device: str, keys: Sequence[tuple[str, str]]) -> str:
    more = len({name for name, _ in keys}) - 1
    return f"{device} and {more} more" if more else device


def _short(release: str) -> str:
    return f"release {release[:12]}" if release else "a release that is not decided yet"


def given_up(rows: Iterable[DeviceRow], plan: Iterable[DeviceRow]) -> str:
    """Name the devices that a superseded rollout had not finished and that the new plan omits; "" if there are none."""
    planned = {(r.device, r.model) for r in plan if r.state is not DeviceState.BLOCKED}
    left = dict.fromkeys(r.device for r in rows if not r.state.settled and (r.device, r.model) not in planned)
    if not left:
        return ""
    return f"{names(left)} had not had {'its' if len(left) == 1 else 'their'} turn, and the new rollout does not include it"
