"""Whole rollouts on simulated fleets, in virtual time: waves, gates, limits, devices that come and go, and what a person does."""

from __future__ import annotations

import bisect
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.rollout import DeviceState, RolloutState
from litefleet_controller.rollout.windows import open_until
from litefleet_controller.state import FleetLocked, FleetLockLost, Owner, State

from tests.sim.fleet_run import FleetRun
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import MIX, Shape, SimFleet, make_fleet
from tests.sim.sim_profile import KINDS, Outage, Profile, flapping, random_cuts
from tests.sim.virtual_loop import run_killed

HOUR = 3600.0
JUMPS = ("", "jump-a", "jump-b")
D = DeviceState


@pytest.fixture
def begin() -> Iterator[Callable[..., FleetRun]]:
    """Return a maker of controllers; their files are in memory where the machine has such a place: synced writes cost time."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="litefleet-sim-", dir=memory if os.access(memory, os.W_OK) else None))
    made: list[FleetRun] = []

    def make(fleet: SimFleet, **policy: Any) -> FleetRun:
        made.append(FleetRun(fleet, folder / str(len(made)), **policy))
        return made[-1]

    yield make
    for controller in made:
        controller.leave()
    shutil.rmtree(folder)


def failing(part: str, version: str, code: str = "LF403", share: float = 1.0) -> Shape:
    """Return a shape: on a share of the devices with this CPU part, releases of `version` fail."""

    def shape(name: str, profile: Profile, dice: random.Random) -> Profile:
        if profile.kind.part != part or dice.random() >= share:
            return profile
        return profile.with_(cause=lambda release, device: _found(release, device, version, code))

    return shape


def _found(release: str, device: SimDevice, version: str, code: str) -> Sequence[Finding]:
    of = device.releases[release]["model"]["version"]
    return (finding(code, "simulated"),) if of == version else ()


def sick(fleet: SimFleet) -> set[str]:
    """Return the devices that were given a cause to fail."""
    return {name for name, device in fleet.devices.items() if device.profile.cause is not Profile().cause}


def coming_and_going(until: float, share: float, up_s: float = 600, down_s: float = 180) -> Shape:
    """Return a shape: a share of the devices comes and goes, and lines break."""

    def shape(name: str, profile: Profile, dice: random.Random) -> Profile:
        if dice.random() >= share:
            return profile
        return profile.with_(outages=flapping(name, up_s, down_s, until, 0.3), cut=random_cuts(name, 0.2))

    return shape


def within_limits(controller: FleetRun) -> None:
    """Hold what was counted on the way against the policy; looks before a plan and after a soak heed jump hosts too."""
    policy, contacts = controller.rollout().policy, controller.contacts()
    times = sorted(c.at for c in contacts)
    assert max(c.open_now for c in contacts) <= (policy.parallel or 32)
    assert max(c.behind_jump for c in controller.fleet.transport.contacts) <= policy.per_jump_host
    if policy.per_minute is not None:
        assert max(bisect.bisect_left(times, at + 60.0) - i for i, at in enumerate(times)) <= policy.per_minute


def kinds_of(controller: FleetRun, names: set[str]) -> set[str]:
    """Return the kinds of board among these devices."""
    return {controller.fleet.devices[name].profile.kind.part for name in names}


def whole_fleet(begin: Callable[..., FleetRun], size: int) -> FleetRun:
    """Roll out to a mixed fleet where every tenth device comes and goes, and check it all."""
    fleet = make_fleet(size, f"whole {size}", shape=coming_and_going(12 * HOUR, 0.1), jumps=JUMPS)
    controller = begin(fleet, parallel=24, per_jump_host=5, per_minute=600, gates="off", retry={"longest": "10m"})
    rollout = controller.roll_out(WaitPolicy.ALL)
    assert rollout.state is RolloutState.DONE
    assert controller.names(D.CONFIRMED, D.UNCHANGED) == fleet.devices.keys()  # unchanged: its last answer was lost
    assert len(controller.names(D.CONFIRMED)) > 0.99 * size
    canary = controller.wave(0)
    assert kinds_of(controller, canary) == {KINDS[kind].part for kind in MIX}
    within_limits(controller)
    controller.agrees()
    assert all(len({v for _, v in d.history} - {""}) == 1 for d in fleet.devices.values())
    return controller


def test_a_mixed_fleet_where_every_tenth_device_comes_and_goes(begin: Callable[..., FleetRun]) -> None:
    controller = whole_fleet(begin, 300)
    assert sum(row.attempts > 1 for row in controller.rows().values()) > 3
    before = {name: list(device.history) for name, device in controller.fleet.devices.items()}
    assert controller.roll_out(WaitPolicy.ALL).state is RolloutState.DONE
    assert controller.counts() == {"unchanged": 300}
    assert {name: device.history for name, device in controller.fleet.devices.items()} == before


@pytest.mark.lab
@pytest.mark.timeout(1800)
def test_ten_thousand_devices(begin: Callable[..., FleetRun]) -> None:
    controller = whole_fleet(begin, 10_000)
    assert sum(row.attempts > 1 for row in controller.rows().values()) > 100


@pytest.mark.lab
@pytest.mark.timeout(1800)
def test_one_bad_part_of_ten_thousand_devices_costs_one_device(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(10_000, "bad", shape=failing("Cortex-A53", "1"))
    controller = begin(fleet)
    assert controller.roll_out().state is RolloutState.PAUSED
    assert len(controller.names(D.FAILED)) == 1
    assert len(controller.touched()) <= 7


def test_the_canary_has_every_kind_and_nobody_else_is_touched_when_it_fails(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(100, shape=failing("Cortex-A53", "2"))
    controller = begin(fleet)
    assert controller.roll_out().state is RolloutState.DONE
    held = {name: set(device.blobs) for name, device in fleet.devices.items()}
    rollout = controller.roll_out(version="2")
    canary = controller.wave(0)
    assert (rollout.state, rollout.behind) == (RolloutState.PAUSED, tuple(controller.names(D.FAILED)))
    assert kinds_of(controller, set(rollout.behind)) == {"Cortex-A53"}
    assert kinds_of(controller, canary) == {KINDS[kind].part for kind in MIX}
    assert len(canary) == 7
    assert controller.touched() == canary
    later = fleet.devices.keys() - canary
    assert all(set(fleet.devices[name].blobs) == held[name] for name in later)
    assert {fleet.devices[name].versions()["cls"] for name in later | set(rollout.behind)} == {"1"}
    controller.agrees()


def test_a_bug_in_the_work_for_one_kind_is_the_outcome_of_those_devices_alone(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(40, "bug")
    controller = begin(fleet)
    those = {n for n, d in fleet.devices.items() if d.profile.kind.part == KINDS["pi3"].part}

    def bug(model: str, facts: Facts) -> Finding | None:
        if KINDS["pi3"].part in facts.cpu.parts:
            raise KeyError("a case that nobody thought of")
        return None

    controller.supply.refuses = bug
    assert controller.roll_out().state is RolloutState.DONE
    assert controller.names(D.BLOCKED) == those != set()
    assert controller.names(D.CONFIRMED) == fleet.devices.keys() - those
    for (name, _), row in controller.rows().items():
        if name in those:
            assert (row.codes, name in row.sentence, "KeyError" in row.sentence) == (("LF900",), True, True)


def test_a_busy_device_has_not_failed_and_is_tried_again(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(2)
    controller = begin(fleet, waves=("100%",), stratify=False)
    busy, other = fleet.devices.values()
    busy.lock("somebody else's session")
    rollout = controller.roll_out()
    reported = {o.device: (o.verdict, [f.code for f in o.findings]) for o in controller.state.outcomes(rollout.id)}
    assert reported == {busy.name: (Verdict.UNREACHABLE, ["LF508"]), other.name: (Verdict.VERIFIED, [])}
    assert controller.names(D.OFFLINE) == {busy.name}
    assert [row.attempts for row in controller.rows().values() if row.device == busy.name] == [3]
    busy.leave("somebody else's session", broken=False)
    fleet.clock.advance(HOUR)
    controller.resume()
    assert controller.names(D.CONFIRMED) == fleet.devices.keys()


def test_a_device_that_a_dead_controllers_session_still_holds_is_waited_for(begin: Callable[..., FleetRun]) -> None:
    """The session of a controller that vanished without a word ends after 30 s."""
    fleet = make_fleet(2, shape=lambda name, profile, dice: profile.with_(linger_s=30))
    controller = begin(fleet, waves=("100%",), stratify=False)
    held, _ = fleet.devices.values()
    held.lock("a dead controller's session")
    held.leave("a dead controller's session", broken=True)
    assert controller.roll_out().state is RolloutState.DONE
    assert controller.names(D.CONFIRMED) == fleet.devices.keys()


def test_a_cluster_stops_after_the_third_of_a_part_and_resuming_forgives_those(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(100, "cluster", shape=failing("Cortex-A72", "1", share=0.4))
    bad = sick(fleet)
    controller = begin(fleet, parallel=1, gates={"canary": {"count": 2}, "wave": {}, "total": {}})
    rollout = controller.roll_out()
    stops = 1
    assert len(controller.names(D.FAILED)) == 3
    assert rollout.reason.startswith("cluster: 3 devices with Cortex-A72 failed with LF403")
    assert set(rollout.behind) == controller.names(D.FAILED) <= bad
    begun = controller.begun()
    assert controller.touched() == begun
    while (rollout := controller.resume()).state is RolloutState.PAUSED:
        stops += 1
        assert len(controller.names(D.FAILED)) == 3 * stops
    assert (rollout.state, stops) == (RolloutState.DONE, len(bad) // 3)
    assert controller.names(D.FAILED) == bad
    assert controller.names(D.CONFIRMED) == fleet.devices.keys() - bad
    controller.agrees()


def test_many_at_once_cost_no_more_than_those_under_way_when_a_cluster_stops(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(200, "cluster", shape=failing("Cortex-A72", "1", share=0.4))
    controller = begin(fleet, parallel=16, gates={"canary": {"count": 2}, "wave": {}, "total": {}})
    rollout = controller.roll_out()
    begun = controller.begun()
    assert rollout.state is RolloutState.PAUSED
    assert 3 <= len(controller.names(D.FAILED)) <= 3 + 15
    assert not controller.names(D.STAGING, D.PROVEN, D.SWITCHING, D.LEASED)
    assert controller.names(D.PENDING) | begun == fleet.devices.keys()
    assert controller.touched() == begun
    controller.agrees()


def test_a_share_of_a_wave_stops_for_failures_that_have_nothing_in_common(begin: Callable[..., FleetRun]) -> None:
    codes = ("LF401", "LF402", "LF403", "LF404", "LF405", "LF312", "LF408", "LF411")

    def shape(name: str, profile: Profile, dice: random.Random) -> Profile:
        return failing(profile.kind.part, "1", dice.choice(codes), 0.5)(name, profile, dice)

    off: dict[str, Any] = {"canary": {}, "total": {}, "cluster": {}}
    controller = begin(make_fleet(80, shape=shape), parallel=1, waves=["25%", "100%"], stratify=False, gates=off)
    rollout = controller.roll_out()
    behind = controller.names(D.FAILED) & controller.wave(1)
    assert rollout.reason.startswith("wave: 13 of 60 devices in wave 2 failed, more than 20%")
    assert (rollout.state, set(rollout.behind), len(behind)) == (RolloutState.PAUSED, behind, 13)
    assert controller.names(D.FAILED) <= sick(controller.fleet)
    assert controller.names(D.PENDING).isdisjoint(controller.touched())


def test_devices_that_never_come_are_given_up_after_the_policy_s_time(begin: Callable[..., FleetRun]) -> None:
    def shape(name: str, profile: Profile, dice: random.Random) -> Profile:
        gone = dice.random()
        if gone < 0.1:
            return profile.with_(outages=(Outage(0.0),))
        return profile.with_(outages=(Outage(0.0, HOUR),)) if gone < 0.3 else profile

    fleet = make_fleet(60, shape=shape)
    controller = begin(
        fleet, retry={"first": "60s", "longest": "20m", "give_up_after": "2h"}, gates={"total": {"share": 0.01}}
    )
    dead = {n for n, d in fleet.devices.items() if d.profile.outages and d.profile.outages[0].end > 1e9}
    late = {n for n, d in fleet.devices.items() if d.profile.outages} - dead
    assert controller.roll_out().state is RolloutState.RUNNING  # without patience, they stay queued
    assert controller.names(D.OFFLINE) == dead | late
    rollout = controller.resume(WaitPolicy.ALL)
    assert rollout.state is RolloutState.DONE  # who was never reached counts in no gate
    assert controller.names(D.CONFIRMED) == fleet.devices.keys() - dead
    assert controller.names(D.FAILED) == dead
    assert len(dead) > 3
    assert len(late) > 3
    assert {row.codes for row in controller.rows().values() if row.device in dead} == {("LF615",)}
    assert fleet.clock.elapsed == pytest.approx(2 * HOUR, abs=120)
    last = {c.device: c.at for c in controller.contacts()}
    assert max(last[name] for name in dead) <= 2 * HOUR
    assert max(last[name] for name in late) < HOUR + 1.3 * 20 * 60
    controller.agrees()


def test_no_device_is_begun_outside_the_windows(begin: Callable[..., FleetRun]) -> None:
    windows = ["21:00-21:02", "22:00-22:02", "23:30-23:32"]
    fleet = make_fleet(120, shape=coming_and_going(HOUR, 0.2))
    controller = begin(fleet, windows=windows, parallel=4, gates="off")
    assert controller.roll_out(WaitPolicy.ALL).state is RolloutState.DONE
    epoch = fleet.clock.epoch
    assert all(open_until(windows, "UTC", c.at + epoch) is not None for c in controller.contacts())
    hours = {int((c.at + epoch) % 86400 // HOUR) for c in controller.contacts()}
    assert hours >= {21, 22}
    controller.agrees()


def test_a_wave_soaks_and_what_went_bad_meanwhile_stops_the_next(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(60, jumps=("jump-a", "jump-b"))
    controller = begin(fleet, soak="30m", waves=["20%", "100%"], per_jump_host=2)
    first = min(fleet.devices)
    fleet.devices[first].drift["cls"] = [finding("LF602", "the model's file is damaged")]
    rollout = controller.roll_out()
    assert (rollout.state, rollout.behind) == (RolloutState.PAUSED, (first,))
    canary = controller.wave(0)
    assert controller.touched() == canary
    assert controller.names(D.CONFIRMED) == canary - {first}
    fleet.devices[first].drift.clear()
    assert controller.resume().state is RolloutState.DONE
    begun = min(c.at for c in controller.contacts() if c.device not in canary)
    assert begun >= 30 * 60
    within_limits(controller)
    assert controller.names(D.FAILED) == {first}
    assert controller.retry().state is RolloutState.DONE
    assert controller.counts() == {"confirmed": 59, "unchanged": 1}  # it runs what it should, and its proof still holds


def test_a_person_approves_every_wave(begin: Callable[..., FleetRun]) -> None:
    fleet = make_fleet(60)
    controller = begin(fleet, approve=True)
    rollout, done = controller.roll_out(), [len(controller.names(D.CONFIRMED))]
    while rollout.state is RolloutState.WAITING:
        rollout = controller.approve()
        done.append(len(controller.names(D.CONFIRMED)))
    assert (rollout.state, done) == (RolloutState.DONE, [7, 30, 60])
    controller.agrees()


def test_a_slower_release_is_not_switched_on_and_stops_the_rollout(begin: Callable[..., FleetRun]) -> None:
    def slower(release: str, device: SimDevice) -> float:
        return 1.8 if device.releases[release]["model"]["version"] == "2" else 1.0

    def shape(name: str, profile: Profile, dice: random.Random) -> Profile:
        return profile.with_(pace=slower) if profile.kind.part == "Cortex-A7" else profile

    fleet = make_fleet(80, shape=shape)
    controller = begin(fleet, stratify=True)
    controller.roll_out()
    rollout = controller.roll_out(version="2")
    assert rollout.state is RolloutState.PAUSED
    assert rollout.reason.startswith("regression: ")
    assert len(rollout.behind) == 1
    behind = fleet.devices[rollout.behind[0]]
    assert (behind.profile.kind.part, behind.versions()["cls"]) == ("Cortex-A7", "1")
    row = next(r for r in controller.rows().values() if r.device == behind.name)
    assert (row.verdict, row.codes, row.regressed) == (Verdict.SLOW, ("LF413",), True)


def test_healthy_rollouts_on_busy_devices_do_not_stop(begin: Callable[..., FleetRun]) -> None:
    """Noise with a heavy tail, as on a machine that does other things; each rollout is of a release that is as fast as before."""
    dice = random.Random("busy")

    def busy(release: str, device: SimDevice) -> float:
        return 1.0 + dice.expovariate(4.0) + (dice.random() < 0.1) * dice.uniform(0.5, 3)

    rollouts = 40
    fleet = make_fleet(1, shape=lambda name, profile, dice: profile.with_(pace=busy))
    controller = begin(fleet, stratify=False)
    (device,) = fleet.devices.values()
    for version in range(rollouts):
        rollout = controller.roll_out(version=str(version))
        assert rollout.state is RolloutState.DONE, rollout.reason
    first_alone = device.served.count("bench")
    print(f"of {rollouts} healthy rollouts, {first_alone} would have stopped by the first measurement alone; none did")
    assert 0 < first_alone < rollouts


def test_a_second_controller_is_refused_while_the_first_lives_and_takes_over_when_it_is_dead(
    begin: Callable[..., FleetRun],
) -> None:
    fleet = make_fleet(100)
    controller, clock = begin(fleet, parallel=4, gates="off"), fleet.clock
    controller.state.release(controller.context.lock)
    controller.context.lock = controller.state.acquire("simulated", Owner("tester", "here", 1))
    assert not run_killed(controller.rolled_out(), clock, at=clock.now() + 75).done
    fleet.transport.hang_up()
    assert 0 < len(controller.names(D.CONFIRMED)) < 100
    with closing(State.open(controller.folder / "state.db", clock=clock.now)) as other:
        with pytest.raises(
            FleetLocked, match="tester@here"
        ):  # it was heard of a moment ago: ten seconds before, at most
            other.acquire("simulated", Owner("another", "elsewhere", 2))
        clock.advance(61)
        lock = other.acquire("simulated", Owner("another", "elsewhere", 2))
        with pytest.raises(FleetLockLost, match="another@elsewhere"):
            controller.resume()
        controller.context.lock = lock
        assert controller.resume().state is RolloutState.DONE
    assert controller.counts() == {"confirmed": 100}
    controller.agrees()
