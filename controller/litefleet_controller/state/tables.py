"""The tables.  `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

import json
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

# PostgreSQL takes no NUL, UTF-8 has no lone surrogates; devices send both
_NOT_KEPT = re.compile("[\x00\ud800-\udfff]")


def canonical(value: Any) -> str:
    """Return JSON of one form only: sorted keys, no spaces, ASCII; what JSON lacks becomes text."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    except TypeError:  # keys of several kinds cannot be sorted until all are text
        return json.dumps(json.loads(json.dumps(value, default=str)), sort_keys=True, separators=(",", ":"))


class Words(sa.types.TypeDecorator[str]):
    """Text of any length; characters that a database refuses become U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        if value is None or (value.isascii() and "\0" not in value):  # nearly all: a third of the time of the search
            return value
        return _NOT_KEPT.sub("\ufffd", value)


class Json(sa.types.TypeDecorator[Any]):
    """JSON as text: a database's own JSON type refuses NaN or NUL, which a device may well have measured or reported."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else canonical(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value again."""
        return None if value is None else json.loads(value)


_GROWING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers INTEGER keys only
_ROW = ("rollout", "device", "model")

metadata = sa.MetaData()


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, Words(), nullable=False)


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, Words(), primary_key=True, nullable=False)


def _integer(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _real(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _json(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Json(), nullable=nullable)


def _of_rollout() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], ondelete="CASCADE")


rollouts = sa.Table(
    "rollouts",
    metadata,
    _key("id"),
    sa.Column("ordinal", sa.BigInteger(), nullable=False, unique=True),  # the order of creation, whatever the clock did
    _text("fleet"),
    _text("kind"),
    _text("state"),
    _json("policy"),
    _json("waves"),
    _real("created_at"),
    _text("asked_by"),
    _json("models"),
    _integer("wave"),
    _real("soak_until"),
    _integer("looked"),
    _integer("approved"),
    _text("reason"),
    _json("behind"),
    _integer("number"),
    _text("parent"),
    _text("selection"),
    _json("origin"),
    _text("request"),
    _real("updated_at"),
    sa.Index("rollouts_by_fleet", "fleet", "ordinal"),
)

rollout_rows = sa.Table(
    "rollout_rows",
    metadata,
    *(_key(name) for name in _ROW),
    _integer("wave"),
    _integer("position"),
    _text("state"),
    _text("part"),
    _text("libc"),
    _text("runtime"),
    _text("jump"),
    _text("release"),
    _text("artifact"),
    _text("before"),
    _integer("attempts"),
    _real("offline_since"),
    _real("next_try_at"),
    sa.Column("verdict", Words(), nullable=True),
    _json("codes"),
    _text("sentence"),
    _flag("regressed"),
    _flag("forgiven"),
    _of_rollout(),
)

# Each device's row in the latest rollout that had one: lists of devices are read through it, not through all rollouts
latest_rows = sa.Table(
    "latest_rows",
    metadata,
    *(_key(name) for name in ("fleet", "device", "model")),
    _text("rollout"),
    sa.ForeignKeyConstraint(_ROW, [f"rollout_rows.{name}" for name in _ROW], ondelete="CASCADE"),
    sa.Index("latest_rows_by_row", *_ROW),
)

transitions = sa.Table(
    "transitions",
    metadata,
    sa.Column("seq", _GROWING, primary_key=True, autoincrement=True),
    _real("at"),
    *(_text(name) for name in _ROW),
    _text("event"),
    _text("state_before"),
    _text("state_after"),
    _text("release"),
    _text("sentence"),
    _of_rollout(),
    sa.Index("transitions_by_row", *_ROW),
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    *(_key(name) for name in _ROW),
    _real("at"),
    _json("outcome"),
    sa.ForeignKeyConstraint(_ROW, [f"rollout_rows.{name}" for name in _ROW], ondelete="CASCADE"),
)


