"""The device's facts: architecture, CPU, libc, Python, memory, disk, and the installed Paddle-Lite."""

from __future__ import annotations

from .present import Process, this_process
from .values import Cpu, Disk, Facts, FactsError, Libc, Memory, OsRelease, Package, PythonFacts, fingerprint

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Optional

__all__ = [
    "Cpu",
    "Disk",
    "Facts",
    "FactsError",
    "Libc",
    "Memory",
    "OsRelease",
    "Package",
    "Process",
    "PythonFacts",
    "fingerprint",
    "gather",
    "this_process",
]


def gather(root: str, sysroot: str = "/", process: Optional[Process] = None) -> Facts:
    """As `machine.gather`, which a session's first answer mostly does without."""
    from . import machine

    return machine.gather(root, sysroot, process)
