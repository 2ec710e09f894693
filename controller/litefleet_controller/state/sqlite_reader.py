"""Reads a state in an SQLite file by Python's own driver, without SQLAlchemy: a command that only reads starts sooner."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .identity import Beside, beside_file
from .query import Query, Row
from .reader import StateReader
from .schema import BUSY_S, HEAD, VERSION_TABLE, explained, sqlite_name, sqlite_path, unreadable


def open_reader(where: str | os.PathLike[str], beside: Path | None = None) -> StateReader:
    """Open a state to read it, as `State.open` does, and without SQLAlchemy where it is an SQLite file of this schema.

    Raises: StateError with what to do.
    """
    path = sqlite_path(where)
    reader = SqliteReader.of_this_schema(path, beside=beside) if path is not None else None
    if reader is not None:
        return reader
    # A server, or a file that is missing, of another schema, or damaged: it does or says what is due.
    from .state import State

    return State.open(where, beside=beside)


class SqliteReader(StateReader):
    """Reads one SQLite file."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, clock: Callable[[], float], beside: Beside | None
    ) -> None:
        super().__init__(sqlite_name(path), clock, beside)
        self._connection = connection

    @classmethod
    def of_this_schema(
        cls, path: Path, clock: Callable[[], float] = time.time, beside: Path | None = None
    ) -> SqliteReader | None:
        """Open a file that needs nothing done before it is read: its schema is this program's, readers do not block it.

        Returns None for any other, also for one that is missing or cannot be read.
        """
        connection: sqlite3.Connection | None = None
        try:
            uri = f"{path.absolute().as_uri()}?mode=rw"  # not made where it is missing
            connection = sqlite3.connect(uri, timeout=BUSY_S, isolation_level=None, uri=True)
            mode = connection.execute("PRAGMA journal_mode").fetchone()
            version = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608
        except sqlite3.Error:
            mode = version = None
        if connection is not None and mode == ("wal",) and version == (HEAD,):
            return cls(connection, path, clock, beside_file(path, beside))
        if connection is not None:
            connection.close()
        return None

    @contextlib.contextmanager
    def query(self) -> Iterator[Query]:
        """Return a transaction that reads by SQL text."""
        try:
            self._connection.execute("BEGIN")
            try:
                yield _SqliteQuery(self._connection)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise explained(" ".join(str(error).split()), self._name) from None
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable(self._name, error) from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


class _SqliteQuery(Query):
    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__("sqlite")
        self._connection = connection

    def _fetch(self, sql: str, values: Mapping[str, object]) -> tuple[tuple[str, ...], Sequence[Row]]:
        found = self._connection.execute(sql, dict(values))
        return tuple(column[0] for column in found.description), found.fetchall()
