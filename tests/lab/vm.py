"""A whole machine under qemu-system-x86_64, with a disk of its own and a power switch.

Cutting the power kills the emulator: what the machine had in memory, its file system's unwritten pages among it, is
gone, and what its disk had not been told to flush may be.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab.arm_devices import LabDevice, free_port, make_keys, wait_for_greeting
from tests.lab.vm_image import PYTHON, X86_64, VmImage, build_image

__all__ = ["PYTHON", "Machine", "VmImage", "build_image", "machine", "why_no_machine"]

TOOLS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "cpio", "ssh", "ssh-keygen", "dropbearconvert")

_SERVERS = {
    "sshd": "exec /usr/sbin/sshd -D -e -f /run/lab/sshd_config",
    "dropbear": "exec /usr/sbin/dropbear -F -E -e -s -m -W 1048576 -r /run/lab/dropbear_key -p 22",
}
_SSHD_CONFIG = """HostKey /run/lab/host_key
PidFile none
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


def why_no_machine() -> str:
    """Return why no machine can be emulated here, "" when one can."""
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        return "the lab's machine needs root on x86_64 (it builds a Debian root file system for it)"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"the lab needs {', '.join(missing)}: apt-get install $(cat tests/lab/packages.txt)" if missing else ""


@contextlib.contextmanager
def machine(image: VmImage, like: Machine | None = None, server: str = "dropbear") -> Iterator[Machine]:
    """Give a machine that is off, with a fresh disk, or one like that of another machine, which then stays off.

    It is off at the end of the block.
    """
    with tempfile.TemporaryDirectory(prefix="litefleet-vm-") as name:
        made = Machine(image, Path(name), server, like)
        try:
            yield made
        finally:
            made.cut_power()


class Machine:
    """One machine: `boot()`, `cut_power()`, `boot()` again with the same disk, port and host key."""

    def __init__(self, image: VmImage, folder: Path, server: str, like: Machine | None = None) -> None:
        self._image = image
        self._folder = folder
        self._server = server
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.boots = 0
        self.disk = folder / "disk.qcow2"
        make_keys(folder)
        self._write_settings()
        # Its clusters are bound to the image in the emulator's memory until the machine flushes: a disk's write cache.
        base = ["-F", "qcow2", "-b", str(like.disk)] if like else ["-F", "raw", "-b", str(image.disk)]
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(self.disk)]
        subprocess.run(argv, check=True, capture_output=True)

    def boot(self, limit_s: float = 120) -> LabDevice:
        """Switch on and return the device when its SSH server greets.  Raises LabError when it does not."""
        assert self._process is None, "it is on already"
        self.boots += 1
        log = self._folder / f"console-{self.boots}"
        with log.with_suffix(".qemu").open("wb") as said:
            self._process = subprocess.Popen(self._argv(log), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        wait_for_greeting(self._process, self._port, log, limit_s)
        return self.device()

    def device(self) -> LabDevice:
        """Return the device that was booted last; its address and keys are the same after each boot."""
        assert self._process is not None, "it is off"
        return LabDevice(
            name="machine",
            server=self._server,
            userland=X86_64,
            port=self._port,
            key_path=self._folder / "id",
            host_public_key=" ".join((self._folder / "host_key.pub").read_text().split()[:2]),
            pid=self._process.pid,
            log=self._folder / f"console-{self.boots}",
        )

    def cut_power(self) -> None:
        """Switch off without a warning; nothing when it is off."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _argv(self, console: Path) -> list[str]:
        disk = f"file={self.disk},format=qcow2,if=virtio,cache=writeback"
        settings = f"file={self._folder / 'settings.tar'},format=raw,if=virtio,readonly=on"
        network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"
        argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768"]
        argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", f"file:{console}"]
        argv += ["-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)]
        argv += ["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off"]
        argv += [
            "-drive",
            disk,
            "-drive",
            settings,
            "-netdev",
            network,
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
        return argv

    def _write_settings(self) -> None:
        files = {
            "name": b"machine",
            "server": _SERVERS[self._server].encode(),
            "sshd_config": _SSHD_CONFIG.encode(),
            "authorized_keys": (self._folder / "id.pub").read_bytes(),
            "host_key": (self._folder / "host_key").read_bytes(),
            "dropbear_key": (self._folder / "dropbear_key").read_bytes(),
        }
        with tarfile.open(self._folder / "settings.tar", "w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o600
                archive.addfile(member, io.BytesIO(data))
