"""`prepare_next`: the files of the next wave are sent while a wave is tried.  Limits, windows, approvals, stops."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.rollout import RolloutState

from tests.sim.fleet_run import FleetRun
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import SimFleet, make_fleet
from tests.sim.sim_profile import Outage, Profile
from tests.sim.virtual_loop import EPOCH, VirtualClock, run_killed

SLOW_S = 30.0  # of a proof; nothing else in these fleets takes a second
Begin = Callable[..., FleetRun]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Make controllers of fleets of which each device runs version 1 of `cls`, with a policy for the rollouts to come."""
    made: list[FleetRun] = []

    def make(fleet: SimFleet, **policy: Any) -> FleetRun:
        made.append(FleetRun(fleet, tmp_path / str(len(made)), waves=["100%"], stratify=False))
        assert made[-1].roll_out().state is RolloutState.DONE
        for device in fleet.devices.values():
            device.served.clear()
        policy = {"waves": [1, "40%", "100%"], "stratify": False, "prepare_next": True, **policy}
        return made[-1].reopen(made[-1].policy.model_validate(policy))  # type: ignore[return-value]

    yield make
    for controller in made:
        controller.leave()


def alike(size: int, outages: dict[int, tuple[Outage, ...]] | None = None, **more: Any) -> SimFleet:
    """Return devices of one kind whose proofs take SLOW_S."""
    away = {f"dev-{number:05d}": found for number, found in (outages or {}).items()}

    def shape(name: str, profile: Profile, dice: object) -> Profile:
        return Profile(verify_s=SLOW_S, outages=away.get(name, ()), cause=_version_three_is_wrong)

    return make_fleet(size, kinds=("pi4",), shape=shape, **more)


def _version_three_is_wrong(release: str, device: SimDevice) -> list[Any]:
    return [finding("LF400", "simulated")] if device.releases[release]["model"]["version"] == "3" else []


def prepared(controller: FleetRun) -> list[dict[str, Any]]:
    """Return what the audit log has of preparations, the oldest first."""
    entries = [entry for entry in controller.state.audit() if entry.action == "prepare"]
    return [dict(entry.what) for entry in sorted(entries, key=lambda entry: entry.seq)]


def files_of(controller: FleetRun, device: SimDevice, version: str) -> set[str]:
    """Return the files of a release for a device."""
    return set(controller.supply.release("cls", version, device.profile.kind.facts).blobs)


def test_a_wave_has_its_files_before_the_one_before_it_is_judged_and_its_turn_sends_none(begin: Begin) -> None:
    fleet = alike(10)
    controller = begin(fleet)
    start = fleet.clock.elapsed
    assert controller.roll_out(version="2").state is RolloutState.DONE
    controller.agrees()
    firsts: dict[str, list[float]] = {}
    for contact in controller.contacts():
        firsts.setdefault(contact.device, []).append(contact.at - start)
    for wave in (1, 2):
        for name in controller.wave(wave):
            ahead, own = firsts[name]
            assert (ahead > (wave - 1) * SLOW_S, ahead < wave * SLOW_S < own) == (True, True), firsts
            served = fleet.devices[name].served
            put = len(served) - 1 - served[::-1].index("put")
            assert put < served.index("release"), served
            assert served[served.index("room") : served.index("release")] == ["room"], served
            assert served.count("activate") == 1
    whole = [{"prepared_wave": 2, "devices": 3, "prepared": 3}, {"prepared_wave": 3, "devices": 6, "prepared": 6}]
    assert [{key: entry[key] for key in whole[0]} for entry in prepared(controller)] == whole
    assert all(entry["bytes"] > 0 and not entry["not_prepared"] for entry in prepared(controller))


def test_without_the_option_nothing_is_sent_ahead(begin: Begin) -> None:
    controller = begin(alike(10), prepare_next=False)
    assert controller.roll_out(version="2").state is RolloutState.DONE
    assert len(controller.contacts()) == 10
    assert prepared(controller) == []


def test_a_stop_leaves_what_runs_and_the_next_cleanup_drops_the_files(begin: Begin) -> None:
    fleet = alike(10)
    controller = begin(fleet)
    before = {name: (device.current, dict(device.releases)) for name, device in fleet.devices.items()}
    assert controller.roll_out(version="3").state is RolloutState.PAUSED  # the canary is wrong
    second = [fleet.devices[name] for name in controller.wave(1)]
    left = files_of(controller, second[0], "3") - files_of(controller, second[0], "1")
    assert left
    for device in second:
        assert left <= device.blobs.keys()
        assert (device.current, device.releases) == before[device.name]
        assert set(device.served) <= {"hello", "put", "runtime"}, device.served
    assert len(prepared(controller)) == 1
    controller.state.ask(controller.rollout().id, "abort", "test")
    controller.choose()
    assert controller.roll_out(version="2").state is RolloutState.DONE
    for device in second:
        assert not left & device.blobs.keys()
        assert files_of(controller, device, "1") <= device.blobs.keys(), "the previous release lost its files"
        assert device.versions() == {"cls": "2"}


