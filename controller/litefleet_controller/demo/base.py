"""Values and helpers of all kinds of embedded devices: specification, folders, start and stop."""

from __future__ import annotations

import random
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..common.errors import LitefleetError

HOST = "127.0.0.1"
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# The tools that a small device without Python still has.
BARE_TOOLS = (
    "sh cat ls id mkdir rm mv cp chmod ln uname getconf head tail od tr cut sed grep dd df wc sync sleep hostname "
    "sha256sum"
)


class EmbeddedError(LitefleetError):
    """An embedded device did not start; the text has the end of its log."""


@dataclass(frozen=True)
class DeviceSpec:
    """The specification of one device.

    `kind` is "ssh" (OpenSSH where installed, else in-process), "sshd", "asyncssh" or "silent" (accepts connections and
    sends nothing).  `path_dirs` is the session's PATH, empty for the usual one; `without_python` gives it a PATH with a
    few tools and no Python.  `settings` are further inventory keys of the device.
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
    """The paths of one device: its folder (keys, configuration, log), its HOME, its keys, and its session's environment."""

    folder: Path
    home: Path
    env: Mapping[str, str]
    host_key: Path
    authorized_keys: Path

    @property
    def log(self) -> Path:
        """The log of its SSH server."""
        return self.folder / "log"


class Running(Protocol):
    """A started device."""

    @property
    def pid(self) -> int | None:
        """The ID of its server's process, None when this process serves it."""

    async def stop(self) -> None:
        """Stop it as a power cut would: kill its server, its connections and their processes.  Idempotent."""


@dataclass(frozen=True)
class EmbeddedDevice:
    """One running device: its inventory settings, its agent's root folder, and its process."""

    spec: DeviceSpec
    host: str
    port: int
    user: str
    key_path: Path
    host_public_key: str  # "ssh-ed25519 AAAA..."
    root: Path  # the agent's root folder; the agent creates it
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
    """Return a free port and add it to `taken`.

    It is below the ephemeral range (32768 on Linux), so that no outgoing connection uses it while a device restarts.
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
    raise EmbeddedError(f"No free port between 20000 and 32000 on {HOST}: stop the programs that listen there.")
