"""What a database driver says, as a sentence for the operator."""

from __future__ import annotations

import re

from sqlalchemy import exc

from .port import StateError

__all__ = ["explain"]

_SENTENCES: tuple[tuple[str, str], ...] = (
    (r"database is locked", "is busy: another process has been writing for too long; try again, or look what holds it"),
    (r"readonly database|read-only", "can't be written: give this user the right to write it, or name another in `state`"),
    (r"unable to open database file|permission denied", "can't be opened: check that it exists and that this user may read it"),
    (r"disk is full|no space left|could not extend", "has no room left on its disk: free some; nothing was written"),
    (r"file is not a database", "is no SQLite database: name another file in `state`"),
    (r"malformed|corrupt|invalid page", "is damaged: put a copy from before in its place; devices keep what they run"),
    (r"disk i/o error|input/output error", "can't be read or written: its disk reports errors; look into the system's log"),
    (r"password authentication failed|no password supplied", "refuses this user: check user and password of the URL in `state`"),
    (r'database "[^"]*" does not exist', "does not exist on its server: create it, or correct the URL in `state`"),
    (r"append-only", "keeps its audit log from being changed; nothing was written"),
)  # fmt: skip
_NO_SERVER = (
    r"connection (to server|failed|refused|timeout|is bad|timed out)|could not connect|could not translate|"
    r"failed to resolve|server closed|terminating connection|connection is lost|connection has been closed|"
    r"consuming input failed|starting up|shutting down|too many (clients|connections)|SSL error"
)


def explain(error: exc.DBAPIError, name: str, secrets: tuple[str, ...] = ()) -> StateError:
    """Return the error that says why `name`, a database, can't be used; none of `secrets` is in it."""
    said = " ".join(str(error.orig).split())
    for secret in filter(None, secrets):
        said = said.replace(secret, "***")
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, said, re.IGNORECASE):
            return StateError(f"{name} {sentence} ({said[:300]})")
    if error.connection_invalidated or re.search(_NO_SERVER, said, re.IGNORECASE):
        return StateError(f"{name} does not answer: check that its server runs and the URL in `state` ({said[:300]})")
    return StateError(f"{name} did not do what it was asked; nothing was written ({said[:300]})")
