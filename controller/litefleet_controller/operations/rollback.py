"""`litefleet rollback`: reverts, device by device, what a rollout switched on; or makes a kept release current.  Nothing is sent.

Without `--to` a rollout is chosen (`--rollout`, else the latest that switched something on).  Its devices go back to what ran
before it there, devices that it did not reach stay untouched, and it ends, so that nothing continues it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from ..common.errors import UsageError
from ..devices.outcome import RunReport, release_name
from ..devices.steps import WaitPolicy
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..rollout import DeviceRow, Rollout, RolloutEvent, RolloutState, Wave
from ..rollout.policy import Gates
from ..state import State
from .conflicts import check_devices
from .context import ProgressFor, RolloutContext, open_context
from .find import find_rollout
from .open_rollouts import still_open
from .run import Stopwatch, end_rollout, interruptible, make_due, moved, report_of

_CHOICES = 12  # versions named where `--to` is none of them
_NAMED = 40  # devices named in one line of the preview
_AHEAD = 50  # rollouts that are searched for the latest that switched something on


@dataclass(frozen=True)
class Target:
    """What to go back to: "previous", "nothing", a version, or a release's id (its first 8 characters or more); and where."""

    to: str = "previous"
    rollout: str = ""  # the rollout to revert; "" = the latest that switched something on
    wave: int = 0  # only this wave of it, from 1; 0 = all

    def check(self) -> None:
        """Raise UsageError for a target that cannot exist."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", self.to):
            raise UsageError(
                f"--to {self.to[:80]}: write previous, nothing, a version as `litefleet devices` shows it, or the first 8 or "
                "more characters of a release's id"
            )
        if self.wave and not self.rollout:
            raise UsageError("--wave needs --rollout: a wave is one of a rollout's")

    def fields(self) -> dict[str, str | int]:
        """Return the target as a rollback's `origin` stores it."""
        return {"to": self.to, "of": self.rollout, "of_wave": self.wave}


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback would do; `rows` name the release that each device goes back to, "" = decided on the device."""

    target: Target
    parent: Rollout | None  # the rollout that is reverted; None: a release is made current without one
    rows: tuple[DeviceRow, ...]
    untouched: tuple[str, ...] = ()  # devices of the parent that it never reached
    open_one: Rollout | None = None  # the same rollback, begun before and not finished
    versions: Mapping[str, str] = field(default_factory=dict)  # of the releases, by their ids

    @property
    def closes(self) -> bool:
        """Whether the parent is still open, and ends with this rollback."""
        return self.parent is not None and not self.parent.state.over

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "rollback",
            "to": self.target.to,
            "rollout": self.parent.id if self.parent else "",
            "closes": self.closes,
            "continues": self.open_one.id if self.open_one else "",
            "devices": [self._device(r) for r in self.rows],
            "untouched": list(self.untouched),
        }

    def keeps(self, row: DeviceRow) -> bool:
        """Whether the device keeps what it runs, and reports LF613: nothing ran there before the rollout."""
        return self.parent is not None and self._to(row) == "previous"

    def _device(self, row: DeviceRow) -> dict[str, str]:
        to = "" if self.keeps(row) else self._to(row)
        version = to if to in self.versions.values() else self.versions.get(to, "")
        named = {"runs_version": self.versions.get(row.before, ""), "to_version": version}
        return {"device": row.device, "model": row.model, "runs": row.before, "to": to, **named}

    def text(self) -> str:
        """Return the preview that is shown before anything is done: devices with the same change are in one line."""
        lines = [f"rollback of {self.parent.id}" if self.parent else f"rollback to {self.target.to}"]
        groups: dict[tuple[str, str, str], list[str]] = {}
        for r in self.rows:
            groups.setdefault((r.model, r.before, self._to(r)), []).append(r.device)
        for (model, runs, to), names in groups.items():
            now = release_name(runs, self.versions.get(runs, "")) if runs else "unknown"
            then = "what ran before it" if to == "previous" else self._name(to)
            if to == "previous" and self.parent is not None:  # as `keeps`
                then = "stays: nothing ran there before it (--to nothing switches it off)"
            lines.append(f"  {model}: {now} → {then}, {len(names)} device{'' if len(names) == 1 else 's'}")
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"    {', '.join(names[:_NAMED])}{more}")
        if not self.rows and self.parent is not None:
            lines.append(f"{self.parent.id} has switched nothing on: every device keeps the release that it runs")
        if self.untouched:
            more = f" and {len(self.untouched) - _NAMED} more" if len(self.untouched) > _NAMED else ""
            lines.append(f"not reached by it, stay as they are: {', '.join(self.untouched[:_NAMED])}{more}")
        if self.closes and self.parent is not None:
            lines.append(f"{self.parent.id} is {self.parent.state} and ends: nothing continues it")
        if self.open_one is not None:
            lines.append(f"continues {self.open_one.id}")
        return "\n".join(lines)

    def _name(self, to: str) -> str:
        return to if to in self.versions.values() else release_name(to, self.versions.get(to, ""))

    def _to(self, row: DeviceRow) -> str:
        return row.release or self.target.to


def meant(to: str, versions: Iterable[str]) -> str:
    """Return what `--to` means: as it is written, or the one of `versions` that it is or begins.

    Raises: UsageError with the versions to choose from, where it is none or begins several.
    """
    known = sorted(set(versions))
    if to in ("previous", "nothing", *known) or re.fullmatch(r"[0-9a-f]{8,64}", to):
        return to
    begun = [version for version in known if version.startswith(to)]
    if len(begun) == 1:
        return begun[0]
    listed = ", ".join((begun or known)[-_CHOICES:]) or "none"
    what = "begins several versions" if begun else "names no stored version"
    raise UsageError(f"--to {to}: it {what}; choose one of: {listed}. `litefleet devices` shows what runs where")


def plan_rollback(options: Options, target: Target) -> RollbackPlan:
    """Return what a rollback would do, from what is stored; no device is contacted.

    Raises: UsageError for a target that cannot be; StillOpen while another rollout or rollback is in the way.
    """
    target.check()
    project = open_project(options)
    with closing(open_state(project.config)) as state:
        state.check_identity(project.config.fleet)
        return replace(_plan(state, project, target), versions=state.versions())


async def roll_back(options: Options, progress_for: ProgressFor, target: Target) -> RunReport:
    """Revert every chosen device and return the report.

    Raises: UsageError for a target that cannot be; StillOpen while another rollout or rollback is in the way.
    """
    target.check()
    watch = Stopwatch()
    with interruptible("rollback", watch), progress_for(0) as progress:
        async with open_context(options, progress) as context:
            return await roll_back_with_context(context, target, watch)


async def roll_back_with_context(
    context: RolloutContext, target: Target, watch: Stopwatch, checked: bool = False
) -> RunReport:
    """Do what `roll_back` does, in an open context; `checked`: it is known that no other state leads the devices."""
    plan = await context.read(_plan, context.state, context.project, target)
    if not checked:
        await check_devices(context, (row.device for row in plan.rows))
    if not plan.rows and plan.parent is not None and plan.open_one is None:
        await end_rollout(context, plan.parent, f"rolled back by {context.actor}, before it switched anything on")
        ended = await context.read(context.state.rollout, plan.parent.id) or plan.parent
        report = report_of("rollback", watch, ended, await context.read(context.state.rows, ended.id), {})
        return await context.keep(replace(report, rollout={**report.rollout, "state": "rolled back"}))
    if plan.open_one is not None:
        context.progress.message(f"resuming {plan.open_one.id}")
        rollout = await context.mark_running(plan.open_one)
        if rollout.state is RolloutState.PAUSED:  # whoever types it again wants it to continue
            rollout = await moved(context, rollout, RolloutEvent.RESUME, replace(rollout, reason="", behind=()))
        await make_due(context, rollout, context.project.inventory.by_name)
    else:
        if plan.parent is not None and plan.closes:
            await end_rollout(context, plan.parent, f"rolled back by {context.actor}")
            context.progress.message(f"{plan.parent.id} ends: it is rolled back")
        rollout = await _create(context, plan)
    engine = await context.run_engine(rollout, WaitPolicy.WAVES)
    report = report_of("rollback", watch, engine.rollout, engine.rows, engine.outcomes)
    return await context.keep(report)


def _plan(state: State, project: Project, target: Target) -> RollbackPlan:
    target = replace(target, to=meant(target.to, state.versions().values()))
    latest = state.rollouts(project.config.fleet, _AHEAD)
    open_ones = [r for r in latest if not r.state.over]
    same = next((r for r in open_ones if _is_same(r, project, target)), None)
    if same is not None:
        parent = state.rollout(same.parent) if same.parent else None
        return RollbackPlan(target, parent, state.rows(same.id), open_one=same)
    other = next((r for r in open_ones if r.kind != "rollout"), None)
    if other is not None:
        kind = "another rollback" if other.kind == "rollback" else "a repair"
        raise still_open(other, f"{kind} is under way", "")
    if (stopped := _stopped_before_it_switched(state, open_ones, project, target)) is not None:
        return RollbackPlan(target, stopped, (), tuple(dict.fromkeys(r.device for r in state.rows(stopped.id))))
    parent = _parent(state, latest, project, target)
    open_rollout = next((r for r in open_ones if parent is None or r.id != parent.id), None)
    if open_rollout is not None:
        why = "a rollout is under way, and this command is not about it"
        raise still_open(open_rollout, why, f"`litefleet rollback --rollout {open_rollout.id}` reverts and ends it, ")
    if parent is None:
        return RollbackPlan(target, None, _rows(state, project, _selected(project)))
    return _of_rollout(state, project, target, parent)


def _stopped_before_it_switched(
    state: State, open_ones: Sequence[Rollout], project: Project, target: Target
) -> Rollout | None:
    """Return the open rollout that a plain `rollback` means where it has switched nothing on: it only ends."""
    if target != Target() or project.options.limit or not open_ones:
        return None
    return None if state.switched_on(open_ones[0].id) else open_ones[0]


def _is_same(rollout: Rollout, project: Project, target: Target) -> bool:
    """Return whether an open rollback was asked for with the same words: begun again, "previous" would be the newer release."""
    return (
        rollout.kind == "rollback"
        and rollout.limit == project.options.limit
        and set(rollout.models) == set(project.models)
        and target.fields().items() <= rollout.origin.items()
    )


def _parent(state: State, latest: Sequence[Rollout], project: Project, target: Target) -> Rollout | None:
    """Return the rollout that is to be reverted; None where a release is made current on the chosen devices."""
    if target.rollout:
        found = find_rollout(state, project.config.fleet, target.rollout)
        if found.kind == "rollback":
            raise UsageError(f"{found.id} is a rollback: `litefleet rollout` brings the newer release again")
        return found
    if target.to != "previous":
        return None
    chosen = set(_selected(project))
    for rollout in latest:
        if rollout.kind != "rollback" and state.switched_on(rollout.id) & chosen:
            return rollout
    if project.options.limit:
        return None  # installed without a rollout: each device knows what ran before
    raise UsageError(
        "no rollout has switched anything on that is not reverted yet: name devices with --limit, or a release with --to"
    )


def _selected(project: Project) -> list[tuple[str, str]]:
    return [(device.name, model) for device in project.devices for model in project.models_of(device)]


def _of_rollout(state: State, project: Project, target: Target, parent: Rollout) -> RollbackPlan:
    stored = {(r.device, r.model): r for r in state.rows(parent.id)}
    switched, chosen = state.switched_on(parent.id), _selected(project)
    wanted = [key for key in chosen if key in switched and key in stored and target.wave in (0, stored[key].wave + 1)]
    if not wanted:
        raise UsageError(
            f"{parent.id} has switched nothing on that is left to revert on the chosen devices; "
            f"`litefleet status {parent.id}` shows where it stands"
        )
    before = {key: stored[key].before for key in wanted} if target.to == "previous" else {}
    reached = {device for device, _ in switched}
    untouched = tuple(dict.fromkeys(d for d, _ in stored if d not in reached))
    return RollbackPlan(target, parent, _rows(state, project, wanted, before), untouched)


def _rows(
    state: State,
    project: Project,
    pairs: Collection[tuple[str, str]],
    targets: dict[tuple[str, str], str] | None = None,
) -> tuple[DeviceRow, ...]:
    confirmed, by_name = state.confirmed(), project.inventory.by_name
    return tuple(
        DeviceRow(
            device=device,
            model=model,
            wave=0,
            position=number,
            jump=by_name[device].jump,
            release=(targets or {}).get((device, model), ""),
            before=confirmed[(device, model)].release if (device, model) in confirmed else "",
        )
        for number, (device, model) in enumerate(pairs)
    )


async def _create(context: RolloutContext, plan: RollbackPlan) -> Rollout:
    at_once = {
        "waves": ("100%",),
        "stratify": False,  # the releases have run on these devices
        "gates": Gates.none(),
        "soak": 0.0,
        "approve": False,
        "windows": (),
    }
    now = context.clock.now()
    latest = await context.read(context.state.rollouts, context.config.fleet, 20)
    reverted = plan.parent or next((r for r in latest if r.kind != "rollback"), None)
    rollout = Rollout(
        id="",
        fleet=context.config.fleet,
        kind="rollback",
        state=RolloutState.PLANNED,
        policy=context.config.rollout.model_copy(update=at_once),
        waves=(Wave(len({r.device for r in plan.rows}), "100%"),),
        created_at=now,
        by=context.actor,
        models=context.project.models,
        parent=reverted.id if reverted else "",
        limit=context.project.options.limit,
        origin={**context.origin(), **plan.target.fields()},
        updated_at=now,
    )
    details = {"to": plan.target.to, "devices": sorted({r.device for r in plan.rows})[:200], "parent": rollout.parent}
    made = await context.write(context.state.create, context.lock, rollout, plan.rows, [], details)
    return await context.mark_running(made)
