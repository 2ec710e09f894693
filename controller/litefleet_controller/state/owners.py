"""Who holds a fleet's lock, and whether that process is alive.

Times are the controllers' own clocks, which should agree to within a few seconds.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from ..common.operator import operator
from .model import Owner
from .query import Query, Select

_GONE = ("Z", "X")  # a process that has ended and that nobody has asked about yet


def this_process(configured: str = "") -> Owner:
    """Return the present process as an owner; `configured` is `operator:` in litefleet.yaml.

    `boot_id` is "machine/boot/namespace" as far as the system reports it: the pid of another container means nothing here.
    """
    started = _process(os.getpid())[1]
    return Owner(operator(configured), socket.gethostname(), os.getpid(), _place(), started)


def _place() -> str:
    """Return "machine/boot/namespace"; parts that the system does not report are empty."""
    machine = _read("/etc/machine-id")
    digest = hashlib.sha256(f"litefleet {machine}".encode()).hexdigest()[:16] if machine else ""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        namespace = ""
    return f"{digest}/{_read('/proc/sys/kernel/random/boot_id')}/{namespace}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, str]:
    """Return (state, start time) of a process as Linux reports them; ("", "") where it reports none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


def _lives(owner: Owner) -> bool:
    """Return whether a process of this host, boot and namespace still runs and is the same process."""
    try:
        os.kill(owner.pid, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        pass  # it runs, as another user
    state, started = _process(owner.pid)
    return state not in _GONE and not (owner.started and started and owner.started != started)


def _known_alive(owner: Owner, this_host: Owner) -> bool | None:
    """Return whether `owner` is alive, None where that cannot be determined from this host."""
    if owner.host != this_host.host:
        return None
    machine, boot, namespace = _parts(owner)
    our_machine, our_boot, our_namespace = _parts(this_host)
    if machine != our_machine or not boot:
        return None  # two hosts may have one name
    if boot != our_boot:
        return False
    return _lives(owner) if namespace == our_namespace else None


def _parts(owner: Owner) -> tuple[str, str, str]:
    """Return (machine, boot, namespace); a plain boot id has neither of the others."""
    parts = owner.boot_id.split("/")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", owner.boot_id, "")


def owner_of(row: Any) -> Owner:
    """Return the owner that a stored lock names."""
    return Owner(row.owner_user, row.owner_host, row.owner_pid, row.owner_boot_id, row.owner_started)


_HOLD = Select(
    "SELECT token, held, owner_user, owner_host, owner_pid, owner_boot_id, owner_started, renewed_at, ttl_s FROM holds "
    "WHERE fleet = :fleet",
    flags=("held",),
)


def hold_of(query: Query, fleet: str) -> Any:
    """Return the stored lock of a fleet with its owner, held or not; None where it was never taken."""
    return query.first(_HOLD, fleet=fleet)


def alive(row: Any, this_host: Owner, now: float) -> bool:
    """Return whether a lock is valid: its process runs, or cannot be checked from here and was renewed within its TTL."""
    known = _known_alive(owner_of(row), this_host)
    return (
        known if known is not None else abs(now - row.renewed_at) <= row.ttl_s
    )  # one from the future is no sign of life


def holder(query: Query, fleet: str, this_host: Owner, now: float) -> Owner | None:
    """Return the owner of a hold that is to be respected."""
    row = hold_of(query, fleet)
    return owner_of(row) if row is not None and row.held and alive(row, this_host, now) else None