def _of_outcome() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(_ROW, [f"outcomes.{name}" for name in _ROW], ondelete="CASCADE")


findings = sa.Table(
    "findings",
    metadata,
    *(_key(name) for name in _ROW),
    sa.Column("position", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
    _text("code"),
    _text("severity"),
    _text("seen"),
    _of_outcome(),
    sa.Index("findings_by_code", "code"),
)

measurements = sa.Table(
    "measurements",
    metadata,
    *(_key(name) for name in _ROW),
    _key("name"),  # "latency_ms.p50"
    _real("value", nullable=True),  # null: not a finite number
    _of_outcome(),
)

releases = sa.Table(
    "releases",
    metadata,
    _key("id"),
    _text("model"),
    _text("kind"),
    _json("manifest"),
    _text("artifact"),
    _json("blobs"),
    _text("runtime_key"),
    _json("runtime_blob", nullable=True),
    _integer("runtime_size"),
    _text("recipe"),
    _flag("special"),
    _json("sealed", nullable=True),
    _real("kept_at"),
    sa.Column("version", Words(), nullable=False, server_default=""),  # for people
    _json("golden_power", nullable=True),  # for people
)

rollout_releases = sa.Table(
    "rollout_releases",
    metadata,
    _key("rollout"),
    _key("release"),
    _of_rollout(),
    sa.Index("rollout_releases_by_release", "release"),
)

devices = sa.Table(
    "devices",
    metadata,
    _key("device"),
    _json("facts"),
    _text("fingerprint"),
    _real("seen_at"),
    _text("host_key"),  # its fingerprint, "" where it was not recorded
)

device_history = sa.Table(
    "device_history",
    metadata,
    _key("device"),
    _key("history"),
    sa.Column("number", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
    _real("at"),
    _text("kind"),
    _text("model"),
    _text("release"),
    _json("entry"),
    _real("taken_at"),
    sa.Index("device_history_by_time", "taken_at", "number"),
)

device_services = sa.Table(
    "device_services",
    metadata,
    _key("device"),
    _text("history"),
    _integer("number"),
    _json("status"),
    _real("seen_at"),
)

confirmed = sa.Table(
    "confirmed",
    metadata,
    _key("device"),
    _key("model"),
    _text("release"),
    _text("artifact"),
    _text("runtime"),
    _text("fingerprint"),
    _text("rollout"),  # no foreign key: this outlives the rollout
    _real("at"),
    _json("measurements"),
)

identities = sa.Table("identities", metadata, _key("fleet"), _text("state"), _integer("number"), _json("past"))

numbers = sa.Table("numbers", metadata, _key("fleet"), _key("model"), _integer("number"))

holds = sa.Table(
    "holds",
    metadata,
    _key("fleet"),
    _integer("token"),
    _flag("held"),  # a row stays when its fleet is free: the token never goes back
    _text("owner_user"),
    _text("owner_host"),
    _integer("owner_pid"),
    _text("owner_boot_id"),
    _text("owner_started"),
    _real("renewed_at"),
    _real("ttl_s"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger(), primary_key=True, nullable=False, autoincrement=False),
    _real("at"),
    _text("who"),
    _text("action"),
    _json("what"),
    _text("previous"),
    _text("hash"),
)

# What receivers are to be told.  No foreign key to the rollout: a notice outlives it.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("seq", _GROWING, primary_key=True, autoincrement=True),
    sa.Column("id", Words(), nullable=False, unique=True),
    _real("at"),
    _text("fleet"),
    _text("receiver"),
    _text("event"),
    _text("rollout"),  # "" where it is about none
    _json("content"),
    _text("state"),  # waiting, delivered, dead
    _integer("attempts"),
    _real("next_at"),
    _real("claimed_until"),  # a process delivers it until then
    _text("error"),  # of the latest attempt
    sa.Index("notices_by_state", "fleet", "receiver", "state", "seq"),
)
