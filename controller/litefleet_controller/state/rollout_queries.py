"""Reads rollouts, their rows and outcomes, and the versions of releases."""

from __future__ import annotations

import json
from collections.abc import Collection

from ..common.checked import mapping
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, DeviceState, Rollout
from .model import Confirmed
from .query import Query, Select
from .records import CONFIRMED_COLUMNS, ROLLOUT_COLUMNS, ROW_COLUMNS, confirmed_from, rollout_from, row_from

IN_ORDER = "r.wave, r.position, r.device, r.model"  # of the rows `r` of a rollout
ROW_OF_OUTCOME = "r.rollout = o.rollout AND r.device = o.device AND r.model = o.model"
_JSON_OF_ROLLOUT = ("policy", "waves", "models", "behind", "origin")
_ROLLOUT = Select(f"SELECT {ROLLOUT_COLUMNS} FROM rollouts WHERE id = :rollout", _JSON_OF_ROLLOUT)
_LATEST = Select(
    f"SELECT {ROLLOUT_COLUMNS} FROM rollouts WHERE fleet = :fleet ORDER BY ordinal DESC LIMIT :most", _JSON_OF_ROLLOUT
)
# Conditions and an order may follow it.
ROWS_OF = f"SELECT {ROW_COLUMNS} FROM rollout_rows AS r WHERE r.rollout = :rollout"
ROW_JSON, ROW_FLAGS = ("codes",), ("regressed", "forgiven")
_ROWS = Select(f"{ROWS_OF} ORDER BY {IN_ORDER}", ROW_JSON, ROW_FLAGS)
_OUTCOMES = Select(
    f"SELECT o.device, o.outcome FROM outcomes AS o JOIN rollout_rows AS r ON {ROW_OF_OUTCOME} "
    f"WHERE o.rollout = :rollout ORDER BY {IN_ORDER}"
)
_RUNS_FAILED = Select(
    f"SELECT {CONFIRMED_COLUMNS} FROM confirmed AS c JOIN rollout_rows AS r ON r.rollout = c.rollout "
    "AND r.device = c.device AND r.model = c.model AND r.release = c.release "
    "WHERE r.rollout = :rollout AND r.state = :failed AND NOT r.forgiven",
    json=("measurements",),
)
_VERSIONS = Select("SELECT id, version FROM releases WHERE version <> ''")


def one(query: Query, rollout_id: str) -> Rollout | None:
    """Return one rollout."""
    stored = query.first(_ROLLOUT, rollout=rollout_id)
    return rollout_from(stored) if stored is not None else None


def latest(query: Query, fleet: str, limit: int) -> tuple[Rollout, ...]:
    """Return a fleet's rollouts, the newest first."""
    return tuple(map(rollout_from, query.all(_LATEST, fleet=fleet, most=limit)))


def rows_of(query: Query, rollout_id: str) -> tuple[DeviceRow, ...]:
    """Return a rollout's rows in the order of wave and position."""
    return tuple(map(row_from, query.all(_ROWS, rollout=rollout_id)))


def outcomes_of(query: Query, rollout_id: str, chosen: Collection[str] | None = None) -> tuple[DeviceOutcome, ...]:
    """Return the last outcomes in the rows' order; of the chosen devices, or of all."""
    found = query.all(_OUTCOMES, rollout=rollout_id)
    texts = (text for device, text in found if chosen is None or device in chosen)
    return tuple(DeviceOutcome.from_dict(mapping(json.loads(text), "a stored outcome")) for text in texts)


def runs_failed(query: Query, rollout_id: str) -> tuple[Confirmed, ...]:
    """Return what was confirmed by a rollout on devices that count as failed in it, where that is its release."""
    found = query.all(_RUNS_FAILED, rollout=rollout_id, failed=DeviceState.FAILED.value)
    return tuple(map(confirmed_from, found))


def all_versions(query: Query) -> dict[str, str]:
    """Return the version of every stored release, by its id."""
    return dict(query.all(_VERSIONS))
