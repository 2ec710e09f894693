"""Queries as SQL text with named parameters, for SQLite's own driver as for any connection of SQLAlchemy.

What `status` reads is read so: to import SQLAlchemy takes a third of its CPU time.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

Row = Sequence[Any]


class Select(NamedTuple):
    """A query that SQLite and PostgreSQL both understand; `:name` in it is a parameter."""

    sql: str
    json: tuple[str, ...] = ()  # result columns that hold JSON
    flags: tuple[str, ...] = ()  # result columns that are true or false, which SQLite returns as 1 and 0


class Query(ABC):
    """Reads in one transaction."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect  # "sqlite" or "postgresql"

    @abstractmethod
    def _fetch(self, sql: str, values: Mapping[str, object]) -> tuple[tuple[str, ...], Sequence[Row]]:
        """Return the names of the result's columns, and its rows."""

    def all(self, select: Select, **values: object) -> list[Any]:
        """Return the rows of a result, with the columns as attributes and in their order."""
        names, found = self._fetch(select.sql, values)
        row, parsed, flags = _reading(select, names)
        return [row._make(_with_values(one, parsed, flags)) for one in found]

    def first(self, select: Select, **values: object) -> Any:
        """Return the first row of a result, None where it is empty."""
        found = self.all(select, **values)
        return found[0] if found else None


def _with_values(row: Row, parsed: Sequence[int], flags: Sequence[int]) -> Row:
    values = list(row)
    for place in parsed:
        if values[place] is not None:
            values[place] = json.loads(values[place])
    for place in flags:
        values[place] = bool(values[place])
    return values


@lru_cache(maxsize=100)
def _reading(select: Select, names: tuple[str, ...]) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Return the type of a result's rows, and the places of JSON and of truth values in them."""
    return namedtuple("Found", names), tuple(map(names.index, select.json)), tuple(map(names.index, select.flags))
