"""The peers' environments, the network of one measurement, and what the devices used: fleet.py's surroundings."""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import uv
from litefleet_controller.build.toolchain import default_cache
from litefleet_controller.demo.base import EmbeddedDevice

from bench.peers import PEERS

ROOT = Path(__file__).resolve().parents[1]
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h; Python has os.unshare only from 3.12 on


def peer_python(name: str) -> str:
    """Return the interpreter of a peer's environment, made at first; this one for a program of the system."""
    package = PEERS[name].package
    if not package:
        return sys.executable
    folder = default_cache() / "bench-peers" / package.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / ".done").exists():
        subprocess.run([uv.find_uv_bin(), "venv", "-q", "--clear", "-p", sys.executable, folder], check=True)
        subprocess.run([uv.find_uv_bin(), "pip", "install", "-q", "-p", python, package], check=True)
        (folder / ".done").touch()
    return str(python)


async def allow_sftp(devices: Iterable[EmbeddedDevice]) -> None:
    """Let paramiko and fabric push to devices that are an sshd: litefleet needs no SFTP, so that embedded devices offer none."""
    for device in devices:
        with (device.place.folder / "sshd_config").open("a") as config:
            config.write("Subsystem sftp internal-sftp\n")
        assert device.process.pid is not None  # every device of a bench is an sshd
        os.kill(device.process.pid, signal.SIGHUP)
    await asyncio.sleep(3)  # they start themselves anew


def own_network() -> bool:
    """Give this process and what it starts a loopback of their own, whose counters count nobody else's bytes; False unless root.

    Only the calling thread and those that it starts afterwards move: call it before there is a pool of threads.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) != 0:
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True


def loopback_bytes() -> int:
    """Return the bytes that this network's loopback carried so far, both directions, headers too."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    return 0


def cpu_of(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes and of their ended children; what left its session (a lease's process) is not in it."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc(5), counted after the name
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on."""

    cores: int
    cpu: str
    memory_gb: float
    kernel: str
    python: str
    openssh: str
    load: float

    @classmethod
    def this(cls) -> Machine:
        """Return this machine, as it is now."""
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        version = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
        return cls(
            os.cpu_count() or 1,
            models[0].partition(":")[2].strip() if models else platform.machine(),
            round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            platform.release().split("-")[0],
            platform.python_version(),
            version.partition(",")[0].replace("OpenSSH_", "").strip(),
            round(os.getloadavg()[0], 1),
        )

    def text(self) -> str:
        """Return one line for a report."""
        return (
            f"{self.cores} cores ({self.cpu}), {self.memory_gb:.0f} GB, Linux {self.kernel}, Python {self.python}, "
            f"OpenSSH {self.openssh}, load {self.load} before"
        )
