"""The values of an inventory: devices and groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple


class SshSettings(NamedTuple):
    """What the operator's SSH configuration says of a device; the inventory sets none of it.  Empty: the default applies."""

    keys: tuple[str, ...] = ()  # IdentityFile: paths
    certificates: tuple[str, ...] = ()  # CertificateFile: paths
    keys_only: bool = False  # IdentitiesOnly
    agent: str = ""  # IdentityAgent: path of its socket; "none" = no agent
    proxy_command: str = ""
    known_as: str = ""  # HostKeyAlias
    known_hosts: tuple[str, ...] = ()  # UserKnownHostsFile: paths
    taken: tuple[str, ...] = ()  # what was taken, as "Port 2222", for people


_NOTHING = SshSettings()


@dataclass(frozen=True, slots=True)
class Device:
    """One device, with all inherited settings applied.  An empty text means that the default applies."""

    name: str
    host: str  # in lower case, IPv6 in its short form, as known_hosts files have it
    port: int = 22
    user: str = ""
    key: str = ""  # path of a private key file; "" = SSH agent or the default keys
    jump: str = ""  # "user@host:port", or the name of another device
    python: str = ""  # path of the interpreter on the device
    root: str = ""  # the agent's root folder on the device
    arch: str = ""  # expected, as `uname -m` names it
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()  # pinned public keys, "ssh-ed25519 AAAA..."
    artifact: str = ""  # path of a .nb file that this device receives unchanged
    runtime: str = ""  # a name under `runtimes:` in litefleet.yaml
    model: str = ""  # a name under `models:` in litefleet.yaml; "" = all
    legacy: bool = False  # SHA-1 and CBC are permitted in its SSH connections
    port_is_set: bool = field(default=False, compare=False)  # the inventory names the port
    ssh: SshSettings = _NOTHING
    source: str = field(default="", compare=False)  # "fleet.yaml:12": file and line of its definition


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of devices; `devices` includes those of its child groups, in the inventory's order."""

    name: str
    devices: tuple[str, ...] = ()
    children: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """All devices, in the order they were written, and all groups, in the order their settings apply."""

    devices: tuple[Device, ...] = ()
    groups: tuple[Group, ...] = ()
    notes: tuple[str, ...] = ()  # what was not understood of another tool's file

    @cached_property
    def by_name(self) -> Mapping[str, Device]:
        """The devices by name."""
        return {d.name: d for d in self.devices}

    def jump_chain(self, device: Device) -> tuple[Device | str, ...]:
        """Return the hops to `device`, first hop first: devices, and at most one "user@host:port" at the start."""
        hops: list[Device | str] = []
        jump = device.jump
        while jump and len(hops) <= len(self.devices):
            hop = self.by_name.get(jump)
            hops.append(hop if hop is not None else jump)
            jump = hop.jump if hop is not None else ""
        return tuple(reversed(hops))
