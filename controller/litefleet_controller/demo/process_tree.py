"""Stops a process and its descendants, by process ID."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import defaultdict
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the IDs of the descendants of `pid`, parents first."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for child, parent in _pairs():
        children[parent].append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


def kill_tree(pid: int) -> list[int]:
    """Kill `pid`, a child of this process that was not reaped, and its descendants; return the IDs of the descendants.

    SIGSTOP comes first, so that the server starts no session while its sessions are listed.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    below = descendants(pid)
    for each in (pid, *below):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)
    return below


async def stop_tree(process: asyncio.subprocess.Process) -> None:
    """Kill `process` and its descendants, as a power cut would, and wait until they have ended."""
    below = kill_tree(process.pid) if process.returncode is None else []
    await process.wait()
    await _wait_until_ended(below)


async def _wait_until_ended(pids: list[int], limit_s: float = 5) -> None:
    """Wait until the killed processes have ended; a zombie that its parent has not reaped counts as ended."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    while any(is_running(pid) for pid in pids) and loop.time() < until:
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether `pid` is a running process, not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return not Path("/proc/self/stat").exists()  # it has just ended, or the system has no /proc
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _pairs() -> list[tuple[int, int]]:
    """Return (process ID, parent's ID) of every process."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():  # not Linux
        text = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout  # noqa: S607
        return [(int(pid), int(parent)) for pid, parent in (line.split() for line in text.splitlines())]
    pairs = []
    for name in os.listdir(proc):  # noqa: PTH208 - thousands of names, read often
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
                pairs.append((int(name), int(stat.rpartition(")")[2].split()[1])))
    return pairs
