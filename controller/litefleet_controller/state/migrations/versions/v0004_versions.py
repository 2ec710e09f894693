"""The version of each release, for people.

Written out by hand: a step must not change when `tables.py` does.
"""

from __future__ import annotations

import datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; releases that are stored get the day of their recipe's first one, and its short hash."""
    op.add_column("releases", sa.Column("version", sa.Text(), nullable=False, server_default=""))
    connection = op.get_bind()
    stored = connection.execute(sa.text("SELECT id, model, recipe, kept_at FROM releases ORDER BY kept_at")).all()
    first: dict[tuple[str, str], float] = {}
    for row in stored:
        key = (row.model, row.recipe or row.id)
        day = datetime.datetime.fromtimestamp(first.setdefault(key, row.kept_at), datetime.UTC)
        values = {"version": f"{day:%Y-%m-%d}-{key[1][:6]}", "id": row.id}
        connection.execute(sa.text("UPDATE releases SET version = :version WHERE id = :id"), values)
