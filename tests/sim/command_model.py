"""The table in docs/rollouts.md as a simple model: what each command does to an open rollout, and what devices then run.

It knows versions, who is away, and which rollout is open; it knows no sessions, no database and no plans.  A `Verdict` is a
column of the table: "starts", "continues", "reverts", "ends", "refused", "pauses", "nothing", or "wrong use" (exit code 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BLOCKED", "MODELS", "POLICIES", "WRONG", "Key", "Open", "Table"]

Key = tuple[int, str]  # (device's number, model)
MODELS = ("cls", "det")
WRONG = "9"  # a version of `cls` that does not pass its proof on the first device
BLOCKED = "0"  # a version of which no device can get a file
FIRST, SECOND = "dev-00000", "dev-00001"
POLICIES: dict[
    str, dict[str, Any]
] = {  # `rollout:` in litefleet.yaml; those with two waves have one device in the first
    "usual": {},
    "other": {"lease": "5m"},
    "approve": {"waves": [SECOND, "100%"], "approve": True, "stratify": False},
    "gate": {"waves": [FIRST, "100%"], "gates": {"canary": {"count": 1}}, "stratify": False, "success": 0},
    "success": {"waves": [FIRST, "100%"], "gates": {}, "stratify": False, "success": "100%"},
}
_FIRST_WAVE = {"approve": 1, "gate": 0, "success": 0}


@dataclass
class Open:
    """An open rollout: who still has a turn in it, and what they get."""

    kind: str
    limit: str = ""
    models: tuple[str, ...] = MODELS
    policy: str = "usual"
    left: dict[Key, str] = field(default_factory=dict)  # what each gets
    held: set[Key] = field(default_factory=set)  # of those, whose wave has not begun
    failed: dict[Key, str] = field(default_factory=dict)
    rest: str = "running"  # or paused, waiting
    words: tuple[str, ...] = ()  # of a rollback, beside --limit
    reverted: bool = False  # a rollback has taken a device back
    planned: bool = False  # its controller died before it started
    unstarted: set[Key] = field(default_factory=set)  # what it planned then, also what would not have changed

    @property
    def stopped(self) -> bool:
        """Whether it waits for a person."""
        return self.rest != "running"


@dataclass
class Switched:
    """What a rollout switched on and no rollback has reverted: what ran before it there, "" for nothing."""

    before: dict[Key, str]


class Table:
    """The fleet and its open rollout, as the documented rules have it."""

    def __init__(self, size: int, name_of: Callable[[int], str]) -> None:
        self.size, self._name_of = size, name_of
        self.inventory = set(range(size))
        self.runs: dict[Key, str] = {(n, m): "1" for n in range(size) for m in MODELS}
        self.version, self.policy = "1", "usual"
        self.away: set[int] = set()
        self.drifted: set[Key] = set()
        self.open: Open | None = None
        self.switched = [Switched(dict.fromkeys(self.runs, ""))]
        self.done: list[Open] = []  # rollouts in which devices failed, the newest first

    @property
    def state(self) -> str:
        """What is open, in the table's words."""
        if self.open is None:
            return "nothing"
        if self.open.kind != "rollout":
            return {"reconcile": "repair"}.get(self.open.kind, "rollback")
        if self.open.rest == "waiting":
            return "approve"
        if self.open.rest == "paused":
            return "gate" if self.open.failed else "paused"
        return "success" if self.open.held else "failed" if self.open.failed else "running"

    # --- what a command is about

    def chosen(self, limit: int | None, models: Iterable[str] = MODELS) -> list[Key]:
        """Return what a selection means."""
        devices = sorted(self.inventory) if limit is None else [limit]
        return [(n, m) for n in devices for m in models]

    def plan(self, chosen: list[Key]) -> dict[Key, str]:
        """Return who would have a turn: devices that are away count as such whatever they ran."""
        wanted = {key: self.version if key[1] == "cls" else "1" for key in chosen}
        return {key: v for key, v in wanted.items() if key[0] in self.away or self.runs[key] != v}

    def difference(self, limit: int | None, models: tuple[str, ...]) -> str:
        """Return how `litefleet rollout` differs from the open rollout, in the table's words; "" when it does not."""
        rollout = self.open
        assert rollout is not None
        if rollout.kind != "rollout":
            return "kind"
        if rollout.stopped:
            return "waits"
        if rollout.limit != self._limit(limit):
            return "limit"
        if rollout.models != models:
            return "models"
        if rollout.policy != self.policy:
            return "settings"
        left = {key: v for key, v in rollout.left.items() if key[0] in self.inventory}
        chosen = self.chosen(limit, models)
        if self.version == BLOCKED and any(m == "cls" and n not in self.away for n, m in [*left, *chosen]):
            return "blocked" if any(m == "cls" for _, m in left) else self._other(chosen, left)
        return self._other(chosen, left)

    def _other(self, chosen: list[Key], left: dict[Key, str]) -> str:
        assert self.open is not None
        plan = self.plan(chosen)
        if self.version == BLOCKED:  # only those that are away can be planned
            plan = {key: v for key, v in plan.items() if key[1] != "cls" or key[0] in self.away}
        extra = plan.keys() - left.keys() - self.open.unstarted
        if extra & self.open.failed.keys():
            return "failed"
        if extra:
            return "devices"
        return "release" if any(v != (self.version if m == "cls" else "1") for (_, m), v in left.items()) else ""

    def _limit(self, limit: int | None) -> str:
        return "" if limit is None else self._name_of(limit)

    # --- the commands

    def rollout(self, limit: int | None = None, supersede: bool = False, models: tuple[str, ...] = MODELS) -> str:
        chosen = self.chosen(limit, models)
        if self.open is not None and not supersede:
            if self.difference(limit, models):
                return "refused"
            self._go_on(self.open)
            return "continues"
        plan = self.plan(chosen)
        if self.version == BLOCKED:
            plan = {key: v for key, v in plan.items() if key[1] != "cls" or key[0] in self.away}
            if not plan:
                return "nothing"  # also of an open one
        ended, self.open = self.open is not None, None
        if not plan:
            return "ends" if ended else "nothing"
        for key in [k for k in chosen if k not in plan]:
            self._settled(key)  # it runs what this rollout brings
        self.switched.append(Switched({}))
        one = Open("rollout", self._limit(limit), models, self.policy, plan)
        if (first := _FIRST_WAVE.get(self.policy)) is not None:
            one.held = {key for key in plan if key[0] != first} if any(n == first for n, _ in plan) else set()
        self._go_on(one)
        return "starts"

    def rollback(self, limit: int | None = None, words: tuple[str, ...] = ()) -> str:
        """`words`: ("--to", "nothing") or none."""
        rollout, text, chosen = self.open, self._limit(limit), self.chosen(limit)
        if rollout is not None and rollout.kind != "rollout":
            if (rollout.kind, rollout.limit, rollout.words) != ("rollback", text, words):
                return "refused"
            rollout.rest = "running"
            self._go_on(rollout)
            return "continues"
        if words:
            if rollout is not None:
                return "refused"
            self._go_on(Open("rollback", text, left=dict.fromkeys(chosen, "-"), words=words))
            return "reverts"
        if rollout is not None and limit is None and not self.switched[-1].before:
            self.open = None
            return "ends"
        found = next((s for s in reversed(self.switched) if s.before.keys() & set(chosen)), None)
        if rollout is not None and found is not self.switched[-1]:
            return "refused"
        if found is None:
            return "wrong use" if limit is None else "nothing"
        turns = {key: found.before[key] for key in chosen if key in found.before}
        self._reverting = found
        self._go_on(Open("rollback", text, left=turns))
        return "reverts"

    def resume(self) -> str:
        if self.open is None or self.open.rest == "waiting":
            return "wrong use"
        if self.open.rest == "paused" and self.open.failed:
            self.open.held = set()  # a person has seen these failures
        self.open.rest = "running"
        self._go_on(self.open)
        return "continues"

    def approve(self) -> str:
        lacks = self.open is not None and self.open.policy == "success" and bool(self.open.held)
        if self.open is None or not (self.open.rest == "waiting" or (lacks and self.open.rest == "running")):
            return "wrong use"
        self.open.held, self.open.rest = set(), "running"
        self._go_on(self.open)
        return "continues"

    def retry(self) -> str:
        """Without an id: the open one's failures; else those of the latest rollout, while nothing has come after it."""
        here = [self.open] if self.open is not None and self.open.kind != "reconcile" else []
        one = next((r for r in [*here, *self.done] if r.failed), None)
        if one is None or one.reverted:
            return "wrong use"
        if self.open not in (None, one):
            return "refused"
        self.done = [r for r in self.done if r is not one]
        one.left.update(one.failed)
        one.failed, one.rest = {}, "running"
        self._go_on(one)
        return "continues"

    def reconcile(self, repair: bool = False) -> str:
        if self.open is None or self.open.stopped:
            return "nothing"
        self._go_on(self.open)
        return "continues"

    def pause(self) -> str:
        if self.open is None or self.open.rest == "paused" or self.open.planned:
            return "wrong use"
        self.open.rest = "paused"
        return "pauses"

    def abort(self) -> str:
        ended, self.open = self.open is not None, None
        return "ends" if ended else "wrong use"

    def died(self, limit: int | None = None) -> None:
        """`rollout` was killed when it had written its plan down."""
        self.switched.append(Switched({}))
        chosen = self.chosen(limit)
        self.open = Open("rollout", self._limit(limit), MODELS, self.policy, self.plan(chosen), planned=True)
        self.open.unstarted = set(chosen)

    def repair(self, key: Key) -> None:
        """`reconcile --repair` was killed when it had written down that this device lacks a file."""
        self.open = Open("reconcile", left={key: self.runs[key]}, planned=True)

    # --- devices that are here take their turns

    def _go_on(self, rollout: Open) -> None:
        self.open, rollout.planned = rollout, False
        # Nobody has looked whether those that are away would change.
        rollout.left.update({k: "1" for k in rollout.unstarted - rollout.left.keys() if k[0] in self.away})
        rollout.unstarted = set()
        while True:
            for key in [k for k in rollout.left if k not in rollout.held and k[0] not in self.away]:
                self._turn(rollout, key, rollout.left.pop(key))
            for key in [k for k in rollout.left if k[0] not in self.inventory]:  # skipped
                del rollout.left[key]
                rollout.held.discard(key)
            if rollout.rest == "paused":
                return
            if not rollout.held or (rollout.policy != "gate" and any(k not in rollout.held for k in rollout.left)):
                break  # only `gate` begins a wave while a device of the first is away: it says `success: 0`
            if rollout.policy == "approve":
                rollout.rest = "waiting"
                return
            rollout.held = set()
        if not rollout.left:
            self.open = None
            if rollout.kind != "reconcile" and rollout.failed:
                self.done.insert(0, rollout)

    def _turn(self, rollout: Open, key: Key, version: str) -> None:
        before = self.runs[key]
        if key[0] not in self.inventory:
            return
        if rollout.kind == "rollback":
            if version == "-":
                self.runs[key] = ""
            elif not version:  # nothing ran before it: the device says so, and runs on
                rollout.failed[key] = version
            else:
                self.runs[key] = version
                self._reverting.before.pop(key, None)
                self._settled(key)
            return
        if (key[1], version) == ("cls", BLOCKED):
            return
        if (key, version) == ((0, "cls"), WRONG) and before != WRONG:
            rollout.failed[key] = version
            if rollout.policy == "gate":
                rollout.rest = "paused"
            return
        self.runs[key] = version
        if rollout.kind == "rollout":
            self._settled(key)
            if before != version:
                self.switched[-1].before[key] = before

    def _settled(self, key: Key) -> None:
        """No older failure of this device is tried again."""
        for older in self.done:
            older.failed.pop(key, None)
