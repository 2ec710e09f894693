"""Which host keys are trusted: pins in the inventory, else known_hosts files; new ones only when asked for, then pinned."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh
from litefleet_agent.findings import Finding, finding
from litefleet_agent.releases.atomic import fsync_folder
from litefleet_inventory.model import Device

from ...common.errors import ConfigError
from ...common.files import write_atomically
from .base import TransportError

# The order in which a host is asked for its key; known types go first, so that a pinned key is the one that it shows.
_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)


class HostKeys:
    """Trust in host keys for a whole fleet.

    `files` are read (OpenSSH known_hosts format, hashed names included); keys accepted on first contact are appended to
    `pin_file`, which is one of them.  ConfigError when a file is there and can't be read.
    """

    def __init__(self, files: Sequence[Path], pin_file: Path, accept_new: bool) -> None:
        self._pin_file = pin_file
        self._accept_new = accept_new
        readable = [str(f) for f in dict.fromkeys([*files, pin_file]) if f.exists()]
        try:
            self._known = asyncssh.import_known_hosts("".join(_folded(Path(name)) for name in readable))
        except (OSError, ValueError, asyncssh.Error) as error:
            raise ConfigError([f"{', '.join(readable)}: not a known_hosts file: {error}"]) from error
        self._new: dict[tuple[str, int], asyncssh.SSHKey] = {}

    def decision(self, device: Device) -> TrustDecision:
        """Return the trust decision for one connection to `device`."""
        try:
            pins = [asyncssh.import_public_key(line) for line in device.host_keys]
        except asyncssh.KeyImportError as error:
            raise ConfigError([f"{device.source or device.name}: host_key: not an SSH public key: {error}"]) from error
        matched = self._known.match(_known_as(device), "", None)
        # A revoked key is rejected wherever it appears: at this host's other ports, and where the inventory pins it.
        revoked = [*matched[2], *self._known.match(device.host, "", None)[2]]
        if not pins:
            pins = list(matched[0])
            if (device.host, device.port) in self._new:
                pins.append(self._new[device.host, device.port])
        return TrustDecision(device, pins, revoked, self._accept_new and not device.host_keys)

    def fingerprints(self, device: Device) -> frozenset[str]:
        """Return the fingerprints of the keys that `device` may show: pinned in the inventory, else in the files."""
        return frozenset(key.get_fingerprint() for key in self.decision(device).known)

    def keep_accepted(self, device: Device, decision: TrustDecision) -> None:
        """Pin the key that `decision` accepted on first contact, if it accepted one.

        Raises: TransportError with LF502 when it cannot be stored, with LF503 when another contact has pinned another key
        meanwhile: the caller then closes the connection.
        """
        if decision.accepted is None:
            return
        try:
            pinned = self.pin(device, decision.accepted)
        except (OSError, ValueError, asyncssh.Error) as error:
            observed = f"{device.host}:{device.port} was reached, its new key cannot be stored: {error}"
            raise TransportError(finding("LF502", observed)) from error
        if decision.accepted not in pinned:
            shown = f"{device.host}:{device.port} shows {decision.accepted.get_fingerprint()}"
            wanted = ", ".join(key.get_fingerprint() for key in pinned)
            raise TransportError(finding("LF503", f"{shown}, another first contact has just pinned {wanted}"))

    def pin(self, device: Device, key: asyncssh.SSHKey) -> Sequence[asyncssh.SSHKey]:
        """Append a key that was accepted on first contact to the pin file, sync it, and return the device's pinned keys.

        The file is read again under its lock: where another contact, of this process or another, has pinned this host
        meanwhile, nothing is written.
        """
        kind, public = key.export_public_key("openssh").decode().split()[:2]
        line = f"{_known_as(device)} {kind} {public}\n".encode()
        folder = self._pin_file.parent
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._pin_file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = asyncssh.import_known_hosts(_folded(self._pin_file)).match(_known_as(device), "", None)[0]
            if known:
                self._new[device.host, device.port] = known[0]
                return known
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # written by hand: the last line must stay a line of its own
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._new[device.host, device.port] = key
        fsync_folder(str(folder))
        return [key]

    def replace(self, device: Device, key: asyncssh.SSHKey) -> None:
        """Trust `key` for a device instead of the keys that the pin file holds for it; other files are not changed.

        The file is written anew under its lock, so that a power cut leaves the old one or the new one.
        """
        folder = self._pin_file.parent
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._pin_file, os.O_RDWR | os.O_CREAT, 0o600), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = self._pin_file.read_bytes().splitlines()
            kept = [line for line in lines if line and not _pins(line, _known_as(device))]
            kind, public = key.export_public_key("openssh").decode().split()[:2]
            kept.append(f"{_known_as(device)} {kind} {public}".encode())
            write_atomically(self._pin_file, b"\n".join(kept) + b"\n")
        self._new[device.host, device.port] = key


def _pins(line: bytes, host: str) -> bool:
    """Return whether a line of a known_hosts file holds a key of this host alone; markers, comments and lists stay."""
    names = line.split(None, 1)[0].decode("utf-8", "surrogateescape")
    if names.startswith(("@", "#")) or "," in names:
        return False
    if not names.startswith("|"):
        return names.lower() == host
    try:
        return bool(asyncssh.import_known_hosts(line.decode("ascii") + "\n").match(host, "", None)[0])
    except (ValueError, asyncssh.Error):
        return False


def _known_as(device: Device) -> str:
    """Return the name under which known_hosts files hold this device's key: the port is part of it unless it is 22."""
    return device.host if device.port == 22 else f"[{device.host}]:{device.port}"


