"""What each command does to an open rollout, against the table in docs/rollouts.md: a simple model beside the real operations.

The model knows versions, who is away, and which rollout is open; it knows no waves, no sessions and no database.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from litefleet_controller.rollout import RolloutEvent

from tests.sim.operator_commands import Done, Operator

SIZE = 4
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
VERSIONS = st.sampled_from(["1", "2", "3"])
NUMBERS = st.integers(0, SIZE - 1)


@dataclass
class Open:
    """The open rollout: who still has a turn in it, and what they get."""

    kind: str
    limit: str
    version: str = ""
    left: dict[int, str] = field(default_factory=dict)  # device -> version
    paused: bool = False


@dataclass
class Switched:
    """A rollout that is reverted by the next rollback: what ran before on each device that it switched on."""

    version: str
    before: dict[int, str]


@pytest.fixture(autouse=True, scope="module")
def empty_state(template: Path) -> None:
    RolloutRules.template = template


class RolloutRules(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="litefleet-rules-", dir=MEMORY)

    @initialize()
    def begin(self) -> None:
        self.one = self.operator(Path(self.folder.name))
        self.runs = dict.fromkeys(range(SIZE), "1")
        self.away: set[int] = set()
        self.open: Open | None = None
        self.switched = [Switched("1", dict.fromkeys(range(SIZE), ""))]

    def operator(self, where: Path) -> Any:
        """Return who types the commands; `tests/e2e/test_command_table.py` types them on real devices."""
        return Operator(where / "fleet", self.template, ("pi4",) * SIZE, gates="off", waves=["100%"])

    def teardown(self) -> None:
        if hasattr(self, "one"):
            self.one.leave()
        self.folder.cleanup()

    # --- what the model says of commands

    def _chosen(self, limit: int | None) -> tuple[str, list[int]]:
        return ("", list(range(SIZE))) if limit is None else (self.one.names[limit], [limit])

    def _reach(self, rollout: Open) -> None:
        """Devices that are here and have a turn take it; the rollout is over when nobody has one."""
        for number in [n for n in rollout.left if n not in self.away]:
            before, after = self.runs[number], rollout.left.pop(number)
            if rollout.kind == "rollback" and not after:
                continue  # nothing ran before: the device says so, and runs on
            self.runs[number] = after
            if rollout.kind == "rollout" and before != after:
                self.switched[-1].before[number] = before
            elif rollout.kind == "rollback":
                self._reverted(number)
        self.open = rollout if rollout.left else None

    def _reverted(self, number: int) -> None:
        target = self.reverting.before
        target.pop(number, None)

    def _plan(self, version: str, chosen: list[int]) -> dict[int, str]:
        """Who would have a turn: devices that are away count as such whatever they ran."""
        return {n: version for n in chosen if n in self.away or self.runs[n] != version}

    @rule(version=VERSIONS, limit=st.one_of(st.none(), NUMBERS), supersede=st.booleans())
    def rollout(self, version: str, limit: int | None, supersede: bool) -> None:
        text, chosen = self._chosen(limit)
        plan = self._plan(version, chosen)
        done = self.one.rollout(version, text, supersede)
        if self.open is not None and not supersede:
            same = self.open.kind == "rollout" and not self.open.paused and self.open.limit == text
            if not (same and plan.keys() <= self.open.left.keys() and self._rest_is(version)):
                self._refused(done)
                return
            self._reach(self.open)
        else:
            self.open = None
            if plan:
                self.switched.append(Switched(version, {}))
                self._reach(Open("rollout", text, version, plan))
        assert done.code == (1 if any(n in self.away for n in chosen) else 0), done

    def _rest_is(self, version: str) -> bool:
        return self.open is not None and all(v == version for v in self.open.left.values())

    def _refused(self, done: Done) -> None:
        assert done.code == 3, done
        assert self.one.latest in done.text
        assert f"`litefleet resume {self.one.latest}`" in done.text

    @rule(limit=st.one_of(st.none(), NUMBERS))
    def rollback(self, limit: int | None) -> None:
        text, chosen = self._chosen(limit)
        done = self.one.rollback(limit=text)
        if self.open is not None and self.open.kind == "rollback":
            if self.open.limit != text:
                self._refused(done)
                return
            self._reach(self.open)
            return
        if self.open is not None and limit is None and not self.switched[-1].before:
            self.open = None  # it has switched nothing on: it ends, and nothing is reverted
            assert done.code == 0, done
            return
        found = next((s for s in reversed(self.switched) if set(s.before) & set(chosen)), None)
        if self.open is not None and found is not self.switched[-1]:
            self._refused(done)
            return
        if found is None:
            assert done.code == (2 if limit is None else 1), done
            return
        self.reverting = found
        turns = {n: found.before[n] for n in chosen if n in found.before}
        self.open = None
        impossible = [n for n, version in turns.items() if n not in self.away and not version]
        for n in impossible:  # nothing ran before: the device says so, and runs on
            del turns[n]
        self._reach(Open("rollback", text, "", turns))
        assert done.code == (1 if impossible or any(n in self.away for n in turns) else 0), done

    @precondition(lambda self: self.open is not None)
    @rule()
    def resume(self) -> None:
        assert self.open is not None
        self.one.step("resume")
        self.open.paused = False
        self._reach(self.open)

    @rule()
    def reconcile(self) -> None:
        self.one.let_time_pass()  # whoever is away is due
        self.one.reconcile()
        if self.open is not None and not self.open.paused:
            self._reach(self.open)

    @precondition(lambda self: self.open is not None)
    @rule(event=st.sampled_from([RolloutEvent.PAUSE, RolloutEvent.ABORT]))
    def stop(self, event: RolloutEvent) -> None:
        assert self.open is not None
        if event is RolloutEvent.ABORT:
            self.one.end(event)
            self.open = None
        elif not self.open.paused:
            self.one.end(event)
            self.open.paused = True

    @rule(number=NUMBERS)
    def leave_or_return(self, number: int) -> None:
        if number in self.away:
            self.away.remove(number)
            self.one.back(number)
        else:
            self.away.add(number)
            self.one.away(number)

    # --- what must hold

    @invariant()
    def devices_run_what_was_asked_for(self) -> None:
        if hasattr(self, "one"):
            assert self.one.runs == "".join(self.runs[n] for n in range(SIZE))

    @invariant()
    def at_most_one_rollout_is_open_and_it_is_the_one_that_is_known(self) -> None:
        if hasattr(self, "one"):
            found = self.one.open_rollouts()
            assert len(found) <= 1, found
            assert bool(found) == (self.open is not None), (found, self.open)


# The same examples in every run of CI; LITEFLEET_TEST_SEEDS=N tries N examples that nobody has run.
SEEDS = int(os.environ.get("LITEFLEET_TEST_SEEDS", "0"))
RolloutRules.TestCase.settings = settings(
    max_examples=SEEDS or 25,
    derandomize=not SEEDS,
    stateful_step_count=12,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # a failure is reported as it was found: shrinking it took over five minutes
)
TestRolloutRules = pytest.mark.timeout(600)(RolloutRules.TestCase)
