"""The table in docs/rollouts.md by the command line: each command, in each state of an open rollout, with each difference.

`test_each_cell` types each of them once.  `test_the_table` draws them at random, after each other, and devices that leave and
return in between; LITEFLEET_TEST_SEEDS=N draws N times, and prints how often each cell was met.
"""

from __future__ import annotations

import copy
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.sim.command_line import CommandLine, Done
from tests.sim.command_model import BLOCKED, MODELS, POLICIES, WRONG, Table

SIZE = 4
SEEDS = int(os.environ.get("LITEFLEET_TEST_SEEDS", "0"))
Cell = tuple[str, str, str]  # command, what is open, difference


class Operator:
    """Types commands, and holds each against the model."""

    def __init__(self, line: Any) -> None:
        """`line`: a `CommandLine`, or what types the same words on other devices."""
        self.line = line
        assert self.line.type("rollout").code == 0
        self.table = Table(SIZE, lambda number: self.line.names[number])

    # --- the states that a command may meet

    def open(self, state: str) -> None:
        """Bring about a state, from no open rollout, with all devices here and a version that none of them runs."""
        self.set("1")
        if state == "nothing":
            return
        if state == "joined":
            self.remove(1)
        if state in ("running", "paused", "failed", "joined"):
            self.toggle(SIZE - 1)
        if state == "success":
            self.toggle(0)
        policy = state if state in ("approve", "gate", "success") else "usual"
        self.set(WRONG if state in ("gate", "failed") else "2", policy)
        {"died": self._die, "repair": self._begin_repair}.get(state, lambda: self.command("rollout"))()
        if state == "rollback":
            self.toggle(SIZE - 1)
            self.command("rollback", "--yes")
        if state == "paused":
            self.command("pause")
        if state == "joined":
            self.remove(1)
        assert self.table.state == {"died": "running", "joined": "running"}.get(state, state)

    def _die(self) -> None:
        self.line.type("rollout", dies_after="create")
        self.table.died()

    def _begin_repair(self) -> None:
        self.line.drift(1, "det")
        self.line.type("reconcile", "--repair", dies_after="create")
        self.line.mend(1)
        self.table.repair((1, "det"))

    def keep(self) -> Callable[[], None]:
        """Return what makes the world, and the model of it, what they are now."""
        world, rules = self.line.save(), copy.deepcopy(vars(self.table))

        def again() -> None:
            self.line.restore(world)
            vars(self.table).update(copy.deepcopy(rules))
            self.line.inventory([self.line.names[n] for n in sorted(self.table.inventory)])

        return again

    # --- what may happen between commands

    def set(self, version: str, policy: str = "usual") -> None:
        self.table.version, self.table.policy = version, policy
        self.line.configure(POLICIES[policy], version)

    def toggle(self, number: int) -> None:
        """Let a device leave, or return."""
        (self.line.back if number in self.table.away else self.line.away)(number)
        self.table.away ^= {number}

    def remove(self, number: int) -> None:
        self.table.inventory ^= {number}
        self.line.inventory([self.line.names[n] for n in sorted(self.table.inventory)])

    # --- commands

    def command(self, name: str, *words: str, limit: int | None = None, by_id: bool = False) -> tuple[str, Done]:
        """Type a command, check what it did, and return the model's verdict and what it said."""
        before = self.line.rollouts()
        if name == "reconcile":
            self.line.let_time_pass()  # whoever is away is due
        chosen = ["--limit", self.line.names[limit]] if limit is not None else []
        named = [before[0][0]] if by_id and self.table.open is not None else []
        expected = self._expected(name, words, limit)
        done = self.line.type(name, *named, *words, *chosen)
        self._check(name, expected, done, before)
        return expected, done

    def _expected(self, name: str, words: Sequence[str], limit: int | None) -> str:
        table = self.table
        if name == "rollout":
            models = tuple(words[words.index("--model") + 1 :][:1]) if "--model" in words else MODELS
            return "nothing" if "--dry-run" in words else table.rollout(limit, "--supersede" in words, models)
        if name == "rollback":
            return table.rollback(limit, tuple(w for w in words if w in ("--to", "nothing")))
        if name in ("plan", "status"):
            return "nothing"
        return str(getattr(table, name)())

    def _check(self, name: str, expected: str, done: Done, before: Sequence[tuple[str, str, str]]) -> None:
        after, told = self.line.rollouts(), (expected, self.line.log, done.text)
        assert self.line.runs() == self.table.runs, told
        opened = [r for r in after if r[2] in ("planned", "running", "paused", "waiting")]
        assert len(opened) <= 1, told
        assert bool(opened) == (self.table.open is not None), (opened, self.table.open, told)
        if self.table.open is not None:
            assert opened[0][1] == {"repair": "reconcile"}.get(self.table.open.kind, self.table.open.kind), told
            assert (opened[0][2] if opened[0][2] in ("paused", "waiting") else "running") == self.table.open.rest, told
        if expected in ("refused", "nothing", "wrong use"):
            assert after == before, told
            waits = name == "reconcile" and self.table.open is not None
            assert (done.code == 3) == (expected == "refused" or waits), told
            assert (done.code == 2) == (expected == "wrong use"), told
        else:
            assert done.code in (0, 1, 3), told
            assert (done.code == 3) == (bool(opened) and expected != "pauses" and self.table.open.stopped), told
        if expected == "refused":
            one, _, rest = before[0]
            assert re.search(rf"`litefleet abort {one} -c [^`]+` ends it", done.text), told
            assert f"`litefleet {'approve' if rest == 'waiting' else 'resume'} {one} -c " in done.text, told
        made = len(after) > len(before)
        assert made == (expected in ("starts", "reverts")), told


