"""Lines cut at random bytes, power that fails, devices that vanish: every device stays whole, and nothing is lost.

Each seed is one small fleet with its own misfortunes.  LITEFLEET_TEST_SEEDS sets how many are run; marked `lab` are hundreds.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.rollout import DeviceState, RolloutState

from tests.sim.engine_harness import copy_state
from tests.sim.fleet_run import FleetRun
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import SimFleet, make_fleet
from tests.sim.sim_profile import Cut, Outage, Profile

SEEDS = int(os.environ.get("LITEFLEET_TEST_SEEDS", "25"))
MANY = 600
BYTES = {"in": (0, 2900), "out": (0, 2700)}  # of a whole conversation
SWITCH = {"in": (1700, 2900), "out": (1800, 2700)}  # of its end: switch on, confirm
UNTIL = 1800.0  # seconds in which things go wrong
STYLES: tuple[Literal["reset", "closed", "hang"], ...] = ("reset", "closed", "hang")


@pytest.fixture
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="litefleet-sim-", dir=memory if os.access(memory, os.W_OK) else None))
    yield made
    shutil.rmtree(made)


def misfortunes(name: str, profile: Profile, dice: random.Random) -> Profile:
    """Cut most of the first contacts anywhere, cut the power between any two requests, and reach the device only at times."""
    often = dice.choice((0.3, 0.6, 0.9))
    cuts = {n: _cut(dice) for n in range(1, 12) if dice.random() < often}
    outages: list[Outage] = []
    now = dice.uniform(0, 30)
    while now < UNTIL and dice.random() < 0.7:
        end = now + dice.choice((0.01, 5.0, 60.0, 300.0)) * dice.uniform(0.5, 1.5)
        outages.append(Outage(now, end, dice.random() < 0.6, dice.choice(STYLES)))
        now = end + dice.uniform(1, 40)
    return profile.with_(
        cut=cuts.get,
        outages=tuple(outages),
        keeper=dice.random() < 0.8,
        linger_s=dice.choice((0.0, 3.0, 40.0)),
        verify_s=dice.uniform(0.5, 5),
    )


def _cut(dice: random.Random) -> Cut:
    side: Literal["in", "out"] = dice.choice(("in", "out"))
    return Cut(side, dice.randrange(*dice.choice((BYTES, SWITCH))[side]), dice.choice(STYLES))


def one_seed(seed: int, folder: Path, template: Path) -> SimFleet:
    """Bring a fleet to version 1 and then to version 2, whatever happens on the way, and check every device's history."""
    copy_state(template, folder)
    fleet = make_fleet(3 + seed % 3, f"cut {seed}", shape=misfortunes)
    lease = random.Random(seed).choice(("10s", "60s", "10m"))
    controller = FleetRun(
        fleet, folder, gates="off", lease=lease, waves=[1, "100%"], retry={"first": "5s", "longest": "2m"}
    )
    for version in ("1", "2"):
        rollout = controller.roll_out(WaitPolicy.ALL, version)
        assert rollout.state is RolloutState.DONE, (seed, rollout)
        assert controller.names(DeviceState.CONFIRMED, DeviceState.UNCHANGED) == fleet.devices.keys(), seed
        assert {device.versions()["cls"] for device in fleet.devices.values()} == {version}, seed
        controller.agrees()
    fleet.clock.advance(8 * 86400)  # no lease is left that could take it back
    assert {device.versions()["cls"] for device in fleet.devices.values()} == {"2"}, seed
    for device in fleet.devices.values():
        whole(device, controller, seed)
    controller.leave()
    return fleet


def whole(device: SimDevice, controller: FleetRun, seed: int) -> None:
    """Hold a device's history against what it may be: nothing or 1, then 1 or 2, and never a release that is not proven whole."""
    versions = [controller.supply.version_of(release) for _, release in device.history]
    turn = len(versions) - versions[::-1].index("1")  # after the last time that 1 came to run
    assert set(versions[: versions.index("1") + 1]) <= {"", "1"}, (seed, device.name, versions)
    assert set(versions[turn:]) == {"2"}, (seed, device.name, versions)
    assert "" not in versions[_confirmed(versions) :], (seed, device.name, versions)
    for release in {release for _, release in device.history if release}:
        manifest = device.releases[release]
        assert release in device.verified, (seed, device.name, release)
        assert {manifest["model"]["nb"], *manifest["golden"]} <= device.blobs.keys(), (seed, device.name, release)


def _confirmed(versions: list[str]) -> int:
    """Return where version 2 was first tried: before that, 1 was confirmed."""
    return versions.index("2")


def some(seeds: range, folder: Path) -> dict[str, int]:
    """Run these seeds and return what happened to their devices in all."""
    template = folder / "template.db"
    first = FleetRun(make_fleet(1), folder / "template")
    first.leave()
    shutil.copyfile(folder / "template" / "state.db", template)
    seen = {"devices": 0, "contacts": 0, "failed contacts": 0, "went back": 0}
    for seed in seeds:
        fleet = one_seed(seed, folder / str(seed), template)
        seen["devices"] += len(fleet.devices)
        seen["contacts"] += len(fleet.transport.contacts)
        seen["failed contacts"] += sum(not c.reached for c in fleet.transport.contacts)
        seen["went back"] += sum(len(d.switch.undone) for d in fleet.devices.values())
        shutil.rmtree(folder / str(seed))
    return seen


def test_cut_lines(folder: Path) -> None:
    seen = some(range(SEEDS), folder)
    assert seen["contacts"] > 4 * seen["devices"]  # two looks and two rollouts, and more for what was cut
    assert seen["failed contacts"] > SEEDS / 2
    assert seen["went back"] > 0


@pytest.mark.lab
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_cut_lines_many_times(folder: Path) -> None:
    seen = some(range(1000, 1000 + MANY), folder)
    print(seen)
    assert seen["went back"] > MANY / 20
