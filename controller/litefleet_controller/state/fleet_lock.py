"""The fleet's lock: one controller at a time, by a row that it renews, and a token that grows with each owner.

Times are the controllers' own clocks, which should agree to within a few seconds.  If they do not, a controller may be treated
as dead too early; it then finds its token stale and writes nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..common.operator import operator
from .model import FleetLock, FleetLocked, FleetLockLost, Owner
from .tables import holds

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


def _owner(row: Any) -> Owner:
    return Owner(row.owner_user, row.owner_host, row.owner_pid, row.owner_boot_id, row.owner_started)


_ROW = sa.select(holds).where(holds.c.fleet == sa.bindparam("of_fleet"))  # built once: every write asks for it


def _row(connection: sa.Connection, fleet: str) -> Any:
    return connection.execute(_ROW, {"of_fleet": fleet}).first()


def _alive(row: Any, this_host: Owner, now: float) -> bool:
    """Return whether a lock is valid: its process runs, or cannot be checked from here and was renewed within its TTL."""
    known = _known_alive(_owner(row), this_host)
    return (
        known if known is not None else abs(now - row.renewed_at) <= row.ttl_s
    )  # one from the future is no sign of life


def acquire(
    connection: sa.Connection, fleet: str, owner: Owner, ttl_s: float, now: float
) -> tuple[FleetLock, Owner | None]:
    """Lock a fleet and return the lock and the dead owner it was taken from; FleetLocked while another owner is alive."""
    row = _row(connection, fleet)
    dead: Owner | None = None
    if row is not None and row.held:
        if _alive(row, owner, now):
            raise FleetLocked(_held(fleet, row, owner, now))
        dead = _owner(row)
    token = row.token + 1 if row is not None else 1
    connection.execute(sa.delete(holds).where(holds.c.fleet == fleet))
    connection.execute(
        sa.insert(holds).values(
            fleet=fleet,
            token=token,
            held=True,
            owner_user=owner.user,
            owner_host=owner.host,
            owner_pid=owner.pid,
            owner_boot_id=owner.boot_id,
            owner_started=owner.started,
            renewed_at=now,
            ttl_s=ttl_s,
        )
    )
    return FleetLock(fleet, token), dead


def _held(fleet: str, row: Any, this_host: Owner, now: float) -> str:
    """Return the sentence that names the fleet's owner."""
    owner, silent = _owner(row), max(0, round(now - row.renewed_at))
    at = datetime.datetime.fromtimestamp(row.renewed_at, datetime.UTC)
    last_renewal = f"last sign of life {silent} s ago, at {at:%Y-%m-%d %H:%M:%S} UTC"
    message = f"fleet '{fleet}' is run by {owner} ({last_renewal})"
    if silent <= row.ttl_s:
        return f"{message}: wait for it, or ask it to stop with `litefleet pause`"
    return f"{message}, which still runs here but does not answer: end process {owner.pid} on {this_host.host}, then try again"


def check(connection: sa.Connection, lock: FleetLock) -> Owner:
    """Return the owner of a lock that is still valid; FleetLockLost when it is not."""
    row = _row(connection, lock.fleet)
    if row is not None and row.held and row.token == lock.token:
        return _owner(row)
    if row is not None and row.held:
        raise FleetLockLost(
            f"fleet '{lock.fleet}' was taken over by {_owner(row)}: this controller was taken for dead and stops; "
            "nothing was written"
        )
    raise FleetLockLost(f"fleet '{lock.fleet}' is no longer held by this controller; nothing was written")


def renew(connection: sa.Connection, lock: FleetLock, now: float) -> None:
    """Renew a lock; FleetLockLost when another owner has it."""
    check(connection, lock)
    connection.execute(sa.update(holds).where(holds.c.fleet == lock.fleet).values(renewed_at=now))


def release(connection: sa.Connection, lock: FleetLock) -> None:
    """Release a lock, if it is still ours."""
    ours = (holds.c.fleet == lock.fleet) & (holds.c.token == lock.token)
    connection.execute(sa.update(holds).where(ours).values(held=False))


def holder(connection: sa.Connection, fleet: str, this_host: Owner, now: float) -> Owner | None:
    """Return the owner of a hold that is to be respected."""
    row = _row(connection, fleet)
    return _owner(row) if row is not None and row.held and _alive(row, this_host, now) else None
