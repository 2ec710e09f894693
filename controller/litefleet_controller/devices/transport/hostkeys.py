"""Which host keys are trusted: pins in the inventory, else known_hosts files; new ones only when asked for, then pinned."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import asyncssh
from litefleet_agent.findings import Finding, finding
from litefleet_agent.releases.atomic import fsync_folder
from litefleet_inventory.model import Device

from ...common.errors import ConfigError
from ...common.files import expanded, write_atomically
from .base import LEGACY_HOST_KEY, TransportError
from .known_hosts import KnownHosts, SkippedLine, folded_name, read_known_hosts

# The order in which a host is asked for its key; known types go first, so that a pinned key is the one that it shows.
_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)
# A host that an authority has certified shows its certificate when it is asked for one of these first.
_CERTIFICATES = tuple(f"{algorithm}-cert-v01@openssh.com" for algorithm in _ALGORITHMS)


class HostTrust(Protocol):
    """Decides on host keys, and keeps those that are new."""

    @property
    def skipped(self) -> tuple[SkippedLine, ...]:
        """The lines that were skipped in the files read so far."""
        ...

    def decision(self, device: Device) -> TrustDecision:
        """Return the trust decision for one connection to `device`."""
        ...

    def keep_accepted(self, device: Device, decision: TrustDecision) -> None:
        """Keep the key that `decision` accepted on first contact; TransportError when the connection must end instead."""


class HostKeys:
    """Trust in host keys for a whole fleet.

    `files` are read (OpenSSH known_hosts format, hashed names, @cert-authority and @revoked included), unless a device's
    SSH configuration names others; keys accepted on first contact are appended to `pin_file`, which is always read.
    ConfigError when a file exists and cannot be read; a line that is no host key is skipped, and listed in `skipped`.
    """

    def __init__(self, files: Sequence[Path], pin_file: Path, accept_new: bool) -> None:
        self._files = tuple(files)
        self._pin_file = pin_file
        self._accept_new = accept_new
        self._read: dict[tuple[Path, ...], KnownHosts] = {}
        self._new: dict[str, asyncssh.SSHKey] = {}
        self._of(self._files)

    @property
    def skipped(self) -> tuple[SkippedLine, ...]:
        """The lines that were skipped in the files read so far."""
        return tuple(dict.fromkeys(line for known in self._read.values() for line in known.skipped))

    def _of(self, files: Sequence[Path]) -> asyncssh.SSHKnownHosts:
        """Return the keys of some files and of the pins, read once."""
        paths = (*files, self._pin_file)
        if paths not in self._read:
            try:
                self._read[paths] = read_known_hosts(paths)
            except OSError as error:
                raise ConfigError([f"{error.filename}: known_hosts cannot be read: {error.strerror}"]) from error
        return self._read[paths].keys

    def decision(self, device: Device) -> TrustDecision:
        """Return the trust decision for one connection to `device`."""
        try:
            pins = [asyncssh.import_public_key(line) for line in device.host_keys]
        except asyncssh.KeyImportError as error:
            raise ConfigError([f"{device.source or device.name}: host_key: not an SSH public key: {error}"]) from error
        known = self._of([expanded(path) for path in device.ssh.known_hosts] or self._files)
        matched = known.match(_known_as(device), "", None)
        # A revoked key is rejected wherever it appears: at this host's other ports, and where the inventory pins it.
        # An authority for the host holds at all its ports, as for OpenSSH.
        host = known.match(folded_name(device.host), "", None)
        if pins:
            authorities: list[asyncssh.SSHKey] = []
        else:
            pins, authorities = list(matched[0]), [*matched[1], *host[1]]
            if _known_as(device) in self._new:
                pins.append(self._new[_known_as(device)])
        revoked = [*matched[2], *host[2]]
        return TrustDecision(device, pins, revoked, self._accept_new and not device.host_keys, authorities)

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
            known = read_known_hosts([self._pin_file]).keys.match(_known_as(device), "", None)[0]
            if known:
                self._new[_known_as(device)] = known[0]
                return known
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # written by hand: the last line must stay a line of its own
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._new[_known_as(device)] = key
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
            kept = [line for line in lines if line.strip() and not _pins(line, _known_as(device))]
            kind, public = key.export_public_key("openssh").decode().split()[:2]
            kept.append(f"{_known_as(device)} {kind} {public}".encode())
            write_atomically(self._pin_file, b"\n".join(kept) + b"\n")
            self._pin_file.chmod(0o600)
        self._new[_known_as(device)] = key


def _pins(line: bytes, host: str) -> bool:
    """Return whether a line of a known_hosts file holds a key of this host alone; markers, comments and lists stay."""
    names = line.split(None, 1)[0].decode("utf-8", "surrogateescape")
    if names.startswith(("@", "#")) or "," in names:
        return False
    if not names.startswith("|"):
        return folded_name(names) == host
    try:
        return bool(asyncssh.import_known_hosts(line.decode("ascii") + "\n").match(host, "", None)[0])
    except (ValueError, asyncssh.Error):
        return False


def _known_as(device: Device) -> str:
    """Return the name under which known_hosts files hold this device's key: the port is part of it unless it is 22."""
    return folded_name(device.ssh.known_as or f"[{device.host}]:{device.port}")


