"""What a database of ours is known by without SQLAlchemy: its schema's number, its file, and the sentences about its errors."""

from __future__ import annotations

import os
import re
from pathlib import Path

from litefleet_agent.formats.checked import shortened

from ..common.files import expanded
from .model import StateError

HEAD = "0007"  # the last of `migrations/versions`; known here so that a database that is up to date needs no Alembic
VERSION_TABLE = "litefleet_version"  # not Alembic's own name: the database may be shared with other applications
BUSY_S = 15  # how long SQLite waits for another writer

_SENTENCES: tuple[tuple[str, str], ...] = (
    (r"database is locked", "is busy: another process has been writing for too long; try again, or find out which one"),
    (r"readonly database|read-only", "cannot be written: give this user the right to write it, or name another in `state`"),
    (r"unable to open database file|permission denied", "cannot be opened: this user has to read it, and to write in its folder"),
    (r"disk is full|no space left|could not extend", "has no space left on its disk: free some; nothing was written"),
    (r"file is not a database", "is no SQLite database: name another file in `state`"),
    (r"malformed|corrupt|invalid page", "is damaged: put a copy from before in its place; devices keep what they run"),
    (r"disk i/o error|input/output error", "cannot be read or written: its disk reports errors; check the system's log"),
    (r"password authentication failed|no password supplied", "refuses this user: check user and password of the URL in `state`"),
    (r'database "[^"]*" does not exist', "does not exist on its server: create it, or correct the URL in `state`"),
    (r"append-only", "keeps its audit log from being changed; nothing was written"),
)  # fmt: skip
_NO_SERVER = (
    r"connection (to server|failed|refused|timeout|is bad|timed out)|could not connect|could not translate|"
    r"failed to resolve|server closed|terminating connection|connection is lost|connection has been closed|"
    r"consuming input failed|starting up|shutting down|too many (clients|connections)|SSL error"
)


def explained(message: str, name: str, unreachable: bool = False) -> StateError:
    """Return the error that says why `name`, a database, cannot be used; `message` is its driver's, in one line.

    `unreachable`: the driver says that the connection is gone.
    """
    for pattern, sentence in _SENTENCES:
        if re.search(pattern, message, re.IGNORECASE):
            return StateError(f"{name} {sentence} ({shortened(message, 300)})")
    if unreachable or re.search(_NO_SERVER, message, re.IGNORECASE):
        return StateError(
            f"{name} does not answer: check that its server runs and the URL in `state` ({shortened(message, 300)})"
        )
    return StateError(f"{name} rejected a statement; nothing was written ({shortened(message, 300)})")


def unreadable(name: str, error: Exception) -> StateError:
    """Return the error about a database that holds what this program cannot understand."""
    return StateError(f"{name} holds what this litefleet cannot read: was it changed by hand? ({error!r:.300})")


def sqlite_name(path: Path) -> str:
    """Return how sentences name an SQLite database."""
    return f"the state database {path}"


def sqlite_path(where: str | os.PathLike[str]) -> Path | None:
    """Return the file that a path or an sqlite:// URL names; None for any other URL."""
    text = os.fspath(where)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return expanded(text)
    return expanded(rest.removeprefix("/")) if scheme == "sqlite" else None
