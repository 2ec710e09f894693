"""Versions of releases: named, or made of the day and a hash; one for all kinds of device; old databases get them too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from litefleet_controller.state import State
from litefleet_controller.state.database import SCRIPTS, Database

from tests.controller.support.state_values import ELSEWHERE, release, sql

_RECIPE = "3fa9c1d2" + "0" * 56
_OTHER = "77777777" + "0" * 56


def test_the_releases_of_one_recipe_have_one_version(state: State) -> None:
    hold = state.acquire("lab", ELSEWHERE)
    state.store_releases(hold, [release("r1", recipe=_RECIPE, kind="x86_64 cp311")])
    state.store_releases(hold, [release("r2", recipe=_RECIPE, kind="aarch64 cp38"), release("r3", recipe=_OTHER)])
    day = "2026-11-18"  # of the tests' clock
    assert state.versions() == {"r1": f"{day}-3fa9c1", "r2": f"{day}-3fa9c1", "r3": f"{day}-777777"}
    planned = state.versions_with([release("r4", recipe=_RECIPE), release("r5", recipe="ab" * 32, version="2.1")])
    assert (planned["r4"], planned["r5"]) == (f"{day}-3fa9c1", "2.1")
    assert "r4" not in state.versions()
    stored = state.stored_release("r2")
    assert stored is not None
    assert stored.version == f"{day}-3fa9c1"


def test_a_named_version_is_of_one_recipe(state: State) -> None:
    hold = state.acquire("lab", ELSEWHERE)
    state.store_releases(hold, [release("r1", recipe=_RECIPE, version="2.1")])
    state.store_releases(hold, [release("r2", recipe=_OTHER, version="2.1")])
    assert state.versions() == {"r1": "2.1", "r2": "2.1+777777"}
    state.name_versions(hold, [release("r2", recipe=_OTHER, version="2.2")])
    assert state.versions() == {"r1": "2.1", "r2": "2.2"}
    state.name_versions(hold, [release("r2", recipe=_OTHER)])  # litefleet.yaml no longer names one
    assert state.versions()["r2"] == "2.2"


def test_releases_of_an_older_database_get_the_day_of_their_first(
    new_schema: Callable[[], str], tmp_path: Path
) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("v000[4567]*"))
    for where in (str(tmp_path / "state.db"), new_schema()):
        State(Database.open(where, tmp_path / "scripts", "0003"), lambda: 1.0).close()
        for name, at in (("r1", 86400.0), ("r2", 5 * 86400.0)):
            sql(
                where,
                "INSERT INTO releases (id, model, kind, manifest, artifact, blobs, runtime_key, runtime_size, recipe, special,"
                f" kept_at) VALUES ('{name}', 'cls', 'x', '{{}}', 'ff', '{{}}', 'system', 0, '{_RECIPE}', false, {at})",
            )
        now = State.open(where)
        assert now.versions() == {"r1": "1970-01-02-3fa9c1", "r2": "1970-01-02-3fa9c1"}
        now.close()