class TrustDecision:
    """Decides on the key that one device presents; afterwards `refused` is the finding, `accepted` the new key."""

    def __init__(
        self,
        device: Device,
        known: Sequence[asyncssh.SSHKey],
        revoked: Sequence[asyncssh.SSHKey],
        accept_new: bool,
        authorities: Sequence[asyncssh.SSHKey] = (),
    ) -> None:
        self._device = device
        self._known = known
        self._revoked = revoked
        self._accept_new = accept_new
        self._authorities = authorities
        self.refused: Finding | None = None
        self.accepted: asyncssh.SSHKey | None = None

    @property
    def algorithms(self) -> list[str]:
        """Host key algorithms to offer: certificates where an authority is known, then those of known keys, then all others.

        Where the server has a key of a known type it shows that one; where it has none, it shows what it is.
        """
        known = {algorithm.decode() for key in self._known for algorithm in key.sig_algorithms}
        every = (*_ALGORITHMS, LEGACY_HOST_KEY) if self._device.legacy else _ALGORITHMS
        return [
            *(_CERTIFICATES if self._authorities else ()),
            *(a for a in every if a in known),
            *(a for a in every if a not in known),
        ]

    @property
    def is_known(self) -> bool:
        """Whether any key of this device is known, pinned or in a known_hosts file, or an authority for it."""
        return bool(self._known or self._authorities)

    @property
    def accepts_new(self) -> bool:
        """Whether a key is accepted on first contact."""
        return self._accept_new

    @property
    def authorities(self) -> tuple[asyncssh.SSHKey, ...]:
        """The keys whose host certificates are accepted for this device."""
        return tuple(self._authorities)

    @property
    def revoked(self) -> tuple[asyncssh.SSHKey, ...]:
        """The keys that are marked as revoked for this device."""
        return tuple(self._revoked)

    @property
    def known(self) -> tuple[asyncssh.SSHKey, ...]:
        """The keys of this device that are known, pinned or in a known_hosts file."""
        return tuple(self._known)

    def trusts_authority(self, key: asyncssh.SSHKey) -> bool:
        """Return whether a host certificate of this authority is accepted."""
        shown = f"{self._device.host}:{self._device.port} shows a certificate of the authority {key.get_fingerprint()}"
        if key in self._revoked:
            self.refused = finding("LF503", f"{shown}, which is marked as revoked")
        elif key in self._authorities:
            return True
        else:
            self.refused = finding("LF503", f"{shown}, which no known_hosts file names for it")
        return False

    def trusts(self, key: asyncssh.SSHKey) -> bool:
        """Return whether the connection may continue with this key."""
        shown = f"{self._device.host}:{self._device.port} shows {key.get_fingerprint()}"
        if key in self._revoked:
            self.refused = finding("LF503", f"{shown}, a key marked as revoked")
        elif key in self._known:
            return True
        elif self._known:
            wanted = ", ".join(f"{k.get_fingerprint()} ({k.get_algorithm()})" for k in self._known)
            where = "`host_key:` in the inventory" if self._device.host_keys else "known_hosts"
            self.refused = finding("LF503", f"{shown} ({key.get_algorithm()}), known is {wanted} ({where})")
        elif self._accept_new:
            self.accepted = key
            return True
        else:
            unconfirmed = f"{shown} ({key.get_algorithm()}), which nobody has confirmed"
            if self._authorities:
                unconfirmed += ", and no certificate of the authority that is known for it"
            self.refused = finding("LF502", unconfirmed)
        return False
