"""Statements for many rows at once: compiled once for a database, and given to its driver without further work on each row.

SQLAlchemy prepares each row of each execution anew, which takes most of the time of a rollout's transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

_Processor = Callable[[Any], Any]


class _Compiled(NamedTuple):
    """A statement as a driver takes it; `values` are its parameters, each with what makes the driver's value of ours."""

    sql: str
    values: tuple[tuple[str, _Processor | None], ...]
    by_place: bool


class BulkStatement:
    """An insert, update or delete that is executed for many rows; all its values are columns or parameters, by name."""

    def __init__(self, statement: sa.Insert | sa.Update | sa.Delete) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, tuple[str, ...]], _Compiled] = {}

    def run(self, connection: sa.Connection, rows: Sequence[Mapping[str, object]]) -> int:
        """Execute it for at least one row, all with the names of the first one; return how many stored rows it changed."""
        dialect = connection.dialect
        key = dialect.name, tuple(rows[0])
        made = self._compiled.get(key)
        if made is None:
            made = self._compiled[key] = _compile(self._statement, dialect, key[1])
        values = made.values
        if made.by_place:
            given: Any = [tuple([p(row[n]) if p else row[n] for n, p in values]) for row in rows]
        else:
            given = [{n: p(row[n]) if p else row[n] for n, p in values} for row in rows]
        return int(connection.exec_driver_sql(made.sql, given).rowcount)


def _compile(statement: sa.Insert | sa.Update | sa.Delete, dialect: Dialect, names: tuple[str, ...]) -> _Compiled:
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(names), for_executemany=True)
    by_place = bool(compiled.positional)
    values = []
    for name in compiled.positiontup if by_place else compiled.binds:
        processor = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
        values.append((name, processor))
    return _Compiled(str(compiled), tuple(values), by_place)
