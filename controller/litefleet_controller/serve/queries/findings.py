"""Which devices have which finding in their latest rollout."""

from __future__ import annotations

import sqlalchemy as sa

from ...state import State
from ...state.tables import findings, latest_rows


def devices_with_codes(state: State, fleet: str) -> dict[str, int]:
    """Return how many devices have each finding in their latest rollout.  Raises: StateError."""
    f, last = findings.c, latest_rows.c
    same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
    counted = (
        sa.select(f.code, sa.func.count(f.device.distinct()))
        .join(latest_rows, same)
        .where(last.fleet == fleet)
        .group_by(f.code)
    )
    with state.reading() as connection:
        return {code: count for code, count in connection.execute(counted)}


def devices_with(state: State, fleet: str, code: str, most: int = 100) -> tuple[tuple[str, str, str], ...]:
    """Return (device, model, sentence) of the devices whose latest rollout has a finding.  Raises: StateError."""
    f, last = findings.c, latest_rows.c
    same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
    chosen = (
        sa.select(f.device, f.model, f.seen)
        .join(latest_rows, same)
        .where(f.code == code, last.fleet == fleet)
        .order_by(f.device, f.model)
        .limit(most)
    )
    with state.reading() as connection:
        return tuple((device, model, seen) for device, model, seen in connection.execute(chosen))
