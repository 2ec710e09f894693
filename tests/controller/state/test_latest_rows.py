"""The latest row of each device and model: what lists of devices are read through."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from litefleet_controller.rollout import DeviceState
from litefleet_controller.state import State, this_process
from litefleet_controller.state.database import SCRIPTS, Database
from litefleet_controller.state.tables import latest_rows

from tests.controller.support.state_values import ELSEWHERE, rollout, rows, sql


def _latest(state: State) -> dict[tuple[str, str], str]:
    with state.reading() as connection:
        found = connection.execute(sa.select(latest_rows))
        return {(row.device, row.model): row.rollout for row in found}


def test_the_latest_rollout_with_a_row_counts(state: State) -> None:
    lock = state.acquire("lab", ELSEWHERE)
    first = state.create(lock, rollout(), rows(3), [], {})
    second = state.create(lock, rollout(), rows(1), [], {})
    found = _latest(state)
    one, *others = sorted(found)
    assert found[one] == second.id
    assert {found[key] for key in others} == {first.id}
    assert found == {key: last.rollout for key, last in state.last_rows("lab").items()}


def test_a_row_that_joins_an_older_rollout_does_not_count(state: State) -> None:
    lock = state.acquire("lab", ELSEWHERE)
    first = state.create(lock, rollout(), rows(1), [], {})
    second = state.create(lock, rollout(), rows(3), [], {})
    late = dataclasses.replace(rows(3)[2], state=DeviceState.PENDING)
    state.advance(lock, first, None, first, joined=[late])
    assert set(_latest(state).values()) == {second.id}


def test_renamed_devices_keep_their_latest_row(state: State) -> None:
    lock = state.acquire("lab", this_process())
    made = state.create(lock, rollout(), rows(1), [], {})
    ((old, model),) = _latest(state)
    state.rename(lock, {old: "new-name"}, "me")
    assert _latest(state) == {("new-name", model): made.id}


def test_a_database_of_the_schema_before_gets_them(new_schema: Callable[[], str], tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("v000[567]*"))
    for where in (str(tmp_path / "state.db"), new_schema()):
        state = State.open(where, lambda: 1.0)
        lock = state.acquire("lab", ELSEWHERE)
        state.create(lock, rollout(), rows(3), [], {})
        state.create(lock, rollout(), rows(2), [], {})
        expected = _latest(state)
        state.close()
        sql(where, "ALTER TABLE releases DROP COLUMN golden_power")
        sql(where, "DROP TABLE notices")
        sql(where, "DROP TABLE latest_rows")
        sql(where, "UPDATE litefleet_version SET version_num = '0004'")
        Database.open(where, tmp_path / "scripts", "0004").close()
        now = State.open(where)
        assert _latest(now) == expected
        assert len(set(expected.values())) == 2
        now.close()
