"""The transport interface: one byte channel to one command on one device; and the algorithms that connections may use.

Safe ones, and the old ones that `legacy: true` permits for one device.  Signatures of the operator's own keys are not listed:
asyncssh takes the best one that the server announces.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from litefleet_agent.findings import Finding, finding
from litefleet_inventory import checks
from litefleet_inventory.model import Device

# AES-GCM with the CPU's own instructions is the cheapest on both ends of most fleets; curve25519 keeps a handshake at 8 ms
# (the post-quantum exchange takes 124 ms with the OpenSSH client).  The rest stays on offer for older and smaller servers.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
KEX = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)

# SHA-1 and CBC: what servers from before 2016 have.  Both are broken enough that nobody should use them unasked.
LEGACY_CIPHERS = ("aes128-cbc", "aes256-cbc", "3des-cbc")
LEGACY_KEX = ("diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1")
LEGACY_HOST_KEY = "ssh-rsa"
LEGACY = frozenset((*LEGACY_CIPHERS, *LEGACY_KEX, LEGACY_HOST_KEY))
"""What `legacy: true` permits."""


class TransportError(Exception):
    """The device could not be reached, or the connection broke; `found` is the finding."""

    def __init__(self, found: Finding) -> None:
        super().__init__(found.observed)
        self.found = found


class Channel(Protocol):
    """A running command's stdin and stdout.  Every method raises TransportError when the connection breaks."""

    host_key: str  # the fingerprint of the key that the device proved to hold; "" where the transport has none

    @property
    def held_s(self) -> float:
        """Seconds for which limits of the bandwidth have held back what was to be sent."""

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
        raise TransportError(finding("LF501", f"the jump host {hop!r} of {behind.name} cannot be used: {wrong}"))
    user, host, port = checks.split_address(hop)
    return Device(name=hop, host=host, port=int(port or 22), user=user, key=behind.key)
