"""Devices that got another name in the inventory: the same host key is the same device, and what is stored moves with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from litefleet_inventory.model import Device

from ..devices.progress import Progress
from ..project.project import Project
from ..state import FleetLock, State
from ..state.model import KnownDevice

if TYPE_CHECKING:
    from ..devices.transport.hostkeys import HostKeys


def follow_renames(state: State, lock: FleetLock, project: Project, progress: Progress, actor: str) -> None:
    """Move what is stored of renamed devices to their new names, and report it."""
    known, inventory = state.known(), project.inventory.by_name
    if not (known.keys() - inventory.keys() and inventory.keys() - known.keys()):
        return  # nothing has left, or nothing is new
    found = renames(known, inventory, project.host_keys())
    if found:
        state.rename(lock, found, actor)
        for old, new in found.items():
            progress.message(
                f"{old} is now {new}: it shows the same host key, and its rollouts and releases move with it"
            )


def renames(known: Mapping[str, KnownDevice], inventory: Mapping[str, Device], host_keys: HostKeys) -> dict[str, str]:
    """Return old name -> new name for devices that have left the inventory, and whose host key is one new device's alone."""
    left = {k.host_key: name for name, k in known.items() if name not in inventory and k.host_key}
    shared = Counter(
        k.host_key for k in known.values()
    )  # devices that were cloned with their key are told apart by nothing
    found: dict[str, str] = {}
    for name, device in inventory.items():
        if name in known:
            continue
        old = [left[key] for key in host_keys.fingerprints(device) if key in left and shared[key] == 1]
        if len(set(old)) == 1:
            found[name] = old[0]
    once = Counter(found.values())
    return {old: name for name, old in found.items() if once[old] == 1}
