"""The ProxyCommand of the SSH configuration: how it is started, and what it said when no connection came of it."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ...common.text import sanitize

_MOST_WORDS = 300  # characters of what it said
_NOT_STARTED = re.compile(r"not found|No such file|Permission denied|cannot execute|prohibited", re.IGNORECASE)


@dataclass(frozen=True)
class Proxy:
    """A ProxyCommand on its way; without one, both fields are empty."""

    command: tuple[str, ...] = ()  # as asyncssh starts it
    errors: Path | None = None  # the file that takes its standard error

    def words(self) -> str:
        """Return the last lines of its standard error, "" for none."""
        if self.errors is None:
            return ""
        lines = self.errors.read_bytes()[-4096:].decode("utf-8", "replace").split("\n")
        return sanitize(" / ".join(line.strip() for line in lines[-4:] if line.strip()), _MOST_WORDS)

    def failure(self, device: Device, found: Finding) -> Finding:
        """Return what a failed connection means that went through it: it was not started, or the device is away."""
        if self.errors is None or found.code != "LF501":
            return found
        words = self.words()
        said = f"; it said: {words}" if words else ""
        observed = f"{found.observed}, through the ProxyCommand `{device.ssh.proxy_command}`{said}"
        return finding("LF512" if _NOT_STARTED.search(words) else "LF501", observed)


@contextmanager
def proxy_of(device: Device) -> Iterator[Proxy]:
    """Yield the ProxyCommand of a device; OpenSSH starts it by a shell too."""
    command = device.ssh.proxy_command
    if not command or command.lower() == "none":
        yield Proxy()
        return
    with tempfile.NamedTemporaryFile(prefix="litefleet-proxy-") as errors:
        # asyncssh takes the end of its standard error for the end of the connection: descriptor 3 keeps that open.
        script = f"exec 3>&2 2>{shlex.quote(errors.name)}; exec {command}"
        yield Proxy(("/bin/sh", "-c", script), Path(errors.name))