# --- the cells

STATES = (
    "nothing",
    "running",
    "died",
    "joined",
    "failed",
    "paused",
    "gate",
    "approve",
    "success",
    "rollback",
    "repair",
)
DIFFERENCES = ("", "limit", "models", "settings", "release", "back", "blocked", "removed")
OTHERS: Sequence[tuple[str, ...]] = (
    ("plan",),
    ("rollout", "--dry-run"),
    ("status",),
    ("rollback", "--yes"),
    ("rollback", "--yes", "--to", "nothing"),
    ("resume",),
    ("approve",),
    ("retry",),
    ("reconcile",),
    ("pause",),
    ("abort",),
)


def documented(state: str, difference: str) -> str:
    """What docs/rollouts.md says of `litefleet rollout`."""
    if state == "nothing":
        return "nothing" if difference in ("back", "blocked") else "starts"
    if state in ("running", "died", "success"):
        return "continues" if difference in ("", "removed") else "refused"
    return "refused"


def differently(one: Operator, difference: str, supersede: bool = False) -> str:
    """Type a `rollout` that differs from the open one in one way, and return what it did."""
    opened = one.table.open
    policy = opened.policy if opened is not None and opened.kind == "rollout" else "usual"
    version = next((v for (_, m), v in opened.left.items() if m == "cls" and v), "2") if opened is not None else "2"
    one.set({"release": "7", "back": "1", "blocked": BLOCKED}.get(difference, version), policy)
    if difference == "settings":
        one.set(version, "other")
    if difference == "removed":
        one.remove(SIZE - 1)
    words = [*(["--model", "cls"] if difference == "models" else []), *(["--supersede"] if supersede else [])]
    limit = None if difference != "limit" else 1
    verdict, _ = one.command("rollout", *words, limit=limit)
    return verdict


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, template: Path) -> tuple[Operator, Callable[[], None]]:
    one = Operator(CommandLine(tmp_path_factory.mktemp("fleet"), template, SIZE))
    return one, one.keep()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "all"])
