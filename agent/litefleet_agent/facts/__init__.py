"""The device's facts: architecture, CPU, libc, Python, memory, disk, and the installed Paddle-Lite."""

from .gather import Process, gather, this_process
from .values import Cpu, Disk, Facts, FactsError, Libc, Memory, OsRelease, Package, PythonFacts, fingerprint

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
