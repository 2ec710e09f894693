"""The controller dies just before or just after each move of the tables, and its successor brings everything to its end."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.rollout import RolloutEvent, RolloutState
from litefleet_controller.rollout.states import DEVICE_TABLE, ROLLOUT_TABLE

from tests.sim.crash_points import Label, Moment
from tests.sim.crash_scenarios import World, command, reconcile, roll_back, start
from tests.sim.sim_profile import Outage

R, F = RolloutState, RolloutEvent

# --- stories: each ends with what every device must run, whenever the controller died


def plain(world: World) -> tuple[str, RolloutState]:
    """Three devices in two waves; the last one runs the release already."""
    world.begin()
    world.install(world.devices[2], "2")
    world.act(start())
    return "222", R.DONE


def orphaned(state: str, event: str) -> Callable[[World], tuple[str, RolloutState]]:
    """A first controller dies, whatever else happens, right after a move."""

    def story(world: World) -> tuple[str, RolloutState]:
        world.begin()
        world.act(start(), dies=Moment((state, event), after=True))
        world.act(start())
        return "222", R.DONE

    return story


def failing(world: World) -> tuple[str, RolloutState]:
    """The canary fails, and its gate pauses; a person resumes, and later lets it be tried again."""
    world.begin(gates={"canary": {"count": 1}})
    world.fail(world.devices[0])
    world.act(start())
    world.act(command("resume"))
    world.mend(world.devices[0])
    world.act(command("retry"))
    return "222", R.DONE


def retried_at_once(world: World) -> tuple[str, RolloutState]:
    """The canary fails, and is tried again while the rollout is paused."""
    world.begin(gates={"canary": {"count": 1}})
    world.fail(world.devices[0])
    world.act(start())
    world.mend(world.devices[0])
    world.act(command("retry"))
    return "222", R.DONE


def gate_aborts(world: World) -> tuple[str, RolloutState]:
    """The canary fails, and its gate aborts."""
    world.begin(gates={"canary": {"count": 1, "then": "abort"}})
    world.fail(world.devices[0])
    world.act(start())
    return "111", R.ABORTED


def away(world: World) -> tuple[str, RolloutState]:
    """One device is off when the rollout begins, and is back later."""
    world.begin()
    world.devices[1].profile = world.devices[1].profile.with_(outages=(Outage(0, 500),))
    world.act(start())
    world.fleet.clock.advance(600)
    world.act(reconcile)
    return "222", R.DONE


def lost(state: str, event: str) -> Callable[[World], tuple[str, RolloutState]]:
    """A device is cut off right after a move, and is back later."""

    def story(world: World) -> tuple[str, RolloutState]:
        world.begin()
        world.reswitched = 1
        world.when(state, event, lambda device: world.cut_off(device, 0.03))
        world.act(start(WaitPolicy.ALL))
        return "222", R.DONE

    return story


def given_up(world: World) -> tuple[str, RolloutState]:
    """One device never comes back."""
    world.begin(retry={"first": 30, "give_up_after": 200})
    world.devices[1].profile = world.devices[1].profile.with_(outages=(Outage(0),))
    world.act(start(WaitPolicy.ALL))
    return "212", R.DONE


def late_confirmation(world: World) -> tuple[str, RolloutState]:
    """The line to the canary is so slow that its lease runs out."""
    world.begin(lease=10)
    world.reswitched = 3
    world.devices[0].profile = world.devices[0].profile.with_(link_s=6.0)
    world.act(start())
    return "122", R.DONE


def soaked(world: World) -> tuple[str, RolloutState]:
    """The canary is confirmed, and found wrong when it is looked at again."""
    world.begin(soak=60)
    canary, found = world.devices[0], [finding("LF602", "a blob is damaged")]
    world.when("leased", "confirm", lambda _: canary.drift.update({"cls": found}))
    world.act(start())
    return "222", R.DONE


def approved(world: World) -> tuple[str, RolloutState]:
    """A person is asked between the waves."""
    world.begin(approve=True)
    world.act(start())
    world.act(command("approve"))
    return "222", R.DONE


def paused_and_aborted(world: World) -> tuple[str, RolloutState]:
    """A person is asked, has it paused instead, and ends it."""
    world.begin(approve=True)
    world.act(start())
    world.end(F.PAUSE)
    world.end(F.ABORT)
    return "211", R.ABORTED


def denied(world: World) -> tuple[str, RolloutState]:
    """A person is asked, and ends it."""
    world.begin(approve=True)
    world.act(start())
    world.end(F.ABORT)
    return "211", R.ABORTED


def never_begun(world: World) -> tuple[str, RolloutState]:
    """The controller dies as soon as the plan is written down, and a person ends it."""
    world.begin()
    world.act(start(), dies=Moment(("planned", "start")))
    if world.harness.rollout().state is R.PLANNED:
        world.end(F.ABORT)
        return "111", R.ABORTED
    return "222", R.DONE


def stopped(request: str, end: tuple[str, RolloutState]) -> Callable[[World], tuple[str, RolloutState]]:
    """Somebody asks for a pause or an end while the canary is about to switch; one device of the first wave is off."""

    def story(world: World) -> tuple[str, RolloutState]:
        world.begin(waves=(2, "100%"))
        world.reswitched = 1  # a lease runs out while it is paused
        outage = Outage(0, 500) if request == "pause" else Outage(0)
        world.devices[1].profile = world.devices[1].profile.with_(outages=(outage,))
        world.when("proven", "switch", lambda _: world.ask(request))
        world.act(start(), once=request == "abort")
        if request == "pause":
            world.fleet.clock.advance(600)
            world.act(command("resume"))
        return end

    return story


def superseded(**policy: object) -> Callable[[World], tuple[str, RolloutState]]:
    """A rollout that is paused or waits is replaced by one of a newer version."""

    def story(world: World) -> tuple[str, RolloutState]:
        world.begin(**policy)
        if "gates" in policy:
            world.fail(world.devices[0])
        world.act(start())
        world.supply.versions["cls"] = "3"
        world.harness.policy = world.harness.policy.model_copy(update={"approve": False})
        world.harness.reopen()
        world.act(start(supersede=True), then=start())
        return "333", R.DONE

    return story


def superseded_while_running(world: World) -> tuple[str, RolloutState]:
    """A controller dies, and the next one is given a newer version."""
    world.begin()
    world.act(start(), dies=Moment(("proven", "switch"), after=True))
    world.supply.versions["cls"] = "3"
    world.act(start(supersede=True))
    return "333", R.DONE


def taken_back(world: World) -> tuple[str, RolloutState]:
    """The fleet goes back; one device ran the release already and stays, one has nothing to go back to."""
    world.begin(devices=4, old=3)
    world.install(world.devices[2], "2")
    world.apart = {world.devices[3].name}
    world.act(start())
    world.act(roll_back(), once=True)
    return "1122", R.DONE


def taken_back_on_bad_lines(world: World) -> tuple[str, RolloutState]:
    """The fleet goes back, and one device is cut off while it does."""
    world.begin()
    world.act(start())
    world.when("staging", "switch", lambda device: world.cut_off(device, 0.03))
    world.act(roll_back(), once=True)
    world.fleet.clock.advance(600)
    world.act(command("resume"))
    return "111", R.DONE


def repaired(world: World) -> tuple[str, RolloutState]:
    """One device was changed by hand and is brought back; a new one joins."""
    world.begin(devices=4, old=3)
    whole = world.harness.fleet
    world.harness.see(whole.inventory[:3])
    world.act(start())
    world.reswitched = 1
    world.devices[1].switch.roll_back("cls", world.devices[1].switch.target("cls", "previous", 0), 0)
    world.devices[1].settle()
    world.harness.see(whole.inventory)
    world.act(reconcile)
    return "2222", R.DONE


STORIES: Mapping[str, Callable[[World], tuple[str, RolloutState]]] = {
    "plain": plain,
    "orphaned while staging": orphaned("pending", "begin"),
    "orphaned while switching": orphaned("proven", "switch"),
    "orphaned under a lease": orphaned("switching", "lease"),
    "failing": failing,
    "retried at once": retried_at_once,
    "a gate aborts": gate_aborts,
    "away": away,
    "lost while staging": lost("pending", "begin"),
    "lost while switching": lost("proven", "switch"),
    "lost under a lease": lost("switching", "lease"),
    "given up": given_up,
    "late confirmation": late_confirmation,
    "soaked": soaked,
    "approved": approved,
    "paused and aborted": paused_and_aborted,
    "denied": denied,
    "never begun": never_begun,
    "asked to pause": stopped("pause", ("222", R.DONE)),
    "asked to abort": stopped("abort", ("?1?", R.ABORTED)),
    "superseded while paused": superseded(gates={"canary": {"count": 1}}),
    "superseded while it waits": superseded(approve=True),
    "superseded while running": superseded_while_running,
    "taken back": taken_back,
    "taken back on bad lines": taken_back_on_bad_lines,
    "repaired": repaired,
}
BEYOND: Mapping[Label, str] = {
    ("proven", "fail"): "PROVE and SWITCH are one commit: only rows of earlier versions are found between them",
    ("proven", "lose"): "the same",
    ("proven", "orphan"): "the same",
    (
        "switching",
        "fail",
    ): "only when a proven release is damaged before its switch, or a first release cannot be reverted",
    ("unchanged", "fail"): "after a soak only what was switched on in the wave is looked at again",
    ("unchanged", "roll-back"): "only what the rollout switched on is reverted, unless a release is named by --to",
    ("failed", "roll-back"): "a story of test_rollout_rules: a device that left during the soak",
    (
        "skipped",
        "roll-back",
    ): "after a death only: the device switched, and the rollout ended before it was asked again",
    ("offline", "retry"): "`retry` takes failed devices; those that are offline are tried by themselves",
    ("blocked", "retry"): "`retry` takes failed devices; a new rollout looks again at what is blocked",
}
OTHERS = [("call", name) for name in ("create", "relocate", "advance", "learn", "next_number")]
ENTRIES: list[Label] = [*((str(s), str(e)) for s, e in (*DEVICE_TABLE, *ROLLOUT_TABLE)), *OTHERS]

Reached = dict[str, dict[Label, int]]  # story -> move -> how often it comes when nobody dies

# --- what is found out once: an empty state, and which story reaches what how often


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that needs no disk where there is one: thousands of commits are synced."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("worlds")
        return
    with TemporaryDirectory(prefix="litefleet-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def reached(memory: Path, template: Path) -> Reached:
    """What each story reaches, and how often; all of them end well when nobody dies."""
    found: Reached = {}
    for name, story in STORIES.items():
        world = World(memory / name, template)
        runs, last = story(world)
        world.check(runs, last)
        found[name] = dict(Counter(label for label, _, _ in world.death.trail))
    return found


def killed(folder: Path, template: Path, story: str, moment: Moment, late: bool) -> None:
    """Tell a story in which the controller dies at a moment, and hold its end against what must be."""
    which = f"{' '.join(moment.label)} {moment.number} {'after' if moment.after else 'before'}"
    where = folder / f"{story}, {which} {'late' if late else 'soon'}"
    world = World(where, template, moment, late)
    runs, last = STORIES[story](world)
    world.check(runs, last, deaths=1)
    assert world.death.struck == 1
    shutil.rmtree(where)


def stories_of(entry: Label, reached: Reached) -> list[str]:
    """Return the stories that come by a move; those that `BEYOND` names are in none."""
    stories = [name for name, counts in reached.items() if entry in counts]
    assert bool(stories) is (entry not in BEYOND), f"{entry} is reached by {stories or 'no story'}"
    return stories


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("entry", ENTRIES, ids=" ".join)
def test_killed_at(entry: Label, after: bool, reached: Reached, memory: Path, template: Path) -> None:
    stories = stories_of(entry, reached)
    late = after is bool(ENTRIES.index(entry) % 2)
    if stories and not late:  # the first time in one story, with a successor at once
        killed(memory, template, stories[0], Moment(entry, 1, after), late)
    elif stories:  # the last time in another, with a successor when leases are over
        killed(memory, template, stories[-1], Moment(entry, reached[stories[-1]][entry], after), late)


@pytest.mark.lab
@pytest.mark.long
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("entry", ENTRIES, ids=" ".join)
def test_killed_at_each_time_in_every_story(
    entry: Label, after: bool, reached: Reached, memory: Path, template: Path
) -> None:
    for name in stories_of(entry, reached):
        for number in range(1, reached[name][entry] + 1):
            killed(memory, template, name, Moment(entry, number, after), late=number % 2 == 0)
            killed(memory, template, name, Moment(entry, number, after), late=number % 2 == 1)
