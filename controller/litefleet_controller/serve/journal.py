"""What the server keeps across its own restart: jobs and their results, and the answers to requests with an Idempotency-Key.

One small SQLite file beside the project's reports.  It is no part of the fleet's state: without it, nothing but the list of
earlier jobs and the protection of a repeated request is lost.  Entries for the audit log are in it until they are moved there.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..common.errors import LitefleetError

_KEPT_S = 7 * 86400.0  # of requests and jobs
_MOST_REQUESTS = 20_000
_MOST_JOBS = 500
_MOST_ENTRIES = 10_000  # for the audit log
_MOST_RESULTS = 40  # of jobs: a plan of 10,000 devices has megabytes
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, document TEXT NOT NULL, result BLOB
);
CREATE TABLE IF NOT EXISTS requests (
  person TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, digest TEXT NOT NULL, status INTEGER, headers TEXT, body BLOB,
  PRIMARY KEY (person, key)
);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (at);
CREATE TABLE IF NOT EXISTS audit_entries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, what TEXT NOT NULL
);
"""


class JournalError(LitefleetError):
    """The journal's file cannot be used."""


class KeptEntry(NamedTuple):
    """An entry that is to be in the audit log; `number` grows, `at` is when it was noted, in seconds since the epoch."""

    number: int
    at: float
    who: str
    action: str
    what: Mapping[str, object]


@dataclass(frozen=True)
class KeptAnswer:
    """What the journal knows of a request with a key; `status` 0: it was begun, and its answer is not known."""

    digest: str  # of method, path and body
    status: int = 0
    headers: str = ""  # JSON
    body: bytes = b""


class Journal:
    """The file; every method is one transaction, synced when it returns.  Threads share it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._one = threading.Lock()
        self._database: sqlite3.Connection | None = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._one:
            try:
                if self._database is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._database = sqlite3.connect(self._path, timeout=10, check_same_thread=False)
                    self._path.chmod(0o600)
                    self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _TABLES)
                with self._database:
                    yield self._database
            except (sqlite3.Error, OSError) as error:
                raise JournalError(
                    f"{self._path} cannot be used: {error}. Check free space and permissions; without the file the server "
                    "only forgets its earlier jobs, so a damaged one may be deleted while the server is stopped"
                ) from error

    def close(self) -> None:
        """Close the file."""
        with self._one:
            if self._database is not None:
                self._database.close()
                self._database = None

    def begin(self, person: str, key: str, digest: str) -> KeptAnswer | None:
        """Note that a request begins, and return None; what is known of it already where it came before."""
        now = self._clock()
        with self._open() as database:
            database.execute("DELETE FROM requests WHERE at < ?", (now - _KEPT_S,))
            found = database.execute(
                "SELECT digest, status, headers, body FROM requests WHERE person = ? AND key = ?", (person, key)
            ).fetchone()
            if found is not None:
                return KeptAnswer(found[0], found[1] or 0, found[2] or "{}", found[3] or b"")
            count = database.execute("SELECT count(*) FROM requests").fetchone()[0]
            if count >= _MOST_REQUESTS:
                raise JournalError(f"{count} requests with an Idempotency-Key are kept already: try again in an hour")
            database.execute(
                "INSERT INTO requests (person, key, at, digest) VALUES (?, ?, ?, ?)", (person, key, now, digest)
            )
        return None

    def answered(self, person: str, key: str, status: int, headers: str, body: bytes) -> None:
        """Keep the answer to a request that `begin` noted."""
        with self._open() as database:
            database.execute(
                "UPDATE requests SET status = ?, headers = ?, body = ? WHERE person = ? AND key = ?",
                (status, headers, body, person, key),
            )

    def forget(self, person: str, key: str) -> None:
        """Delete a request that changed nothing, so that it may be sent again."""
        with self._open() as database:
            database.execute("DELETE FROM requests WHERE person = ? AND key = ?", (person, key))

    def keep_job(self, ident: str, document: str, result: str | None = None) -> None:
        """Keep a job as it is now, with its result where it has one; old jobs and results are deleted."""
        packed = None if result is None else zlib.compress(result.encode(), 1)
        now = self._clock()
        with self._open() as database:
            database.execute(
                "INSERT INTO jobs (id, at, document, result) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET document = excluded.document, result = excluded.result",
                (ident, now, document, packed),
            )
            newest = database.execute("SELECT max(number) FROM jobs").fetchone()[0]
            database.execute("DELETE FROM jobs WHERE number <= ? OR at < ?", (newest - _MOST_JOBS, now - _KEPT_S))
            database.execute("UPDATE jobs SET result = NULL WHERE number <= ?", (newest - _MOST_RESULTS,))

    def job(self, ident: str) -> str | None:
        """Return a job's document."""
        with self._open() as database:
            found = database.execute("SELECT document FROM jobs WHERE id = ?", (ident,)).fetchone()
        return None if found is None else str(found[0])

    def jobs(self, most: int = _MOST_JOBS) -> list[str]:
        """Return the documents of the latest jobs, the newest first."""
        with self._open() as database:
            found = database.execute("SELECT document FROM jobs ORDER BY number DESC LIMIT ?", (most,)).fetchall()
        return [str(row[0]) for row in found]

    def result(self, ident: str) -> str | None:
        """Return a job's result, a JSON document; None where there is none (any more)."""
        with self._open() as database:
            found = database.execute("SELECT result FROM jobs WHERE id = ?", (ident,)).fetchone()
        return None if found is None or found[0] is None else zlib.decompress(found[0]).decode()

    def keep_entry(self, who: str, action: str, what: Mapping[str, object]) -> int:
        """Keep an entry for the audit log, and return its number."""
        with self._open() as database:
            count = database.execute("SELECT count(*) FROM audit_entries").fetchone()[0]
            if count >= _MOST_ENTRIES:
                raise JournalError(f"{count} entries wait for the audit log already: is the state's database locked?")
            values = (self._clock(), who, action, json.dumps(dict(what)))
            added = database.execute("INSERT INTO audit_entries (at, who, action, what) VALUES (?, ?, ?, ?)", values)
            return int(added.lastrowid or 0)

    def entries(self) -> list[KeptEntry]:
        """Return the entries that wait for the audit log, the oldest first."""
        with self._open() as database:
            found = database.execute(
                "SELECT number, at, who, action, what FROM audit_entries ORDER BY number"
            ).fetchall()
        return [KeptEntry(number, at, who, action, json.loads(what)) for number, at, who, action, what in found]

    def forget_entry(self, number: int) -> None:
        """Delete an entry that is in the audit log now."""
        with self._open() as database:
            database.execute("DELETE FROM audit_entries WHERE number = ?", (number,))
