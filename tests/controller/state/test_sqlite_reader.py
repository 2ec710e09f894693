"""A state in an SQLite file is read without SQLAlchemy as with it: the same rollouts, the same sentences about what is wrong."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.devices.release import Release
from litefleet_controller.rollout import DeviceEvent
from litefleet_controller.state import (
    State,
    StateDamaged,
    StateError,
    StateReader,
    brief,
    identity,
    open_reader,
    owners,
    rollout_queries,
)
from litefleet_controller.state.query import Select
from litefleet_controller.state.records import _RELEASE_FIELDS, ROW_COLUMNS
from litefleet_controller.state.sqlite_reader import SqliteReader
from litefleet_controller.state.tables import Json, metadata, releases, rollout_rows

from tests.controller.support.state_values import ELSEWHERE, change, failed, release, rollout, rows, staged


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A state with a rollout: one device failed, one runs its release, one is pending; its fleet is held."""
    path = tmp_path / "a folder, 100% #1?" / "state.db"
    state = State.open(path, beside=None)
    lock = state.acquire("lab", ELSEWHERE, 1e12)
    made = state.create(lock, rollout(), rows(3), [release("r1")], {})
    state.move(lock, made.id, [change(row, DeviceEvent.BEGIN) for row in rows(3)[:2]])
    state.move(lock, made.id, [failed(staged(rows(3)[0]), "output 0"), change(staged(rows(3)[1]), DeviceEvent.SAME)])
    state.close()
    return path


def told(state: StateReader) -> dict[str, object]:
    one = state.rollouts("lab")[0]
    return {
        "rollout": state.rollout(one.id),
        "latest": state.rollouts("lab", 1),
        "none": state.rollout("r-none"),
        "rows": state.rows(one.id),
        "outcomes": state.outcomes(one.id),
        "of one": state.outcomes(one.id, {"d1"}),
        "brief": state.in_brief(one.id),
        "failed": state.runs_failed(one.id),
        "versions": state.versions(),
        "holder": state.holder("lab"),
        "identity": state.identity("lab"),
        "behind": state.behind("lab"),
    }


def test_it_reads_what_the_state_reads(file: Path) -> None:
    reader, state = open_reader(file), State.open(file)
    assert isinstance(reader, SqliteReader)
    found = told(reader)
    assert found == told(state)
    kept = reader.rows(reader.rollouts("lab")[0].id)
    assert [type(row.forgiven) for row in kept] == [bool] * 3
    assert [bool(row.codes) for row in kept] == [True, False, False]
    assert found["versions"]
    assert found["holder"] == ELSEWHERE
    assert found["identity"] != identity.Identity("lab")
    state.close()
    reader.close()


def test_a_state_older_than_the_file_beside_it_is_told(file: Path) -> None:
    file.with_name("state.db.id").write_text(
        '{"schema": 1, "fleets": {"lab": {"state": "another", "number": 7, "audit": [3, "x"], "at": 1}}}'
    )
    reader, state = open_reader(file), State.open(file)
    assert "is older than state.db.id" in reader.behind("lab")
    assert reader.behind("lab") == state.behind("lab")
    state.close()
    reader.close()


def missing(file: Path) -> None:
    file.unlink()


def older(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE litefleet_version SET version_num = '0006'")


def newer(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE litefleet_version SET version_num = '9999'")


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE rollouts (id TEXT)")


def damaged(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def without_wal(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


@pytest.mark.parametrize("spoil", [missing, older, newer, foreign, damaged, empty, without_wal])
def test_whatever_is_not_ready_to_be_read_is_left_to_the_state(file: Path, spoil: Callable[[Path], None]) -> None:
    spoil(file)
    before = file.read_bytes() if file.exists() else None
    assert SqliteReader.of_this_schema(file) is None
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("spoil", [newer, foreign, damaged])
def test_the_sentence_about_a_file_is_the_same(file: Path, spoil: Callable[[Path], None]) -> None:
    spoil(file)
    with pytest.raises(StateError) as by_state:
        State.open(file)
    with pytest.raises(StateError) as by_reader:
        open_reader(file)
    assert str(by_reader.value) == str(by_state.value)


def test_a_file_that_was_emptied_is_damaged(file: Path) -> None:
    state = State.open(file)
    state.release(state.acquire("other", ELSEWHERE, 1.0))
    state.close()
    empty(file)
    with pytest.raises(StateDamaged, match="is empty"):
        open_reader(file)


def test_a_missing_file_is_made(tmp_path: Path) -> None:
    reader = open_reader(tmp_path / "state.db")
    assert reader.rollouts("lab") == ()
    reader.close()
    again = open_reader(tmp_path / "state.db")
    assert isinstance(again, SqliteReader)
    again.close()


def test_what_cannot_be_read_later_is_a_sentence_too(file: Path) -> None:
    reader, state = open_reader(file), State.open(file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE rollouts SET policy = '{'")
    said = []
    for one in (reader, state):
        with pytest.raises(StateError, match="was it changed by hand") as raised:
            one.rollouts("lab")
        said.append(str(raised.value))
    assert said[0] == said[1]
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE outcomes")
    with pytest.raises(StateError, match="rejected a statement") as raised:
        reader.outcomes("r")
    assert "no such table: outcomes" in str(raised.value)
    assert reader.versions()  # the failed transaction is over
    state.close()
    reader.close()


def test_it_keeps_nobody_from_writing(file: Path) -> None:
    reader, state = open_reader(file), State.open(file)
    count = Select("SELECT count(*) AS n FROM audit")
    with reader.query() as query:
        before = query.first(count).n
        state.log("someone", "test", {})
        assert query.first(count).n == before  # one transaction
    with reader.query() as query:
        assert query.first(count).n == before + 1
    state.close()
    reader.close()


def test_columns_are_read_as_the_tables_declare_them() -> None:
    assert ROW_COLUMNS.replace("r.", "").split(", ") == list(rollout_rows.c.keys())
    assert set(_RELEASE_FIELDS) == {f.name for f in dataclasses.fields(Release)} & set(releases.c.keys())
    selects = [s for m in (brief, identity, owners, rollout_queries) for s in vars(m).values() if isinstance(s, Select)]
    selects += [s for dialect in ("sqlite", "postgresql") for s in brief._of_outcomes(dialect)]
    json_columns = {c.name for t in metadata.tables.values() for c in t.c if isinstance(c.type, Json)}
    assert len(selects) > 10
    for select in selects:
        assert set(select.json) <= json_columns
