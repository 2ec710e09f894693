"""The first schema: rollouts, what became of them, what devices run, the lock, the audit log.

Written out by hand: a step must not change when `tables.py` does.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW = ["rollout", "device", "model"]
SQLITE_GUARDS = [
    f"CREATE TRIGGER audit_no_{verb} BEFORE {verb.upper()} ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    for verb in ("update", "delete")
]
POSTGRESQL_GUARDS = [
    "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
]


def text(name: str, nullable: bool = False) -> sa.Column[Any]:
    """Return a column of text or JSON."""
    return sa.Column(name, sa.Text(), nullable=nullable)


def texts(*names: str) -> list[sa.Column[Any]]:
    """Return columns of text or JSON."""
    return [text(name) for name in names]


def integer(name: str) -> sa.Column[Any]:
    """Return a column of whole numbers."""
    return sa.Column(name, sa.BigInteger(), nullable=False)


def real(name: str, nullable: bool = False) -> sa.Column[Any]:
    """Return a column of seconds or measured values."""
    return sa.Column(name, sa.Double(), nullable=nullable)


def flag(name: str) -> sa.Column[Any]:
    """Return a column of yes or no."""
    return sa.Column(name, sa.Boolean(), nullable=False)


def within(columns: list[str], table: str, names: list[str]) -> sa.ForeignKeyConstraint:
    """Return the key of rows that go when the row they belong to goes."""
    return sa.ForeignKeyConstraint(columns, [f"{table}.{name}" for name in names], ondelete="CASCADE")


def of_rollout() -> sa.ForeignKeyConstraint:
    """Return the key of what belongs to a rollout."""
    return within(["rollout"], "rollouts", ["id"])


def rollouts() -> None:
    """Make the rollouts with their rows and the rows' moves."""
    op.create_table(
        "rollouts",
        text("id"),
        sa.Column("ordinal", sa.BigInteger(), nullable=False, unique=True),
        *texts("fleet", "kind", "state", "policy", "waves"),
        real("created_at"),
        *texts("asked_by", "models"),
        integer("wave"),
        real("soak_until"),
        integer("looked"),
        integer("approved"),
        *texts("reason", "behind"),
        integer("number"),
        *texts("parent", "selection", "origin", "request"),
        real("updated_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rollouts_by_fleet", "rollouts", ["fleet", "ordinal"])
    op.create_table(
        "rollout_rows",
        *texts(*ROW),
        integer("wave"),
        integer("position"),
        *texts("state", "part", "libc", "runtime", "jump", "release", "artifact", "before"),
        integer("attempts"),
        real("offline_since"),
        real("next_try_at"),
        text("verdict", nullable=True),
        *texts("codes", "sentence"),
        flag("regressed"),
        flag("forgiven"),
        sa.PrimaryKeyConstraint(*ROW),
        of_rollout(),
    )
    growing = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "transitions",
        sa.Column("seq", growing, primary_key=True, autoincrement=True),
        real("at"),
        *texts(*ROW, "event", "state_before", "state_after", "release", "sentence"),
        of_rollout(),
    )
    op.create_index("transitions_by_row", "transitions", ROW)


def outcomes() -> None:
    """Make what became of each row, also in a form that SQL can ask."""
    op.create_table(
        "outcomes",
        *texts(*ROW),
        real("at"),
        text("outcome"),
        sa.PrimaryKeyConstraint(*ROW),
        within(ROW, "rollout_rows", ROW),
    )
    op.create_table(
        "findings",
        *texts(*ROW),
        integer("position"),
        *texts("code", "severity", "seen"),
        sa.PrimaryKeyConstraint(*ROW, "position"),
        within(ROW, "outcomes", ROW),
    )
    op.create_index("findings_by_code", "findings", ["code"])
    op.create_table(
        "measurements",
        *texts(*ROW, "name"),
        real("value", nullable=True),
        sa.PrimaryKeyConstraint(*ROW, "name"),
        within(ROW, "outcomes", ROW),
    )


def releases() -> None:
    """Make the releases and the rollouts that use them."""
    op.create_table(
        "releases",
        *texts("id", "model", "kind", "manifest", "artifact", "blobs", "runtime_key"),
        text("runtime_blob", nullable=True),
        integer("runtime_size"),
        text("recipe"),
        flag("special"),
        text("sealed", nullable=True),
        real("kept_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "rollout_releases",
        *texts("rollout", "release"),
        sa.PrimaryKeyConstraint("rollout", "release"),
        of_rollout(),
    )
    op.create_index("rollout_releases_by_release", "rollout_releases", ["release"])


def devices() -> None:
    """Make what is known of devices, and the numbers of releases."""
    op.create_table(
        "devices", *texts("device", "facts", "fingerprint"), real("seen_at"), sa.PrimaryKeyConstraint("device")
    )
    op.create_table(
        "confirmed",
        *texts("device", "model", "release", "artifact", "runtime", "fingerprint", "rollout"),
        real("at"),
        text("measurements"),
        sa.PrimaryKeyConstraint("device", "model"),
    )
    op.create_table("numbers", *texts("fleet", "model"), integer("number"), sa.PrimaryKeyConstraint("fleet", "model"))


def holds_and_audit() -> None:
    """Make the lock and the audit log, which the database itself keeps from being changed."""
    op.create_table(
        "holds",
        text("fleet"),
        integer("token"),
        flag("held"),
        *texts("owner_user", "owner_host"),
        integer("owner_pid"),
        *texts("owner_boot_id", "owner_started"),
        real("renewed_at"),
        real("ttl_s"),
        sa.PrimaryKeyConstraint("fleet"),
    )
    op.create_table(
        "audit",
        integer("seq"),
        real("at"),
        *texts("who", "action", "what", "previous", "hash"),
        sa.PrimaryKeyConstraint("seq"),
    )
    for statement in SQLITE_GUARDS if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_GUARDS:
        op.execute(statement)


def upgrade() -> None:
    """Make all tables in an empty database."""
    rollouts()
    outcomes()
    releases()
    devices()
    holds_and_audit()
