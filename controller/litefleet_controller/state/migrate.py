"""Bringing a database to this program's schema when it is opened."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from .model import StateError
from .tables import VERSION_TABLE, metadata

HEAD = "0004"  # the last of `migrations/versions`; known here so that a database that is up to date needs no Alembic
SCRIPTS = Path(__file__).parent / "migrations"


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
