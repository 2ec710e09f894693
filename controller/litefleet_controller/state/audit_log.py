"""The audit log: a hash chain, in which each entry contains the hash of the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .model import AuditEntry
from .tables import Words, audit, canonical

_SEALED = ("seq", "at", "who", "action", "previous", "hash")


def _hash(seq: int, at: float, who: str, action: str, what: Mapping[str, object], previous: str) -> str:
    content = {"seq": seq, "at": at, "who": who, "action": action, "what": what, "previous": previous}
    return hashlib.sha256(canonical(content).encode("ascii")).hexdigest()


def append(connection: sa.Connection, at: float, who: str, action: str, what: Mapping[str, object]) -> None:
    """Add an entry; the transaction must be a writing one, so that no other process adds the same number."""
    last = connection.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    seq, previous = (last.seq + 1, last.hash) if last is not None else (1, "")
    who, action = _kept(who), _kept(action)
    content = json.loads(canonical(dict(what)))  # as it will be read back: text keys, lists
    digest = _hash(seq, float(at), who, action, content, previous)
    connection.execute(
        sa.insert(audit).values(
            seq=seq, at=float(at), who=who, action=action, what=content, previous=previous, hash=digest
        )
    )


def _kept(text: str) -> str:
    """Return a text as it will be read back."""
    return Words().process_bind_param(text, sa.engine.default.DefaultDialect()) or ""


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(row.seq, row.at, row.who, row.action, row.what, row.previous, row.hash)


def entries(connection: sa.Connection, limit: int) -> tuple[AuditEntry, ...]:
    """Return the last entries, the oldest first."""
    found = connection.execute(sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)).all()
    return tuple(_entry(row) for row in reversed(found))


def check(connection: sa.Connection) -> str:
    """Return "" when every entry is there, in its place and unchanged, else the sentence that says which is not.

    Entries removed from the end cannot be detected from the log itself, nor can a chain that was rewritten from the first
    entry on: store the last entry's hash elsewhere where that matters.
    """
    previous = ""
    raw = sa.type_coerce(audit.c.what, sa.Text).label("raw")  # it may be no JSON any more
    stored = sa.select(*(audit.c[name] for name in _SEALED), raw).order_by(audit.c.seq)
    for seq, row in enumerate(connection.execute(stored).yield_per(1000), start=1):
        if row.seq != seq:
            return f"the audit log lacks entry {seq}: the next one is {row.seq} ({row.action}, by {row.who})"
        problem = _problem(row, previous)
        if problem:
            return problem
        previous = row.hash
    return ""


def check_last(connection: sa.Connection, seq: int, digest: str) -> str:
    """Return "" when the entry `seq` is there with this hash, as was noted outside the database, else the sentence."""
    if not seq:
        return ""
    stored = connection.execute(sa.select(audit.c.hash).where(audit.c.seq == seq)).scalar()
    if stored is None:
        last = connection.execute(sa.select(sa.func.max(audit.c.seq))).scalar() or 0
        return f"the audit log ends at entry {last}, and the file beside the database names entry {seq}: the rest is missing"
    return (
        ""
        if stored == digest
        else f"the audit log's entry {seq} is not the one that the file beside the database names"
    )


def _problem(row: Any, previous: str) -> str:
    label = f"the audit log's entry {row.seq} ({row.action}, by {row.who})"
    try:
        computed = _hash(row.seq, row.at, row.who, row.action, json.loads(row.raw), row.previous)
    except (TypeError, ValueError):
        computed = ""
    if computed != row.hash:
        return f"{label} was changed after it was written"
    if row.previous != previous:
        return f"{label} does not follow the one before it: one of the two was replaced"
    return ""