def test_each_cell(operator: tuple[Operator, Callable[[], None]], state: str, whole: bool) -> None:
    """`some` leaves out what is refused alike in several states."""
    one, begin = operator
    begin()
    one.open(state)
    again = one.keep()
    for difference in DIFFERENCES if whole or state == "running" else ("", "back"):
        again()
        assert differently(one, difference) == documented(state, difference), (difference, one.line.log)
    for difference in DIFFERENCES if whole else ("back", "blocked"):
        again()
        differently(one, difference, supersede=True)
    for words in OTHERS if whole or state == "paused" else OTHERS[3:] if state not in ("died", "joined") else ():
        again()
        one.command(*words)


# --- what needs more than one state


def test_a_failure_is_not_retried_where_a_newer_rollout_came_by(operator: tuple[Operator, Callable[[], None]]) -> None:
    one, begin = operator
    begin()
    one.set(WRONG)
    one.command("rollout")
    failed = one.line.rollouts()[0][0]
    one.toggle(2)
    one.set("3")
    one.command("rollout")
    assert one.command("retry")[0] == "wrong use"  # the open one brings the device version 3
    done = one.line.type("retry", failed)
    assert (done.code, "is open: this command is about" in done.text) == (3, True), done
    one.command("abort")
    done = one.line.type("retry", failed)
    assert (done.code, "have had a newer rollout since" in done.text) == (2, True), done
    assert one.line.runs() == one.table.runs


def test_a_fleet_that_is_away_gets_what_the_rollout_was_made_of(operator: tuple[Operator, Callable[[], None]]) -> None:
    """No release could be built when the rollout began, and litefleet.yaml has changed since."""
    one, begin = operator
    begin()
    one.line.type("rollback", "--yes", "--to", "nothing")
    state = one.line.folder / "state.db"
    with sqlite3.connect(state) as database:
        database.execute("DELETE FROM devices")
    for number in range(SIZE):
        one.line.away(number)
    one.line.configure({}, "2")
    assert one.line.type("rollout").code == 1
    one.line.configure({}, "3")
    done = one.line.type("rollout")
    assert (done.code, "the new plan" in done.text) == (3, True), done
    for number in range(SIZE):
        one.line.back(number)
    done = one.line.type("resume")
    assert (done.code, "LF616" in done.text) == (1, True), done
    assert {key for key, version in one.line.runs().items() if version} == {(n, "det") for n in range(SIZE)}


def test_a_repair_that_waits_holds_no_rollout_up_and_is_not_taken_for_newer(
    operator: tuple[Operator, Callable[[], None]],
) -> None:
    one, begin = operator
    begin()
    one.open("approve")
    one.line.drift(2, "cls")
    one.line.type("reconcile", "--repair", dies_after="create")  # to version 1, which is what device 2 runs
    one.line.mend(2)
    one.line.away(2)
    rollout = one.line.rollouts()[1][0]
    assert one.line.type("approve", rollout).code == 1
    one.line.back(2)
    one.line.let_time_pass()
    one.line.type("reconcile")
    assert {v for (_, model), v in one.line.runs().items() if model == "cls"} == {"2"}
    assert {rest for _, _, rest in one.line.rollouts()} == {"done"}


def test_a_new_device_gets_nothing_while_a_rollback_is_open(operator: tuple[Operator, Callable[[], None]]) -> None:
    one, begin = operator
    begin()
    one.remove(1)
    one.set("2")
    one.command("rollout")
    one.toggle(3)
    one.command("rollback", "--yes", limit=3)
    one.command("pause")
    one.remove(1)
    one.command("reconcile")


# --- one command after another


def type_cell(one: Operator, command: str, difference: str = "", limit: int = 1) -> Cell:
    """Type a command of `CELLS`, and return the cell that it was."""
    state, opened, supersede = one.table.state, one.table.open, command == "rollout --supersede"
    if command not in ("rollout", "rollout --supersede"):
        words = ["rollback", "--yes"] if command == "rollback --limit" else command.split()
        one.command(*words, limit=limit if command == "rollback --limit" else None)
        return command, state, ""
    if difference == "removed" and (supersede or opened is None or (SIZE - 1, "cls") not in opened.left):
        difference = ""
    if difference == "blocked" and (supersede or opened is None) and one.table.away:
        difference = "back"  # who is away may turn out to be blocked or not
    differently(one, difference, supersede)
    if difference == "removed":
        one.remove(SIZE - 1)
    return command, state, difference


