"""`litefleet accept-key`: trusts the host key that a device shows now, after a person compared the fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import asyncssh
from litefleet_inventory import Device

from ..common.errors import FindingError, UsageError
from ..common.operator import actor
from ..devices.transport.base import TransportError
from ..project import Options
from ..project.project import open_project, open_state


@dataclass(frozen=True)
class ShownKey:
    """The host key that a device shows, and those that are known for it."""

    device: Device
    key: asyncssh.SSHKey
    old: tuple[str, ...]  # fingerprints

    @property
    def fingerprint(self) -> str:
        """The new key's fingerprint, "SHA256:…"."""
        return str(self.key.get_fingerprint())

    @property
    def host_name(self) -> str:
        """The device's name in known_hosts files, quoted for a shell where it has a port."""
        device = self.device
        return device.host if device.port == 22 else f"'[{device.host}]:{device.port}'"

    @property
    def known(self) -> bool:
        """Whether the shown key is trusted already."""
        return self.fingerprint in self.old

    def text(self) -> str:
        """Return what a person compares."""
        where = f"{self.device.name} ({self.device.host}, port {self.device.port})"
        old = ", ".join(self.old) or "none"
        kind = str(self.key.get_algorithm())
        return f"{where}\n  known key  {old}\n  shows now  {self.fingerprint} ({kind})"


async def shown_key(options: Options, name: str) -> ShownKey:
    """Ask a device for its host key, through its jump hosts, without a login on it.

    Raises: UsageError for an unknown name, and for a key that the inventory itself pins; FindingError
    (LF501 …) when the device cannot be reached.
    """
    project = open_project(options)
    device = project.inventory.by_name.get(name)
    if device is None:
        raise UsageError(f"{name[:80]} is not in the inventory")
    try:
        key = await project.transport().shown_key(device)
    except TransportError as error:
        raise FindingError((error.found,)) from error
    decision = project.host_keys().decision(device)
    if key in decision.revoked:
        raise UsageError(f"{name} shows {key.get_fingerprint()}, a key that known_hosts marks as revoked")
    found = ShownKey(device, key, tuple(sorted(str(known.get_fingerprint()) for known in decision.known)))
    if device.host_keys and not found.known:
        raise UsageError(
            f"{found.text()}\nThe inventory itself pins this device's key (`host_key:`, {device.source}): change it there"
        )
    return found


def accept_key(options: Options, shown: ShownKey) -> Sequence[str]:
    """Replace the pinned keys of a device by the one it shows, and return the old keys that other files still hold."""
    project = open_project(options)
    with closing(open_state(project.config)) as state:
        host_keys = project.host_keys()
        host_keys.replace(shown.device, shown.key)
        details = {"device": shown.device.name, "old": ", ".join(shown.old), "new": shown.fingerprint}
        state.log(actor(project.config.operator), "host key accepted", {"fleet": project.config.fleet, **details})
    rest = project.host_keys().fingerprints(shown.device) - {shown.fingerprint}
    return sorted(rest)
