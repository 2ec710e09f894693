"""What a release's golden can tell, for people; releases from before have none.

Written out by hand: a step must not change when `tables.py` does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column, which holds JSON."""
    op.add_column("releases", sa.Column("golden_power", sa.Text(), nullable=True))
