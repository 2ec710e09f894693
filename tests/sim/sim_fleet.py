"""A whole simulated fleet: devices, inventory, transport and clock, from one seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from litefleet_controller.devices.agent_archive import AgentArchive
from litefleet_inventory.model import Device

from tests.sim.sim_device import SimDevice
from tests.sim.sim_profile import KINDS, Profile
from tests.sim.sim_transport import SimTransport
from tests.sim.virtual_loop import VirtualClock

__all__ = ["ARCHIVE", "MIX", "SimFleet", "make_fleet"]

ARCHIVE = AgentArchive(b"a simulated agent", hashlib.sha256(b"a simulated agent").hexdigest())  # small, as it travels
MIX = ("pi4", "pi4", "pi4", "n100", "n100", "pi5", "pi3", "pi2", "alpine", "old-pc")

Shape = Callable[[str, Profile, random.Random], Profile]  # name, a kind's profile, dice -> this device's profile


@dataclass(frozen=True)
class SimFleet:
    """Devices by name in the inventory's order, and the way to them."""

    clock: VirtualClock
    inventory: tuple[Device, ...]
    devices: dict[str, SimDevice]
    transport: SimTransport

    def running(self, model: str) -> dict[str, list[str]]:
        """Return the names of the devices by the version of `model` that they run; "" = none."""
        found: dict[str, list[str]] = {}
        for device in self.devices.values():
            found.setdefault(device.versions().get(model, ""), []).append(device.name)
        return found


def _as_it_is(name: str, profile: Profile, dice: random.Random) -> Profile:
    return profile


def make_fleet(
    size: int,
    seed: str = "fleet",
    *,
    kinds: Sequence[str] = MIX,
    shape: Shape = _as_it_is,
    jumps: Sequence[str] = ("",),
    clock: VirtualClock | None = None,
) -> SimFleet:
    """Return `size` devices named dev-00000 and so on; kinds and jump hosts are drawn by the seed."""
    clock = clock or VirtualClock()
    inventory: list[Device] = []
    devices: dict[str, SimDevice] = {}
    for number in range(size):
        name = f"dev-{number:05d}"
        dice = random.Random(f"{seed} {name}")
        kind, jump = dice.choice(kinds), dice.choice(jumps)
        profile = Profile(KINDS[kind], link_s=dice.uniform(0.002, 0.15), verify_s=dice.uniform(0.5, 8))
        devices[name] = SimDevice(name, clock, shape(name, profile, dice))
        host = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
        inventory.append(Device(name=name, host=host, jump=jump, groups=(kind,)))
    return SimFleet(clock, tuple(inventory), devices, SimTransport(devices))