def test_every_limit_holds_and_the_waves_own_sessions_come_first(begin: Begin) -> None:
    took = {}
    for option in (True, False):
        fleet = alike(30, jumps=("", "north", "south"))
        limits = {"parallel": 6, "per_jump_host": 2, "per_minute": 5, "waves": [3, 12, "100%"]}
        controller = begin(fleet, prepare_next=option, **limits)
        start = fleet.clock.elapsed
        assert controller.roll_out(version="2").state is RolloutState.DONE
        took[option] = fleet.clock.elapsed - start
        contacts = controller.contacts()
        assert max(c.open_now for c in contacts) <= 6
        assert max(c.behind_jump for c in contacts) <= 2
        assert (len(contacts) > 30) == option, "nothing was sent ahead"
        turns = [at for at, _ in controller.state.begun_since(controller.rollout().id, 0.0)]
        assert max(bisect.bisect_left(turns, at + 60.0) - i for i, at in enumerate(turns)) <= 5
    assert took[True] < 1.05 * took[False]


def test_nothing_is_sent_ahead_outside_the_windows_and_the_rest_goes_in_the_next_one(begin: Begin) -> None:
    fleet = alike(8, clock=VirtualClock((EPOCH // 86400 + 1) * 86400))
    windows = ["00:00-00:10", "00:12-01:00"]
    controller = begin(fleet, parallel=1, soak="3m", windows=windows, waves=[1, "100%"])
    closes, opens = 600, 720
    fleet.clock.elapsed = closes - SLOW_S - 3
    assert controller.roll_out(WaitPolicy.ALL, "2").state is RolloutState.DONE
    times = [round(contact.at, 3) for contact in controller.contacts()]
    first, second = [at for at in times if at < closes], [at for at in times if at >= opens]
    assert len(first) + len(second) == len(times), times
    assert 1 < len(first) < 8, times  # the canary, and some of the next wave until the window ends
    assert len(second) == 7 - (len(first) - 1) + 1 + 7, times  # the others, the look after the soak, and their turns
    assert prepared(controller)[0]["prepared"] == 7


@pytest.mark.parametrize("option", [True, "always"])
def test_a_wave_behind_an_approval_gets_its_files_only_where_the_policy_says_always(
    begin: Begin, option: bool | str
) -> None:
    controller = begin(alike(4), approve=True, waves=[1, "100%"], prepare_next=option)
    assert controller.roll_out(version="2").state is RolloutState.WAITING
    touched = controller.touched()
    assert touched == (set(controller.fleet.devices) if option == "always" else controller.wave(0))
    assert [entry["prepared"] for entry in prepared(controller)] == ([3] if option == "always" else [])
    assert controller.begun() == controller.wave(0)
    assert controller.approve().state is RolloutState.DONE
    controller.agrees()


def test_a_device_that_is_away_meanwhile_has_not_failed(begin: Begin) -> None:
    fleet = alike(4, {2: (Outage(200.5, 220.0),)})  # the look ends before
    controller = begin(fleet, waves=[1, "100%"])
    fleet.clock.elapsed = 200.0
    assert controller.roll_out(version="2").state is RolloutState.DONE
    assert controller.counts() == {"confirmed": 4}
    (entry,) = prepared(controller)
    assert (entry["prepared"], list(entry["not_prepared"])) == (2, ["dev-00002"]), entry
    assert "does not answer" in entry["not_prepared"]["dev-00002"]


def test_a_controller_that_dies_while_it_sends_ahead_leaves_nothing_behind(begin: Begin) -> None:
    fleet = alike(6)
    controller = begin(fleet)
    controller.supply.versions["cls"] = "2"
    run_killed(controller.rolled_out(), fleet.clock, at=fleet.clock.now() + 1.5)
    controller.reopen()
    assert len(controller.touched()) > 1, "nothing was being sent ahead"
    assert controller.begun() == controller.wave(0)
    assert controller.resume().state is RolloutState.DONE
    controller.agrees()
    assert controller.counts() == {"confirmed": 6}


def test_the_first_of_two_models_keeps_the_files_of_the_second(begin: Begin) -> None:
    fleet = alike(3)
    controller = begin(fleet, waves=[1, "100%"])
    controller.supply.versions.update(cls="2", rec="2")
    controller.models = ("cls", "rec")
    controller.reopen()
    assert controller.roll_out().state is RolloutState.DONE
    assert controller.counts() == {"confirmed": 6}
    for name in controller.wave(1):
        served = fleet.devices[name].served
        assert "put" not in served[served.index("release") :], served
        assert fleet.devices[name].versions() == {"cls": "2", "rec": "2"}
