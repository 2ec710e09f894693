"""Real sshd processes with odd settings, and one probe of a device that such a server stands for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from litefleet_controller.demo.base import free_port
from litefleet_controller.demo.openssh_device import find_sshd, login_name
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshLimits, SshTransport
from litefleet_controller.devices.visit import DeviceSession, SessionFactory, open_session
from litefleet_inventory.model import Device

from tests.conftest import lacking
from tests.fakes.ssh_keys import keygen

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
MaxStartups 100
SetEnv HOME={folder}/home PATH={path}
"""


@dataclass
class OddServers:
    """A folder of servers, all with one key for the user; stopped together."""

    folder: Path
    key: Path
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _ports: set[int] = field(default_factory=set)

    def start(self, *lines: str, host_key: Path | None = None, shell: str = "", path: str = "") -> Device:
        """Start one with further lines of sshd_config, and return the device; its host key is pinned.

        `shell` is what a login runs in place of `SHELL -c COMMAND`: a sh command with the device's in $SSH_ORIGINAL_COMMAND.
        """
        port = free_port(self._ports)
        place = self.folder / f"d{port}"
        (place / "home").mkdir(parents=True)
        shown = host_key or keygen(place / "host_key")
        (place / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        text = _CONFIG.format(port=port, folder=place, host_key=shown, path=path or os.defpath)
        if shell:
            script = place / "login"
            script.write_text(f"#!/bin/sh\n{shell}\n")
            script.chmod(0o755)
            lines = (*lines, f"ForceCommand exec {script}")
        config = place / "sshd_config"
        config.write_text(text + "\n".join(lines) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        with (place / "log").open("wb") as log:
            argv = [str(find_sshd()), "-D", "-e", "-f", str(config)]
            self._running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        _wait_for(port, self._running[-1], place / "log")
        public = " ".join(shown.with_suffix(".pub").read_text().split()[:2])
        user = login_name() or ""
        root = str(place / "home" / "root")
        return Device(f"odd-{port}", "127.0.0.1", port, user, str(self.key), root=root, host_keys=(public,))

    def stop(self) -> None:
        """Stop every server."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(10)


@contextmanager
def odd_servers(folder: Path) -> Iterator[OddServers]:
    """Yield a maker of servers; skipped where this machine has no usable sshd."""
    if find_sshd() is None:
        lacking("no sshd that accepts this user")
    folder.mkdir(parents=True, exist_ok=True)
    servers = OddServers(folder, keygen(folder / "user"))
    try:
        yield servers
    finally:
        servers.stop()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with socket.socket() as client:
            client.settimeout(5)
            try:
                client.connect(("127.0.0.1", port))
                if client.recv(4) == b"SSH-":
                    return
            except OSError:
                pass
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {log.read_text()[-1000:]}")


def probe(
    device: Device,
    folder: Path,
    known: Sequence[Path] = (),
    hops: Callable[[Device], Sequence[Device | str]] = lambda device: (),
    accept_new: bool = False,
    limit_s: float = 60,
) -> DeviceOutcome:
    """Return the outcome of one session that only starts the agent."""
    transport = SshTransport(HostKeys(known, folder / "pins", accept_new), hops, SshLimits(10, 10))

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        done.append(session.outcome("", session.notes))

    factory = SessionFactory(transport, agent_archive(), step_limit_s=limit_s)
    return asyncio.run(open_session(factory, device, [""], work))[0]


def unpinned(device: Device) -> Device:
    """Return the device without its pinned host key."""
    return replace(device, host_keys=())
