"""One database, SQLite or PostgreSQL: opened, brought to this schema, and used by whole transactions.

Whoever writes is alone: SQLite by BEGIN IMMEDIATE, PostgreSQL by one lock that every writing transaction takes first.  What a
transaction has read can therefore not change before it writes; there are few writers, and their transactions take milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from .model import StateError
from .query import Query, Row
from .schema import BUSY_S, HEAD, VERSION_TABLE, explained, sqlite_name, sqlite_path, unreadable
from .tables import metadata

SCRIPTS = Path(__file__).parent / "migrations"


def explain(error: exc.DBAPIError, name: str, secrets: tuple[str, ...] = ()) -> StateError:
    """Return the error that says why `name`, a database, cannot be used; none of `secrets` is in it."""
    message = " ".join(str(error.orig).split())
    for secret in filter(None, secrets):
        message = message.replace(secret, "***")
    return explained(message, name, error.connection_invalidated)


CONNECT_S = 10
_WRITING = "litefleet_writing"
_PG_LOCK = 0x6C69746566  # any number that no other application is likely to use: "litef"
_SECRET_PARAMETERS = ("password", "sslpassword", "passfile", "sslkey")


class Database:
    """A database of this program's schema."""

    def __init__(self, engine: sa.Engine, name: str, secrets: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self.name = name
        self._secrets = secrets

    @classmethod
    def open(cls, where: str | os.PathLike[str], scripts: Path = SCRIPTS, head: str = HEAD) -> Database:
        """Open a path (SQLite; the file and its folder are made) or a URL, and bring it to the schema `head`.

        Raises: StateError with what to do.
        """
        path = sqlite_path(where)
        if path is not None:
            return cls._sqlite(path, scripts, head)
        scheme, _, rest = os.fspath(where).partition("://")
        if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
            return cls._postgresql(rest, scripts, head)
        raise StateError(
            f"`state` names {scheme[:40]}://, which is not supported: give a path, or postgresql://HOST/DATABASE"
        )

    @classmethod
    def _sqlite(cls, path: Path, scripts: Path, head: str) -> Database:
        _make_file(path)
        url = sa.URL.create("sqlite+pysqlite", database=str(path))
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        database = cls(engine, sqlite_name(path))
        database._prepare(scripts, head)
        return database

    @classmethod
    def _postgresql(cls, rest: str, scripts: Path, head: str) -> Database:
        if importlib.util.find_spec("psycopg") is None:
            raise StateError("a PostgreSQL state database needs psycopg: pip install 'litefleet[postgres]'")
        try:
            url = sa.make_url(f"postgresql+psycopg://{rest}")
        except (exc.ArgumentError, ValueError):
            raise StateError("`state` is no URL: write postgresql://USER@HOST/DATABASE") from None
        secrets = [str(url.password or "")] + [_one(url.query.get(name)) for name in _SECRET_PARAMETERS]
        engine = sa.create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_S, "application_name": "litefleet"}
        )
        event.listen(engine, "begin", _on_postgresql_begin)
        name = (
            f"the state database {url.database or '(none)'} at {url.host or _one(url.query.get('host')) or 'localhost'}"
        )
        database = cls(engine, name, tuple(secrets))
        database._prepare(scripts, head)
        return database

    def _prepare(self, scripts: Path, head: str) -> None:
        """Migrate what is behind; close everything again when it fails."""
        try:
            if self._engine.dialect.name == "sqlite":
                self._set_wal()
            with self.read() as connection:
                current = schema_of(connection)
            if current != head:
                with self.write() as connection:
                    migrate(connection, scripts)
        except BaseException:
            self.close()
            raise

    def _set_wal(self) -> None:
        """Set WAL mode, so that readers read while one writes; the file keeps the setting."""
        with self._explained(), self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            try:
                _until_free(driver, "PRAGMA journal_mode=WAL")
            except sqlite3.Error as error:  # not caught by SQLAlchemy, which would have wrapped it
                raise exc.OperationalError("PRAGMA journal_mode", None, error) from error

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Read in one transaction.

        Raises: StateError also when what is stored cannot be understood.
        """
        with self._explained(), self._engine.connect() as connection:
            try:
                yield connection
            except (KeyError, TypeError, ValueError) as error:
                raise unreadable(self.name, error) from error

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Write in one transaction, alone; committed at the end, undone by any exception."""
        with self._explained(), self._engine.connect() as unbound:
            connection = unbound.execution_options(**{_WRITING: True})
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise explain(error, self.name, self._secrets) from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


class ConnectionQuery(Query):
    """Reads by SQL text in the transaction of a connection."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection.dialect.name)
        self._connection = connection

    def _fetch(self, sql: str, values: Mapping[str, object]) -> tuple[tuple[str, ...], Sequence[Row]]:
        found = self._connection.execute(_text(sql), values)
        return tuple(found.keys()), found.fetchall()


@lru_cache(maxsize=100)
def _text(sql: str) -> sa.TextClause:
    return sa.text(sql)


def _one(value: Any) -> str:
    """Return a URL's parameter, which may be given several times."""
    return str(value[0] if isinstance(value, tuple) else value or "")


def _make_file(path: Path) -> None:
    """Make the file, for this user only; one that is there stays as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise StateError(f"the state database {path} cannot be made: the path names something else") from None
    except OSError as error:
        raise StateError(
            f"the state database {path} cannot be made ({error.strerror}): name another file in `state`"
        ) from error


def _until_free(driver: sqlite3.Connection, statement: str) -> None:
    """Execute what SQLite does not wait for its turn with: a change of the journal's mode."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            driver.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.02)


def _on_sqlite_connect(connection: sqlite3.Connection, record: object) -> None:
    """Turn off the driver's own transactions, and make every commit survive a power cut."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _on_postgresql_begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_WRITING):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_PG_LOCK})")


def schema_of(connection: sa.Connection) -> str:
    """Return the schema's number, "" for a database without tables of ours.

    Raises: StateError for a database that has tables of the same names, made by something else.
    """
    there = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE in there:
        row = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).first()  # noqa: S608
        return str(row[0]) if row else ""
    foreign = sorted(there & set(metadata.tables))
    if foreign:
        raise StateError(
            f"the state database has tables that are not litefleet's ({', '.join(foreign)}): "
            "name an empty database or a new file in `state`"
        )
    return ""


def migrate(connection: sa.Connection, scripts: Path = SCRIPTS) -> None:
    """Run the steps that a database lacks, in the transaction that is under way.

    Raises: StateError when the database's schema is none of ours, as a newer litefleet leaves it.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    found = schema_of(connection)
    if found and found not in known:
        raise StateError(
            f"the state database was written by a newer litefleet (its schema is {found}, this one knows {known[0]}): "
            "use that litefleet, or another database"
        )
    if found != known[0]:
        command.upgrade(config, "head")
