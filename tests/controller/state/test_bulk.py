"""Statements for many rows at once, on both databases: the same values as by SQLAlchemy, and counts that can be relied on."""

from __future__ import annotations

import sqlalchemy as sa
from litefleet_controller.state.bulk import BulkStatement
from litefleet_controller.state.database import Database
from litefleet_controller.state.tables import confirmed

_INSERT = BulkStatement(sa.insert(confirmed))
_UPDATE = BulkStatement(
    sa.update(confirmed).where(
        confirmed.c.device == sa.bindparam("at_device"), confirmed.c.release == sa.bindparam("at_release")
    )
)
_DELETE = BulkStatement(sa.delete(confirmed).where(confirmed.c.device == sa.bindparam("at_device")))


def row(device: str, **more: object) -> dict[str, object]:
    given = {
        "model": "100% m",
        "release": "r",
        "artifact": "",
        "runtime": "",
        "fingerprint": "",
        "rollout": "",
        "at": 1.5,
    }
    return {"device": device, **given, "measurements": {"ms": 2.5, "said": "\ud800\0"}, **more}


def test_rows_are_stored_as_by_sqlalchemy(where: str) -> None:
    database = Database.open(where)
    with database.write() as connection:
        assert _INSERT.run(connection, [row("a"), row("b\0\ud800"), row("c", release="other")]) == 3
        connection.execute(sa.insert(confirmed), [row("d"), row("e\0\ud800")])
    with database.read() as connection:
        stored = {one.device: one for one in connection.execute(sa.select(confirmed))}
    assert sorted(stored) == ["a", "b\ufffd\ufffd", "c", "d", "e\ufffd\ufffd"]
    assert stored["a"][1:] == stored["d"][1:]
    assert stored["a"].model == "100% m"
    database.close()


def test_only_rows_that_fit_count_as_changed(where: str) -> None:
    database, fits = Database.open(where), {"at_release": "r"}
    with database.write() as connection:
        _INSERT.run(connection, [row("a"), row("b"), row("c", release="other")])
        assert _UPDATE.run(connection, [{**fits, "at_device": "a", "runtime": "x"}]) == 1
        changes: list[dict[str, object]] = [
            {**fits, "at_device": name, "runtime": "y"} for name in ("a", "b", "c", "none")
        ]
        assert _UPDATE.run(connection, changes) == 2
        assert _UPDATE.run(connection, [{**fits, "at_device": "b", "fingerprint": "z"}]) == 1
        assert _DELETE.run(connection, [{"at_device": "a"}, {"at_device": "none"}]) == 1
    with database.read() as connection:
        chosen = sa.select(confirmed.c.device, confirmed.c.runtime, confirmed.c.fingerprint)
        assert sorted(connection.execute(chosen).all()) == [("b", "y", "z"), ("c", "", "")]
    database.close()
