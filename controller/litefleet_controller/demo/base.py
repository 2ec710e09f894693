"""What every kind of embedded device shares: its description, its place on disk, and how it is started and stopped."""

from __future__ import annotations

import random
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..common.errors import LitefleetError

__all__ = [
    "BARE_TOOLS",
    "HOST",
    "DeviceSpec",
    "EmbeddedDevice",
    "EmbeddedError",
    "Place",
    "Running",
    "bare_path",
    "free_port",
]

HOST = "127.0.0.1"
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# What a small device without Python still has.
BARE_TOOLS = (
    "sh cat ls id mkdir rm mv cp chmod ln uname getconf head tail od tr cut sed grep dd df wc sync sleep hostname "
    "sha256sum"
)


class EmbeddedError(LitefleetError):
    """An embedded device did not start; the text holds what it said."""


@dataclass(frozen=True)
class DeviceSpec:
    """One device that is wanted.

    `kind` is "ssh" (OpenSSH where installed, else in-process), "sshd", "asyncssh" or "silent" (accepts connections,
    says nothing).  `path_dirs` is the session's PATH, empty for the usual one; `without_python` gives it a PATH that
    holds a few tools and no Python.  `settings` are further inventory keys of the device, as they are.
    """

    name: str
    kind: str = "ssh"
    path_dirs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    without_python: bool = False
    python: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where one device lives: its folder (keys, configuration, log), its HOME, its session's environment, its keys."""

    folder: Path
    home: Path
    env: Mapping[str, str]
    host_key: Path
    authorized_keys: Path

    @property
    def log(self) -> Path:
        """What its SSH server said."""
        return self.folder / "log"


class Running(Protocol):
    """A started device."""

    @property
    def pid(self) -> int | None:
        """Its server's process, None when it is served from within this process."""

    async def stop(self) -> None:
        """Stop it as a power cut would: its server, its connections and what runs in them.  Idempotent."""


@dataclass(frozen=True)
class EmbeddedDevice:
    """One device as it runs: what an inventory needs to know of it, its agent's root folder, and its process."""

    spec: DeviceSpec
    host: str
    port: int
    user: str
    key_path: Path
    host_public_key: str  # "ssh-ed25519 AAAA..."
    root: Path  # the agent's root folder, not made yet
    place: Place
    process: Running

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self.spec.name

    def inventory_entry(self) -> dict[str, object]:
        """Return its keys in an inventory file."""
        entry: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "key": str(self.key_path),
            "root": str(self.root),
            "host_key": self.host_public_key,
        }
        if self.spec.python:
            entry["python"] = self.spec.python
        return {**entry, **self.spec.settings}


def bare_path(folder: Path, tools: Sequence[str] = tuple(BARE_TOOLS.split())) -> str:
    """Make `folder` a PATH of links to those of `tools` that this machine has, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for tool in tools:
        found = shutil.which(tool, path=DEFAULT_PATH)
        link = folder / tool
        if found and not link.is_symlink():
            link.symlink_to(found)
    return str(folder)


def free_port(taken: set[int]) -> int:
    """Return a port that nothing listens on and add it to `taken`.

    Below the ephemeral range, so that no outgoing connection sits on it when a device comes back to its port.
    """
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise EmbeddedError(f"No free port between 20000 and 32000 on {HOST}: stop what listens there.")
