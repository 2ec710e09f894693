"""A controller that dies at a chosen commit: just before it, or just after it, and does nothing more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from litefleet_controller.devices.release import Release
from litefleet_controller.rollout import DeviceRow, Rollout, RolloutEvent
from litefleet_controller.state import State
from litefleet_controller.state.model import Confirmed, FleetLock, KnownDevice, RowChange

from tests.sim.sim_fleet import SimFleet

__all__ = ["Death", "Killed", "Label", "Moment", "MortalState", "MortalWriter"]

_T = TypeVar("_T")
Label = tuple[str, str]  # (state, event) of a table, or ("call", name) for what moves nothing


class Killed(BaseException):
    """The process is no more."""


@dataclass(frozen=True)
class Moment:
    """The commit of the `number`-th (from 1) move of one kind; `after` it, else before."""

    label: Label
    number: int = 1
    after: bool = False


@dataclass
class Death:
    """What was committed, and when the process dies; `planned` strikes once in all, `wanted` is the story's own."""

    fleet: SimFleet
    planned: Moment | None = None
    wanted: Moment | None = None
    dead: bool = False
    trail: list[tuple[Label, str, float]] = field(default_factory=list)  # label, device, the clock's `elapsed`
    hooks: dict[Label, Callable[[str], None]] = field(default_factory=dict)  # called once, after that commit
    faults: list[str] = field(default_factory=list)
    struck: int = 0  # deaths that were planned

    def commit(self, labels: Sequence[tuple[Label, str]], call: Callable[[], _T]) -> _T:
        """Make one commit, unless the process dies before; it may die after."""
        if self.dead:
            raise Killed
        seen = Counter(label for label, _, _ in self.trail)
        met = [Moment(label, seen[label] + n) for label, n in Counter(label for label, _ in labels).items()]
        self._strike(met, after=False)
        result = call()
        self.trail += [(label, device, self.fleet.clock.elapsed) for label, device in labels]
        self._strike(met, after=True)
        for label, device in labels:
            if (hook := self.hooks.pop(label, None)) is not None:
                hook(device)
        return result

    def _strike(self, met: Sequence[Moment], after: bool) -> None:
        """Die when the planned or the wanted moment is among those that are met, or was passed within this commit."""
        for name in ("planned", "wanted"):
            moment: Moment | None = getattr(self, name)
            if moment is None or moment.after != after:
                continue
            if any(m.label == moment.label and m.number >= moment.number for m in met):
                setattr(self, name, None)
                self.struck += name == "planned"
                self.dead = True
                raise Killed

    def believe(self, entries: Sequence[Confirmed]) -> None:
        """Hold what is stored as confirmed against what the device runs at this very moment."""
        for entry in entries:
            runs = self.fleet.devices[entry.device].current.get(entry.model, "")
            if runs != entry.release:
                self.faults.append(f"{entry.device} is stored with {entry.release[:8]} and runs {runs[:8]}")


class MortalState(State):
    """The state of a process that may die."""

    death: Death

    @classmethod
    def of(cls, death: Death) -> Callable[[Path, Callable[[], float]], State]:
        """Return what opens the state for `death` to strike."""

        def opened(where: Path, clock: Callable[[], float]) -> State:
            state = cls.open(where, clock)
            assert isinstance(state, MortalState)
            state.death = death
            return state

        return opened

    def _call(self, name: str, call: Callable[[], _T]) -> _T:
        return self.death.commit([(("call", name), "")], call)

    def move(self, lock: FleetLock, rollout_id: str, changes: Sequence[RowChange]) -> int:
        """Store moves of rows."""
        return self._moved(_labels(changes), changes, lambda: super(MortalState, self).move(lock, rollout_id, changes))

    def advance(
        self,
        lock: FleetLock,
        before: Rollout,
        event: RolloutEvent | None,
        after: Rollout,
        changes: Sequence[RowChange] = (),
        joined: Sequence[DeviceRow] = (),
        audit: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a rollout's own move."""
        own: Label = (str(before.state), str(event)) if event is not None else ("call", "advance")
        self._moved(
            [(own, ""), *_labels(changes)],
            changes,
            lambda: super(MortalState, self).advance(lock, before, event, after, changes, joined, audit),
        )

    def _moved(self, labels: list[tuple[Label, str]], changes: Sequence[RowChange], call: Callable[[], _T]) -> _T:
        def believed() -> _T:
            result = call()
            self.death.believe([c.confirmed for c in changes if c.confirmed is not None])
            return result

        return self.death.commit(labels, believed) if labels else call()

    def create(
        self,
        lock: FleetLock,
        rollout: Rollout,
        rows: Sequence[DeviceRow],
        releases: Sequence[Release],
        audit: Mapping[str, Any],
    ) -> Rollout:
        """Store a new rollout."""
        return self._call("create", lambda: super(MortalState, self).create(lock, rollout, rows, releases, audit))

    def relocate(self, lock: FleetLock, rollout_id: str, rows: Sequence[DeviceRow]) -> None:
        """Store rows that stay in their state."""
        self._call("relocate", lambda: super(MortalState, self).relocate(lock, rollout_id, rows))

    def store_releases(self, lock: FleetLock, releases: Sequence[Release]) -> None:
        """Store releases."""
        self._call("keep_releases", lambda: super(MortalState, self).store_releases(lock, releases))

    def record_facts(self, devices: Sequence[KnownDevice]) -> None:
        """Store what devices told."""
        self._call("learn", lambda: super(MortalState, self).record_facts(devices))

    def next_number(self, fleet: str, model: str) -> int:
        """Return a new number."""
        return self._call("next_number", lambda: super(MortalState, self).next_number(fleet, model))


class MortalWriter:
    """Runs the state's calls; once the process is dead none of them returns, and its loop stops."""

    def __init__(self, death: Death) -> None:
        self._death = death

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns."""
        if not self._death.dead:
            try:
                return call(*args)
            except Killed:
                asyncio.get_running_loop().stop()
        await asyncio.Event().wait()
        raise AssertionError("the dead do not come back")


def _labels(changes: Sequence[RowChange]) -> list[tuple[Label, str]]:
    return [((str(c.before.state), str(c.event)), c.before.device) for c in changes]
