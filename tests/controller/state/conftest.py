"""The databases that the state is tested on: a new SQLite file, or a new schema in a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from litefleet_controller.state import State

from tests import postgres
from tests.controller.support.state_values import Clock

_COUNTER = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that runs for this test process."""
    with postgres.running() as url:
        yield url


@pytest.fixture(scope="session")
def new_schema(postgres_server: str) -> Callable[[], str]:
    """Return a maker of URLs, each of an empty schema."""

    def make() -> str:
        name = f"s{next(_COUNTER)}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{postgres_server}&options={quote(f'-csearch_path={name}')}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind: what `State.open` takes."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "state.db")
    url: str = request.getfixturevalue("new_schema")()
    return url


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until it is told to go on."""
    return Clock()


@pytest.fixture
def state(where: str, clock: Clock) -> Iterator[State]:
    """A state in an empty database of each kind."""
    opened = State.open(where, clock)
    yield opened
    opened.close()
