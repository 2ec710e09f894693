"""Opening a database: made, brought up to date, refused; and that what was committed outlives a kill."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from litefleet_controller.state import State, StateError
from litefleet_controller.state.database import SCRIPTS, Database
from litefleet_controller.state.schema import HEAD, VERSION_TABLE
from litefleet_controller.state.tables import metadata

from tests.controller.state.test_fleet_lock import PATHS
from tests.controller.support.state_values import ELSEWHERE, Clock, rollout, rows, sql, started

NEXT = f"""
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "{HEAD}"
def upgrade():
    op.add_column("devices", sa.Column("place", sa.Text(), nullable=False, server_default="shelf"))
"""
WRITER = """
import dataclasses, itertools, sys
from litefleet_controller.rollout import DeviceEvent, DeviceState
from litefleet_controller.state import State, this_process
from tests.controller.support.state_values import change, rollout, rows
state = State.open(sys.argv[1])
hold = state.acquire("lab", this_process())
made = state.create(hold, rollout(), rows(1), [], {})
row = rows(1)[0]
print(made.id, flush=True)
for n in itertools.count(1):
    for event in (DeviceEvent.BEGIN, DeviceEvent.LOSE):
        moved = change(row, event, attempts=n)
        state.move(hold, made.id, [moved])
        row = moved.after
    print(n, flush=True)
"""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The migrations with one more, as a later litefleet has them."""
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    (scripts / "versions" / "v9999_next.py").write_text(NEXT)
    return scripts


def test_the_migrations_make_the_tables(where: str) -> None:
    database = Database.open(where)
    with database.read() as connection:
        ours = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(ours, metadata) == []
        assert set(sa.inspect(connection).get_table_names()) == {*metadata.tables, VERSION_TABLE}
    database.close()


def test_an_older_database_is_brought_up_to_date_with_its_content(where: str, newer: Path, clock: Clock) -> None:
    state = State.open(where, clock)
    lock, made, given = started(state)
    state.close()
    for _ in range(2):  # the second time there is nothing to do
        later = State(Database.open(where, newer, "9999"), clock)
        assert (later.rollout(made.id), later.rows(made.id)) == (made, tuple(given))
        later.renew(lock)
        later.close()
    assert [column for (column,) in sql(where, f"SELECT version_num FROM {VERSION_TABLE}")] == ["9999"]
    with pytest.raises(StateError, match=f"newer litefleet .its schema is 9999, this one knows {HEAD}"):
        State.open(where)
    assert sql(where, "SELECT count(*) FROM rollout_rows")[0][0] == 3


def test_a_migration_that_fails_leaves_the_database_as_it_was(where: str, newer: Path, clock: Clock) -> None:
    state = State.open(where, clock)
    lock, made, _ = started(state)
    state.close()
    with (newer / "versions" / "v9999_next.py").open("a") as script:
        script.write("    op.execute('SELECT * FROM nothing_of_this_name')\n")
    with pytest.raises(StateError, match="nothing was written"):
        Database.open(where, newer, "9999")
    again = State.open(where, clock)
    again.renew(lock)
    assert again.rollout(made.id) == made
    again.close()


def test_tables_of_something_else_are_left_alone(where: str) -> None:
    if "://" not in where:
        Path(where).parent.mkdir()
    sql(where, "CREATE TABLE devices (x int)")
    with pytest.raises(StateError, match=r"not litefleet's \(devices\)"):
        State.open(where)


def test_several_may_open_and_read_while_one_writes(where: str, clock: Clock) -> None:
    state = State.open(where, clock)
    other = State.open(where, clock)
    writing = state._database.write()
    with writing as connection:
        connection.execute(sa.text("INSERT INTO numbers VALUES ('lab', 'cls', 1)"))
        assert other.rollouts("lab") == ()
        third = State.open(where, clock)
        assert third.known() == {}
        third.close()
    lock, made, given = started(state)
    assert other.rows(made.id) == tuple(given)
    assert other.requested_action(made.id) == ""
    other.ask(made.id, "abort", "bob@desk")
    assert state.requested_action(made.id) == "abort"
    state.release(lock)
    state.close()
    other.close()


def test_what_was_committed_outlives_a_kill(where: str) -> None:
    argv = [sys.executable, "-c", WRITER, where]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": PATHS}) as writer:
        assert writer.stdout is not None
        name = writer.stdout.readline().strip()
        for _ in range(25):
            writer.stdout.readline()
        writer.kill()
        printed = [int(line) for line in writer.stdout if line.endswith("\n")]
    last = printed[-1] if printed else 25
    state = State.open(where)
    (row,) = state.rows(name)
    assert row.attempts >= last >= 25
    assert len(state.history(name, limit=10**6)) >= 2 * last
    assert state.check_audit() == ""
    state.close()


