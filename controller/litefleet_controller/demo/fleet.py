"""The embedded fleet: starts its devices together, provides their addresses and keys, and stops them all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import asyncssh

from .base import DEFAULT_PATH, HOST, DeviceSpec, EmbeddedDevice, EmbeddedError, Place, Running, bare_path, free_port
from .in_process_devices import start_asyncssh, start_silent
from .openssh_device import find_sshd, login_name, start_openssh

KINDS = ("ssh", "sshd", "asyncssh", "silent")
_AT_ONCE = 16  # servers that start at the same time


class EmbeddedFleet:
    """Devices on loopback, as an async context manager; their files stay in `base` after it ends."""

    def __init__(self, base: Path, specs: Sequence[DeviceSpec]) -> None:
        self.base = base.absolute()
        self.specs = tuple(specs)
        self.devices: dict[str, EmbeddedDevice] = {}
        self.user = login_name() or "litefleet"  # the in-process server accepts any user name
        self._ports: set[int] = set()
        for spec in self.specs:
            if spec.kind not in KINDS:
                raise EmbeddedError(
                    f"Device {spec.name}: kind {spec.kind!r} is unknown. Available: {', '.join(KINDS)}."
                )

    @property
    def key_path(self) -> Path:
        """The private key that every device accepts."""
        return self.base / "id_ed25519"

    async def __aenter__(self) -> EmbeddedFleet:
        self.base.mkdir(parents=True, exist_ok=True)
        _make_key(self.key_path)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def begin(spec: DeviceSpec) -> None:
            async with gate:
                self.devices[spec.name] = await self._begin(spec)

        try:
            async with asyncio.TaskGroup() as tasks:
                for spec in self.specs:
                    tasks.create_task(begin(spec))
        except BaseException as error:
            await self._stop_all()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        self.devices = {spec.name: self.devices[spec.name] for spec in self.specs}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In a task of its own, so that a second Ctrl-C does not leave some of them running.
        await asyncio.shield(asyncio.ensure_future(self._stop_all()))

    async def kill(self, name: str) -> None:
        """Kill one device's server, connections and running commands at once, as a power cut would; its files stay."""
        await self.devices[name].process.stop()

    async def restart(self, name: str) -> None:
        """Stop one device if it runs, and start it again at the same address with the same keys and files."""
        device = self.devices[name]
        await device.process.stop()
        process = await _start(device.spec.kind, device.place, device.port)
        self.devices[name] = replace(device, process=process)

    async def _begin(self, spec: DeviceSpec) -> EmbeddedDevice:
        place = self._place(spec)
        problem: Exception | None = None
        for _ in range(3):  # another program may take the port before the server binds it
            port = free_port(self._ports)
            try:
                process = await _start(spec.kind, place, port)
            except (EmbeddedError, OSError) as error:
                problem = error
                continue
            public = place.host_key.with_suffix(".pub").read_text().split()
            root = place.home / ".local/share/litefleet"
            return EmbeddedDevice(
                spec, HOST, port, self.user, self.key_path, " ".join(public[:2]), root, place, process
            )
        raise EmbeddedError(f"Device {spec.name} did not start: {problem}")

    def _place(self, spec: DeviceSpec) -> Place:
        folder = self.base / spec.name
        home = folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        _make_key(folder / "host_key")
        path = ":".join(spec.path_dirs) or DEFAULT_PATH
        if spec.without_python:
            path = bare_path(folder / "bin")
        env = {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", **spec.env}
        for name, value in env.items():
            if set(f"{name}{value}") & set('"\\\n'):
                raise EmbeddedError(
                    f"Device {spec.name}: environment {name} contains a quote, backslash or line break."
                )
        return Place(folder, home, env, folder / "host_key", self.key_path.with_suffix(".pub"))

    async def _stop_all(self) -> None:
        await asyncio.gather(*(device.process.stop() for device in self.devices.values()), return_exceptions=True)


async def _start(kind: str, place: Place, port: int) -> Running:
    if kind == "silent":
        return await start_silent(port)
    if kind == "asyncssh" or (kind == "ssh" and find_sshd() is None):
        return await start_asyncssh(place, port)
    return await start_openssh(place, port)


def _make_key(path: Path) -> None:
    """Write an ed25519 key pair at `path` and `path`.pub, unless it exists."""
    if path.exists():
        return
    key = asyncssh.generate_private_key("ssh-ed25519", comment="litefleet-embedded")
    path.with_suffix(".pub").write_bytes(key.export_public_key())
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
