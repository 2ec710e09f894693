"""Changes of the state's identity for a fleet, in the transaction that is under way."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from ..devices.identity import Identity
from .database import ConnectionQuery
from .identity import read_identity
from .tables import audit, identities

_ID_BYTES = 16
_COUNT = sa.update(identities).where(identities.c.fleet == sa.bindparam("of_fleet")).values(number=sa.bindparam("next"))


def ensure(connection: sa.Connection, fleet: str) -> Identity:
    """Return the identity for a fleet, made where there is none yet."""
    found = read_identity(ConnectionQuery(connection), fleet)
    if found.state:
        return found
    made = Identity(fleet, secrets.token_hex(_ID_BYTES), 0)
    connection.execute(sa.insert(identities).values(fleet=fleet, state=made.state, number=0, past={}))
    return made


def renew_identity(connection: sa.Connection, fleet: str) -> Identity:
    """Give a fleet's state a new id; numbers that devices got under the old one still count as its own."""
    old = ensure(connection, fleet)
    new = Identity(fleet, secrets.token_hex(_ID_BYTES), old.number, {**old.past, old.state: old.number})
    row = sa.update(identities).where(identities.c.fleet == fleet)
    connection.execute(row.values(state=new.state, past=dict(new.past)))
    return new


def increase(connection: sa.Connection, fleet: str) -> int:
    """Increase a fleet's number and return it."""
    found = ensure(connection, fleet)
    connection.execute(_COUNT, {"of_fleet": fleet, "next": found.number + 1})
    return found.number + 1


def last_audit(connection: sa.Connection) -> tuple[int, str]:
    """Return number and hash of the last audit entry, (0, "") for none."""
    row = connection.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return (row.seq, row.hash) if row is not None else (0, "")
