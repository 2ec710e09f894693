"""The state database, looked at without opening it for use: opening would make or migrate it."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

from litefleet_agent.findings import Certainty

from ..config import Config
from ..state.migrate import HEAD
from ..state.tables import VERSION_TABLE
from .looked import Looked, fact, trouble, works

__all__ = ["look_at_state"]


def look_at_state(config: Config) -> Looked:
    """Look at the project's state database; one on a server is not asked."""
    scheme, separator, rest = config.state.partition("://")
    if separator and scheme != "sqlite":
        return _on_a_server(scheme)
    path = Path(rest.removeprefix("/") if separator else config.state or config.store / "state.db").expanduser()
    if not path.exists():
        return fact("state", f"{path}, made by the first rollout")
    return fact("state", str(path)) + _judge(path)


def _on_a_server(scheme: str) -> Looked:
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        return trouble("LF708", f"`state:` names {scheme[:40]}://; give a path, or postgresql://HOST/DATABASE.")
    if importlib.util.find_spec("psycopg") is None:
        seen = "`state:` names PostgreSQL, and psycopg is not installed: `pip install 'litefleet[postgres]'`."
        return trouble("LF710", seen)
    return fact("state", "PostgreSQL, not asked here")


def _judge(path: Path) -> Looked:
    try:
        schema = _schema(path)
    except (sqlite3.Error, OSError) as error:
        return trouble("LF708", f"The state database {path} can't be read: {error}. Move it away, or name another.")
    if schema == HEAD:
        return works("The state database has this litefleet's schema.")
    if schema > HEAD:
        seen = f"The state database {path} was written by a newer litefleet (schema {schema}, this one knows {HEAD})."
        return trouble("LF708", seen)
    return trouble("LF708", f"The state database {path} has no tables of litefleet's yet.", Certainty.POSSIBLE)


def _schema(path: Path) -> str:
    """Return the schema's number, "" without one.  A read of SQLite may make files beside the database; this one does not."""
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=2)) as connection:
        there = connection.execute("SELECT name FROM sqlite_master WHERE name = ?", (VERSION_TABLE,)).fetchone()
        row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() if there else None  # noqa: S608
    return str(row[0]) if row else ""
