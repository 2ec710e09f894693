"""What runs on a simulated device: current, previous and lease of each model, and how it goes back by itself.

The rules are those of the agent's own switch, told a second time and as short as can be: a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from litefleet_agent.errors import AgentError

__all__ = ["Lease", "Slot", "Switch"]

_MAX_UNDONE = 10


@dataclass(frozen=True)
class Lease:
    """An unconfirmed switch, and what it came from."""

    release: str
    before: str  # "" = nothing ran
    before_previous: str
    deadline: float  # of the clock's `elapsed`


@dataclass
class Slot:
    """One model's links."""

    current: str = ""
    previous: str = ""
    lease: Lease | None = None


@dataclass
class Switch:
    """All models' links on one device."""

    slots: dict[str, Slot] = field(default_factory=dict)
    undone: list[dict[str, Any]] = field(default_factory=list)

    def slot(self, model: str) -> Slot:
        """Return a model's links, empty at first."""
        return self.slots.setdefault(model, Slot())

    def activate(self, model: str, release: str, lease_s: float, now: float) -> tuple[bool, float | None]:
        """Switch a release on; return whether anything changed, and the lease's seconds (None: it is final)."""
        found = self.slot(model).current
        self.settle(now)
        slot = self.slot(model)
        if slot.lease is not None and slot.lease.release == release:
            slot.lease = replace(slot.lease, deadline=now + lease_s) if lease_s else None
            return False, lease_s or None
        if slot.lease is not None:
            self._undo(model, f"the release {release[:12]} was to be switched on instead", now)
        if slot.current == release:
            return found != release, None
        lease = Lease(release, slot.current, slot.previous, now + lease_s) if lease_s else None
        slot.previous, slot.current, slot.lease = slot.current, release, lease
        return True, lease_s or None

    def confirm(self, model: str, release: str, now: float) -> None:
        """Make a switch final; AgentError "lease-expired" when it was undone."""
        self.settle(now)
        slot = self.slot(model)
        if slot.current != release:
            raise AgentError(f"the release {release[:12]} can't be confirmed: it does not run here", "lease-expired")
        slot.lease = None

    def target(self, model: str, to: str, now: float) -> str:
        """Return the release that "previous", "nothing" or an id means; AgentError "not-kept" where nothing ran before."""
        self.settle(now)
        slot = self.slot(model)
        before = slot.lease.before if slot.lease is not None else slot.previous
        if to == "previous" and not before:
            raise AgentError(f"nothing ran before what {model} runs", "not-kept")
        return {"previous": before, "nothing": ""}.get(to, to)

    def roll_back(self, model: str, target: str, now: float) -> str:
        """Take a model back to a release, "" for nothing, and return what ran until now."""
        slot = self.slot(model)
        before = slot.current
        if slot.lease is not None:
            self._undo(model, "a rollback was asked for", now)
        if slot.current != target:
            slot.current, slot.previous = target, slot.current
        return before

    def settle(self, now: float) -> None:
        """Undo what ran out."""
        for model, slot in self.slots.items():
            if slot.lease is not None and slot.lease.deadline <= now:
                self._undo(model, "nobody confirmed it in time", slot.lease.deadline)

    def restart(self, now: float) -> None:
        """The power was off: what was not confirmed is undone."""
        for model, slot in self.slots.items():
            if slot.lease is not None:
                self._undo(model, "the device restarted before the release was confirmed", now)

    def protected(self) -> set[str]:
        """Return the releases that must stay."""
        leases = [s.lease for s in self.slots.values() if s.lease is not None]
        kept = {r for s in self.slots.values() for r in (s.current, s.previous)}
        return (kept | {r for lease in leases for r in (lease.before, lease.before_previous)}) - {""}

    def _undo(self, model: str, why: str, now: float) -> None:
        slot = self.slot(model)
        assert slot.lease is not None
        self.undone.append({"model": model, "release": slot.lease.release, "why": why, "at": now})
        del self.undone[:-_MAX_UNDONE]
        slot.current, slot.previous, slot.lease = slot.lease.before, slot.lease.before_previous, None
