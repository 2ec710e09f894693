"""The fleet's lock: one controller at a time, by a row that it renews, and a token that grows with each owner.

Times are the controllers' own clocks, which should agree to within a few seconds.  If they do not, a controller may be treated
as dead too early; it then finds its token stale and writes nothing.
"""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from .database import ConnectionQuery
from .model import FleetLock, FleetLocked, FleetLockLost, Owner
from .owners import alive, hold_of, owner_of
from .tables import holds


def acquire(
    connection: sa.Connection, fleet: str, owner: Owner, ttl_s: float, now: float
) -> tuple[FleetLock, Owner | None]:
    """Lock a fleet and return the lock and the dead owner it was taken from; FleetLocked while another owner is alive."""
    row = hold_of(ConnectionQuery(connection), fleet)
    dead: Owner | None = None
    if row is not None and row.held:
        if alive(row, owner, now):
            raise FleetLocked(_held(fleet, row, owner, now))
        dead = owner_of(row)
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
    owner, silent = owner_of(row), max(0, round(now - row.renewed_at))
    at = datetime.datetime.fromtimestamp(row.renewed_at, datetime.UTC)
    last_renewal = f"last sign of life {silent} s ago, at {at:%Y-%m-%d %H:%M:%S} UTC"
    message = f"fleet '{fleet}' is run by {owner} ({last_renewal})"
    if silent <= row.ttl_s:
        return f"{message}: wait for it, or ask it to stop with `litefleet pause`"
    return f"{message}, which still runs here but does not answer: end process {owner.pid} on {this_host.host}, then try again"


def check(connection: sa.Connection, lock: FleetLock) -> Owner:
    """Return the owner of a lock that is still valid; FleetLockLost when it is not."""
    row = hold_of(ConnectionQuery(connection), lock.fleet)
    if row is not None and row.held and row.token == lock.token:
        return owner_of(row)
    if row is not None and row.held:
        raise FleetLockLost(
            f"fleet '{lock.fleet}' was taken over by {owner_of(row)}: this controller was taken for dead and stops; "
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
