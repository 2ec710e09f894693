"""What Alembic runs around the steps: on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from litefleet_controller.state.schema import VERSION_TABLE
from litefleet_controller.state.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