def _folded(path: Path) -> str:
    """Return a known_hosts file's text with its host names in lower case, as the inventory's hosts are; hashes stay."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        words = line.split(None, 2)
        at = 1 if words[:1] and words[0].startswith("@") else 0  # a marker such as @revoked comes first
        if len(words) > at + 1 and not words[at].startswith(("#", "|")):
            words[at] = words[at].lower()
            line = " ".join(words)
        lines.append(line + "\n")
    return "".join(lines)


class TrustDecision:
    """Decides on the key that one device presents; afterwards `refused` is the finding, `accepted` the new key."""

    def __init__(
        self, device: Device, known: Sequence[asyncssh.SSHKey], revoked: Sequence[asyncssh.SSHKey], accept_new: bool
    ) -> None:
        self._device = device
        self._known = known
        self._revoked = revoked
        self._accept_new = accept_new
        self.refused: Finding | None = None
        self.accepted: asyncssh.SSHKey | None = None

    @property
    def algorithms(self) -> list[str]:
        """Host key algorithms to offer, those of known keys first and alone."""
        known = {algorithm.decode() for key in self._known for algorithm in key.sig_algorithms}
        return [a for a in _ALGORITHMS if a in known] or list(_ALGORITHMS)

    @property
    def is_known(self) -> bool:
        """Whether any key of this device is known, pinned or in a known_hosts file."""
        return bool(self._known)

    @property
    def revoked(self) -> tuple[asyncssh.SSHKey, ...]:
        """The keys that are marked as revoked for this device."""
        return tuple(self._revoked)

    @property
    def known(self) -> tuple[asyncssh.SSHKey, ...]:
        """The keys of this device that are known, pinned or in a known_hosts file."""
        return tuple(self._known)

    def trusts(self, key: asyncssh.SSHKey) -> bool:
        """Return whether the connection may continue with this key."""
        shown = f"{self._device.host}:{self._device.port} shows {key.get_fingerprint()}"
        if key in self._revoked:
            self.refused = finding("LF503", f"{shown}, a key marked as revoked")
        elif key in self._known:
            return True
        elif self._known:
            wanted = ", ".join(k.get_fingerprint() for k in self._known)
            where = "`host_key:` in the inventory" if self._device.host_keys else "known_hosts"
            self.refused = finding("LF503", f"{shown}, known is {wanted} ({where})")
        elif self._accept_new:
            self.accepted = key
            return True
        else:
            self.refused = finding("LF502", f"{shown} ({key.get_algorithm()}), which nobody has confirmed")
        return False
