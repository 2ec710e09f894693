"""The drift check: whatever of a running release is changed by hand is named, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from litefleet_agent.facts import Facts, fingerprint
from litefleet_agent.releases import activation as switch
from litefleet_agent.releases.integrity import ModelCheck, check_models
from litefleet_agent.releases.store import Store

from tests.agent.releases.test_garbage import put, release

FACTS = Facts(machine="x86_64", arch="x86_64")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    return opened


@pytest.fixture
def running(store: Store) -> str:
    identity = release(store, "cls", 1, key="r1")
    store.record_verification(identity, fingerprint(FACTS), at=1)
    switch.activate(store, identity)
    return identity


def codes(store: Store, deep: bool = False, facts: Facts = FACTS) -> list:
    return [f.code for f in check_models(store, facts, deep)["cls"].findings]


def seen(store: Store, deep: bool = False) -> str:
    return " ".join(f.observed for f in check_models(store, FACTS, deep)["cls"].findings)


def test_what_is_as_it_was_is_quiet(store: Store, running: str) -> None:
    for deep in (False, True):
        assert check_models(store, FACTS, deep) == {"cls": ModelCheck(running, [])}
    assert check_models(Store(store.path("empty")), FACTS, True) == {}


def test_a_file_that_is_gone_or_changed(store: Store, running: str) -> None:
    nb = store.release(running).nb
    path = Path(store.blob(nb))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"y")  # one byte, same size
    assert codes(store) == []
    assert codes(store, deep=True) == ["LF602"]
    assert f"{nb[:12]} changed" in seen(store, deep=True)
    path.unlink()
    assert codes(store) == ["LF602"]
    assert f"{nb[:12]} missing" in seen(store)


def test_a_runtime_that_is_gone_or_changed(store: Store, running: str) -> None:
    path = Path(store.path("runtimes", "r1", "paddlelite", "__init__.py"))
    data = path.read_bytes()
    path.write_bytes(b"R" + data[1:])
    assert codes(store) == []
    assert codes(store, deep=True) == ["LF603"]
    path.write_bytes(data + b"\n")
    assert codes(store) == ["LF603"]
    assert "paddlelite/__init__.py changed" in seen(store)
    path.unlink()
    assert "paddlelite/__init__.py missing" in seen(store)
    path.symlink_to("/etc/hostname")
    assert "paddlelite/__init__.py changed" in seen(store)
    shutil.rmtree(store.path("runtimes", "r1"))
    assert codes(store) == ["LF603"]


def test_a_runtime_of_an_older_agent_has_no_list(store: Store, running: str) -> None:
    os.unlink(store.path("runtimes", "r1.files.json"))
    shutil.rmtree(store.path("runtimes", "r1", "paddlelite"))
    assert codes(store, deep=True) == []
    Path(store.path("runtimes", "r1.files.json")).write_text("[")
    assert codes(store, deep=True) == []


def test_many_files_are_one_short_sentence(store: Store, running: str) -> None:
    files = {f"lib/{n}.so": [1, "0" * 64] for n in range(500)}
    store.write_json("runtimes", "r1.files", files)
    assert "and 495 more missing" in seen(store)
    assert len(seen(store)) < 300


def test_a_manifest_that_is_gone_or_changed(store: Store, running: str) -> None:
    path = Path(store.path("releases", running + ".json"))
    path.write_text(path.read_text().replace("cls", "clx"))
    assert codes(store) == ["LF601"]
    path.unlink()
    assert codes(store) == ["LF601"]
    assert running[:12] in seen(store)


def test_links_that_somebody_else_made(store: Store, running: str, tmp_path: Path) -> None:
    link = Path(store.path("models", "cls", "current"))
    link.unlink()
    copy = tmp_path / f"{running}.json"
    copy.write_bytes(Path(store.path("releases", running + ".json")).read_bytes())
    link.symlink_to(copy)
    assert codes(store) == ["LF601"]
    assert "points out" in seen(store)
    link.unlink()
    link.write_text("my own")
    assert check_models(store, FACTS)["cls"].release == ""
    assert codes(store) == ["LF601"]
    other = release(store, "det", 2)
    link.unlink()
    link.symlink_to(f"../../releases/{other}.json")
    assert "LF601" in codes(store)
    assert "a release of the model det" in seen(store)


def test_another_environment_and_no_proof(store: Store, running: str) -> None:
    assert codes(store, facts=Facts(machine="x86_64", arch="x86_64", kernel="other")) == []
    assert codes(store, facts=Facts(machine="aarch64", arch="aarch64")) == ["LF604"]
    store.clear_verified(running)
    assert codes(store) == ["LF604"]


def test_looking_changes_nothing(store: Store, running: str) -> None:
    put(store, b"stray")
    before = {str(p): p.lstat().st_mtime_ns for p in Path(store.root).rglob("*")}
    check_models(store, FACTS, True)
    assert {str(p): p.lstat().st_mtime_ns for p in Path(store.root).rglob("*")} == before