class Commands(RuleBasedStateMachine):
    """Draws commands, and devices that leave and return, from each state of an open rollout."""

    fresh: ClassVar[Callable[[], Operator]]  # that has rolled version 1 out, and nothing else
    drawn: ClassVar[Counter[Cell]]
    states: ClassVar[Sequence[str]] = STATES[:3] + STATES[4:]
    differences: ClassVar[Sequence[str]] = DIFFERENCES

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.one = type(self).fresh()
        self.one.open(data.draw(st.sampled_from(self.states)))

    @rule(difference=st.sampled_from(DIFFERENCES), supersede=st.sampled_from([False, False, False, True]))
    def rollout(self, difference: str, supersede: bool) -> None:
        if difference in self.differences:
            self._type("rollout" + " --supersede" * supersede, difference)

    @rule(words=st.sampled_from([words for words in OTHERS if "nothing" not in words]))
    def other(self, words: tuple[str, ...]) -> None:
        self._type(" ".join(words))

    @rule(limit=st.integers(0, SIZE - 1))
    def rollback(self, limit: int) -> None:
        self._type("rollback --limit", limit=limit)

    def _type(self, command: str, difference: str = "", limit: int = 1) -> None:
        cell = type_cell(self.one, command, difference, limit)
        self.drawn[cell] += 1
        event(" / ".join(cell))

    @rule(number=st.integers(0, SIZE - 1))
    def leave_or_return(self, number: int) -> None:
        self.one.toggle(number)


CELLS = {
    (command, state, difference)
    for state in ("nothing", "running", "failed", "paused", "gate", "approve", "success", "rollback", "repair")
    for command, differences in {
        "rollout": DIFFERENCES[:-1],
        "rollout --supersede": DIFFERENCES[:-2],
        "rollback --limit": ("",),
        **{" ".join(words): ("",) for words in OTHERS if "nothing" not in words},
    }.items()
    for difference in differences
}


def run_drawn(machine: type[Commands], examples: int, steps: int = 12) -> Counter[Cell]:
    """Run that many examples, print how often each cell was met, and return it."""
    machine.drawn = Counter()
    chosen = settings(
        max_examples=examples,
        derandomize=not SEEDS,
        stateful_step_count=steps,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]
    for (command, state, difference), count in sorted(machine.drawn.items()):
        print(f"{count:5}  {command:24} {state:10} {difference}")
    print(f"{machine.drawn.total()} commands, {len(CELLS & machine.drawn.keys())} of {len(CELLS)} cells")
    return machine.drawn


@pytest.fixture
def simulated(operator: tuple[Operator, Callable[[], None]]) -> type[Commands]:
    one, begin = operator

    def again() -> Operator:
        begin()
        one.line.log.clear()
        return one

    class Simulated(Commands):
        fresh = staticmethod(again)

    return Simulated


def test_drawn(simulated: type[Commands]) -> None:
    drawn = run_drawn(simulated, 5)
    assert sum(1 for _, state, _ in drawn.elements() if state != "nothing") > drawn.total() / 3


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_table(simulated: type[Commands]) -> None:
    drawn = run_drawn(simulated, SEEDS or 100)
    for command, state, difference in sorted(CELLS - drawn.keys()):  # hypothesis draws some states seldom
        one = simulated.fresh()
        one.open(state)
        drawn[type_cell(one, command, difference)] += 1
    print(f"{drawn.total()} commands in all, {len(CELLS & drawn.keys())} of {len(CELLS)} cells")
    assert not CELLS - drawn.keys(), sorted(CELLS - drawn.keys())
