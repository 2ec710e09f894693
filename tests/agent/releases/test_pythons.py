"""Garbage collection of brought Pythons: what runs stays, the rest goes."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from litefleet_agent.releases.garbage import Keep, free_space
from litefleet_agent.releases.pythons import sweep_pythons
from litefleet_agent.releases.store import Store

OLD, NEW = "a" * 32, "b" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    return opened


def bring(store: Store, key: str, current: bool = False) -> str:
    folder = Path(store.path("python")) / key
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "bin/python3").write_text("#!/bin/sh\n")
    if current:
        (folder.parent / "current").write_text(key + "\n")
    return str(folder / "bin/python3")


def left(store: Store) -> list:
    return sorted(os.listdir(store.path("python")))


def test_the_one_that_runs_stays(store: Store) -> None:
    bring(store, OLD)
    running = bring(store, NEW, current=True)
    sweep_pythons(store, running)
    assert left(store) == [NEW, "current"]


def test_one_that_another_session_has_just_placed_stays(store: Store) -> None:
    running = bring(store, OLD)
    bring(store, NEW, current=True)
    sweep_pythons(store, running)
    assert left(store) == sorted([OLD, NEW, "current"])


def test_where_the_device_has_its_own_by_now_all_go(store: Store) -> None:
    bring(store, OLD)
    bring(store, NEW, current=True)
    free_space(store, 0, Keep())
    assert left(store) == []


def test_one_in_which_a_process_runs_stays(store: Store) -> None:
    bring(store, OLD, current=True)
    bring(store, NEW)
    loader = os.path.join(store.path("python"), NEW, "lib", "ld.so")
    shutil.copy("/bin/sleep", loader)
    process = subprocess.Popen([loader, "30"])
    try:
        until = time.monotonic() + 10
        while os.readlink(f"/proc/{process.pid}/exe") != os.path.realpath(loader) and time.monotonic() < until:
            time.sleep(0.01)
        sweep_pythons(store, "/usr/bin/python3")
    finally:
        process.kill()
        process.wait()
    assert NEW in left(store)


def test_what_broken_transfers_left_goes_and_a_running_one_stays(store: Store) -> None:
    running = bring(store, NEW, current=True)
    folder = Path(store.path("python"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f".new-{ended.pid}", f".new-{os.getpid()}", ".gone-" + OLD):
        (folder / name / "tree").mkdir(parents=True)
    (folder / f".current-{ended.pid}").write_text("")
    (folder / "notes").mkdir()
    sweep_pythons(store, running)
    assert left(store) == sorted([f".new-{os.getpid()}", NEW, "current", "notes"])
