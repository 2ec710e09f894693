"""The transport interface: one byte channel to one command on one device."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from litefleet_agent.findings import Finding, finding
from litefleet_inventory import checks
from litefleet_inventory.model import Device


class TransportError(Exception):
    """The device could not be reached, or the connection broke; `found` is the finding."""

    def __init__(self, found: Finding) -> None:
        super().__init__(found.observed)
        self.found = found


class Channel(Protocol):
    """A running command's stdin and stdout.  Every method raises TransportError when the connection breaks."""

    host_key: str  # the fingerprint of the key that the device proved to hold; "" where the transport has none

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the peer's window is full."""

    async def read(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes, or none when the command has closed its output."""

    async def end_input(self) -> None:
        """End the command's standard input."""

    def stderr_tail(self) -> str:
        """Return the last lines that the command wrote to stderr, at most 4 KiB."""

    async def exit_code(self) -> int | None:
        """Return the code with which the command ended; None when a signal ended it, or the connection broke before."""


class Transport(Protocol):
    """Opens channels; one object serves a whole fleet."""

    def open(self, device: Device, command: str) -> AbstractAsyncContextManager[Channel]:
        """Connect, run `command` and yield its channel; TransportError when that fails."""


def hop_device(hop: Device | str, behind: Device) -> Device:
    """Return a jump host that was written as "user@host:port" as a device; it is reached with the key of the one behind it."""
    if isinstance(hop, Device):
        return hop
    if wrong := checks.jump(hop):
        raise TransportError(finding("LF501", f"the jump host {hop!r} of {behind.name} can't be used: {wrong}"))
    user, host, port = checks.split_address(hop)
    return Device(name=hop, host=host, port=int(port or 22), user=user, key=behind.key)
