"""`litefleet state adopt`: what the devices run becomes what is confirmed, and from then on they follow this state.

For a state that is older than its devices (restored from a backup, emptied), or that takes over from another one.  Devices are
asked first and the result is shown; only what was shown is adopted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from litefleet_agent.findings import finding
from litefleet_agent.releases.journal import NOBODY
from litefleet_inventory.model import Device

from ..common.checked import mapping_or_empty
from ..common.errors import UsageError
from ..devices.agent_client import Request
from ..devices.deliver import fingerprint_of, measurements_of, open_lease
from ..devices.identity import Identity, told_of
from ..devices.outcome import DeviceOutcome, RunReport
from ..devices.progress import Progress
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..project import Options
from ..project.project import Project, open_project, open_state
from ..project.run_fleet import fan_out
from ..rollout.gates import names
from ..state import State, StateDamaged
from ..state.model import Confirmed, KnownDevice
from ..state.schema import sqlite_path
from .context import ProgressFor, RolloutContext, open_context
from .run import Stopwatch, end_rollout, interruptible


@dataclass(frozen=True)
class SeenDevice:
    """What one device answered."""

    name: str
    hello: Mapping[str, object]
    facts: Mapping[str, object]
    host_key: str
    conflict: str = ""  # who switched it last, if not this state
    confirmed: Mapping[str, str] = field(default_factory=dict)  # model -> release, as this state has it

    @property
    def runs(self) -> dict[str, str]:
        """Return model -> release; under an open lease the release that the device returns to without a confirmation."""
        found = {}
        for model, release in mapping_or_empty(self.hello.get("current")).items():
            lease = open_lease(self.hello, model)
            found[model] = str((lease.get("before") if lease is not None else release) or "")[:64]
        return {model: release for model, release in found.items() if release}

    @property
    def differs(self) -> bool:
        """Whether adopting it changes anything."""
        return bool(self.conflict) or self.runs != self.confirmed


@dataclass(frozen=True)
class Adoption:
    """What an adoption would do."""

    devices: tuple[SeenDevice, ...]
    unreached: tuple[DeviceOutcome, ...]
    ends: tuple[str, ...]  # open rollouts that end, because they include an adopted device
    older: str = ""  # why this database is not the latest copy

    @property
    def needed(self) -> bool:
        """Whether there is anything to adopt."""
        return bool(self.older) or any(device.differs for device in self.devices)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "state adopt",
            "older": self.older,
            "ends": list(self.ends),
            "unreached": [outcome.device for outcome in self.unreached],
            "devices": [
                {"device": d.name, "conflict": d.conflict, "runs": d.runs, "confirmed": dict(d.confirmed)}
                for d in self.devices
            ],
        }

    def text(self) -> str:
        """Return the preview that is shown before anything is done."""
        lines = [self.older] if self.older else []
        for device in self.devices:
            runs = ", ".join(f"{model} {release[:12]}" for model, release in device.runs.items()) or "nothing"
            lines.append(f"  {device.name}  runs {runs}: {_change(device)}")
        if self.unreached:
            lines.append(f"not reached, to be adopted later with --limit: {names([o.device for o in self.unreached])}")
        if self.ends:
            lines.append(f"end, because they were made before: {', '.join(self.ends)}")
        lines.append("What the devices run becomes what is confirmed; no release on them changes.")
        return "\n".join(lines)


def _change(device: SeenDevice) -> str:
    if not device.differs:
        return "confirmed already"
    was = ", ".join(f"{model} {release[:12]}" for model, release in device.confirmed.items()) or "nothing"
    why = f" ({device.conflict})" if device.conflict else ""
    return f"confirmed here was {was}{why}" if device.runs != device.confirmed else f"follows this state{why}"


async def plan_adoption(options: Options, progress_for: ProgressFor) -> Adoption:
    """Ask the selected devices what they run and whose state switched them, and return what an adoption would do.

    Raises: ConfigError, UsageError, StateError.
    """
    project, watch = open_project(options), Stopwatch()
    with interruptible("state-adopt", watch), progress_for(len(project.devices)) as progress:
        try:
            with closing(open_state(project.config)) as state:
                stored = stored_of(state, project.config.fleet)
        except StateDamaged as error:
            stored = Stored(Identity(project.config.fleet), older=str(error))
        return await look(project, project.session_factory(progress, keep_agent=False), stored, progress)


@dataclass(frozen=True)
class Stored:
    """What a state holds of a fleet, as far as an adoption needs it."""

    identity: Identity
    confirmed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # device -> model -> release
    open_rollouts: Mapping[str, frozenset[str]] = field(default_factory=dict)  # id -> devices
    older: str = ""  # why the database is not the latest copy


def stored_of(state: State, fleet: str) -> Stored:
    """Return what a state holds."""
    confirmed: dict[str, dict[str, str]] = {}
    for (device, model), entry in state.confirmed().items():
        if entry.release:
            confirmed.setdefault(device, {})[model] = entry.release
    rollouts = {
        rollout.id: frozenset(row.device for row in state.rows(rollout.id))
        for rollout in state.rollouts(fleet, 20)
        if not rollout.state.over
    }
    return Stored(state.identity(fleet), confirmed, rollouts, state.behind(fleet))


async def look(project: Project, session_factory: SessionFactory, stored: Stored, progress: Progress) -> Adoption:
    """Ask the selected devices; nothing on them changes."""
    seen: dict[str, SeenDevice] = {}

    async def ask(device: Device) -> list[DeviceOutcome]:
        async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
            conflict = stored.identity.problem(told_of(session.hello))
            facts, confirmed = session.reported_facts, stored.confirmed.get(device.name, {})
            seen[device.name] = SeenDevice(device.name, session.hello, facts, session.host_key, conflict, confirmed)
            done.append(session.outcome("", ()))

        return await open_session(session_factory, device, [""], work)

    outcomes, _ = await fan_out(project, project.devices, ask, progress)
    answered = tuple(seen[device.name] for device in project.devices if device.name in seen)
    changed = {device.name for device in answered if device.differs}
    ends = tuple(name for name, devices in stored.open_rollouts.items() if stored.older or devices & changed)
    return Adoption(answered, tuple(o for o in outcomes if o.device not in seen), ends, stored.older)


async def adopt_state(options: Options, progress_for: ProgressFor, adoption: Adoption) -> RunReport:
    """Carry out an adoption that a person has seen; a damaged database is first moved aside.

    Raises: StateError, ConfigError, UsageError; FleetLocked while another controller is at work here.
    """
    watch = Stopwatch()
    with interruptible("state-adopt", watch), progress_for(len(adoption.devices)) as progress:
        _set_aside_if_damaged(open_project(options))
        async with open_context(options, progress, adopting=True) as context:
            return await adopt_with_context(context, adoption, watch)


async def adopt_with_context(context: RolloutContext, adoption: Adoption, watch: Stopwatch) -> RunReport:
    """Do what `adopt_state` does, in an open context."""
    if not adoption.devices:
        raise UsageError("no selected device answers: nothing was adopted")
    identity = await _store(context, adoption)
    outcomes = await _follow(context, identity, adoption)
    report = RunReport("state-adopt", watch.stamp, watch.seconds, (*outcomes, *adoption.unreached))
    return await context.keep(report)


def _set_aside_if_damaged(project: Project) -> None:
    """Rename a damaged SQLite file, with what belongs to it, so that a new one can be made; nothing is deleted."""
    config = project.config
    path = sqlite_path(config.state or config.store / "state.db")
    try:
        open_state(config).close()
    except StateDamaged:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        for suffix in ("", "-wal", "-shm", ".id"):
            old = Path(f"{path}{suffix}")
            if old.exists():
                old.rename(f"{path}.damaged-{stamp}{suffix}")


async def _store(context: RolloutContext, adoption: Adoption) -> Identity:
    """Store what the devices run, and return the identity to send them."""
    for rollout_id in adoption.ends:
        rollout = await context.read(context.state.rollout, rollout_id)
        if rollout is not None and not rollout.state.over:
            await end_rollout(context, rollout, f"the devices were adopted by {context.actor}")
    now, entries, known = context.clock.now(), [], []
    for device in adoption.devices:
        fingerprint = fingerprint_of(device.hello)
        known.append(KnownDevice(device.name, device.facts, fingerprint, now, device.host_key))
        for model, release in device.runs.items():
            stored = await context.read(context.state.stored_release, release)
            artifact, runtime = (stored.artifact, stored.runtime_key) if stored is not None else ("", "")
            measured = measurements_of(device.hello, release)
            entries.append(Confirmed(device.name, model, release, artifact, runtime, fingerprint, "", now, measured))
    details = {
        "devices": {device.name: device.runs for device in adoption.devices[:200]},
        "led_by": {d.name: dict(mapping_or_empty(d.hello.get("told"))) for d in adoption.devices[:200] if d.conflict},
        "older": adoption.older[:500],
    }
    return await context.write(context.state.adopt, context.lock, entries, known, True, context.actor, details)


async def _follow(context: RolloutContext, identity: Identity, adoption: Adoption) -> tuple[DeviceOutcome, ...]:
    """Have each adopted device follow this state, unless it changed since it was shown."""
    seen = {device.name: device for device in adoption.devices}
    by_name = context.project.inventory.by_name

    async def tell(device: Device) -> list[DeviceOutcome]:
        async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
            shown = seen[device.name]
            if (session.hello.get("told"), session.hello.get("current")) != (
                shown.hello.get("told"),
                shown.hello.get("current"),
            ):
                why = "it was switched again after the preview: run `litefleet state adopt` again"
                done.append(session.outcome("", [finding("LF630", why)]))
                return
            if told_of(session.hello) != NOBODY:
                await session.ask(Request("follow", identity.order(session.hello)))
            for model, release in shown.runs.items() or [("", "")]:
                done.append(session.outcome(model, session.notes, release, unchanged=True, activated=True))

        return await open_session(context.session_factory, device, list(seen[device.name].runs) or [""], work)

    devices = [by_name[name] for name in seen if name in by_name]
    outcomes, _ = await fan_out(context.project, devices, tell, context.progress)
    return outcomes


def state_of(state: State, fleet: str) -> dict[str, object]:
    """Return the state's identity for one fleet, for people and scripts."""
    identity = state.identity(fleet)
    return {
        "schema": 1,
        "command": "state show",
        "fleet": fleet,
        "state": identity.state,
        "number": identity.number,
        "older": state.behind(fleet),
    }
