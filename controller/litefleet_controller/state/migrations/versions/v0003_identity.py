"""The state's identity for each fleet, which devices keep with their last switch; and the host key of each device.

Written out by hand: a step must not change when `tables.py` does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table, and the column."""
    op.create_table(
        "identities",
        sa.Column("fleet", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("past", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("fleet"),
    )
    op.add_column("devices", sa.Column("host_key", sa.Text(), nullable=False, server_default=""))