class TestSqlite:
    def test_the_file_is_for_its_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "state.db"
        state = State.open(path)
        state.log("u@h", "x", {})
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        state.close()
        assert [file.name for file in path.parent.iterdir()] == ["state.db"]

    def test_it_syncs_every_commit_and_keeps_foreign_keys(self, tmp_path: Path) -> None:
        database = Database.open(tmp_path / "state.db")
        with database.read() as connection:
            pragmas = {
                name: connection.execute(sa.text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}
        database.close()

    def test_a_url_names_the_same_file_as_a_path(self, tmp_path: Path) -> None:
        state = State.open(f"sqlite:///{tmp_path}/state.db")
        state.log("u@h", "x", {})
        state.close()
        assert State.open(tmp_path / "state.db").audit()[0].who == "u@h"

    def test_what_is_no_database_is_refused_and_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("these are my notes\n" * 100)
        with pytest.raises(StateError, match="is no SQLite database"):
            State.open(path)
        assert path.read_text() == "these are my notes\n" * 100
        assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
        with pytest.raises(StateError, match="the path names something else"):
            State.open(tmp_path)
        with pytest.raises(StateError, match="cannot be made"):
            State.open(path / "below" / "state.db")

    def test_a_damaged_file_is_a_sentence(self, tmp_path: Path) -> None:
        path = tmp_path / "state.db"
        state = State.open(path)
        lock = state.acquire("lab", ELSEWHERE)
        made = state.create(lock, rollout(), rows(500), [], {})
        state.close()
        with path.open("r+b") as file:
            for page in range(2, path.stat().st_size // 4096):
                file.seek(page * 4096)
                file.write(os.urandom(4096))
        with pytest.raises(StateError, match="is damaged"):
            State.open(path).rows(made.id)

    def test_a_full_disk_is_a_sentence_and_nothing_is_written(self, tmp_path: Path) -> None:
        code = (
            "import sys, resource, signal\n"
            "from litefleet_controller.state import State, StateError, this_process\n"
            "from tests.controller.support.state_values import rollout, rows\n"
            "state = State.open(sys.argv[1])\n"
            "hold = state.acquire('lab', this_process())\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
            "try:\n"
            "    state.create(hold, rollout(), rows(4_000), [], {})\n"
            "except StateError as error:\n"
            "    print(error)\n"
            "print(len(state.rollouts('lab')))\n"
        )
        argv = [sys.executable, "-c", code, str(tmp_path / "state.db")]
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PATHS}, check=True)
        sentence, left = done.stdout.splitlines()
        assert left == "0"
        assert sentence.startswith(f"the state database {tmp_path}/state.db ")
        assert "disk" in sentence


class TestUrls:
    def test_what_is_not_supported_is_said(self) -> None:
        with pytest.raises(StateError, match="mysql://, which is not supported"):
            State.open("mysql://u:geheim@h/d")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://ann:geheim@127.0.0.1:1/fleet",
            "postgres://ann@127.0.0.1:1/fleet?password=geheim",
            "postgresql://ann:geheim@127.0.0.1:port/fleet",
            "postgresql://geheim:geheim@/fleet?host=/nowhere/geheim",
        ],
    )
    def test_no_server_is_a_sentence_without_the_password(self, url: str) -> None:
        with pytest.raises(StateError) as caught:
            State.open(url)
        assert "`state`" in str(caught.value)
        assert "geheim" not in str(caught.value).replace("/nowhere/geheim", "")

    def test_without_the_driver_the_remedy_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(StateError, match=r"pip install 'litefleet\[postgres\]'"):
            State.open("postgresql://h/d")

    def test_a_database_that_is_not_there_is_a_sentence(self, postgres_server: str) -> None:
        with pytest.raises(StateError, match=r"the state database nowhere at .* does not exist on its server"):
            State.open(postgres_server.replace("/postgres?", "/nowhere?"))

    def test_a_server_that_only_reads_is_a_sentence(self, new_schema: Callable[[], str]) -> None:
        url = new_schema()
        State.open(url).close()
        state = State.open(url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20"))
        with pytest.raises(StateError, match="cannot be written"):
            state.log("u@h", "x", {})
        state.close()

    def test_a_connection_that_broke_is_made_anew(self, new_schema: Callable[[], str], postgres_server: str) -> None:
        state = State.open(new_schema())
        state.log("u@h", "before", {})
        with psycopg.connect(postgres_server, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'litefleet'"
            )
        state.log("u@h", "after", {})
        assert [entry.action for entry in state.audit()] == ["before", "after"]
        state.close()
