"""A switch that is killed at any call that changes the disk is, after the next start, undone or done: never in between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from litefleet_agent.releases.activation import activate, confirm, open_leases, recover, rollback
from litefleet_agent.releases.journal import COMPACT_AT, Journal, State
from litefleet_agent.releases.store import Store

from tests.agent.support.power_cut import MEMORY, calls, in_child
from tests.agent.support.release_fixtures import SetClock, links, opened, proven

Work = Callable  # (Store) -> object


class Scene:
    """A device before an operation, the operation, and what may be found after it was cut off."""

    def __init__(self, folder: Path, before: Work, work: Work, later: Callable[[SetClock], None] = lambda clock: None):
        self.folder, self.work, self.later = folder, work, later
        store = opened(folder / "device", SetClock())
        self.ids = {note: proven(store, note) for note in "ABC"}
        before(store)
        store.unlock()
        self.number = 0

    def device(self) -> Path:
        """Return a fresh copy of the device."""
        self.number += 1
        copy = self.folder / str(self.number)
        shutil.copytree(str(self.folder / "device"), str(copy), symlinks=True)
        return copy

    def run(self, root: Path, at: int = 0, torn: bool = False) -> int:
        return in_child(lambda: self.do(root), at, torn)

    def do(self, root: Path) -> None:
        clock = SetClock()
        self.later(clock)
        self.work(opened(root, clock))

    def calls(self) -> list:
        """Return the names of all calls that change the disk."""
        root = self.device()
        return calls(lambda: self.do(root))

    def names(self, root: Path) -> tuple:
        """Return current and previous as A, B, C or "", after a fresh start."""
        clock = SetClock()
        self.later(clock)
        store = opened(root, clock)
        found = links(store)
        assert [p for p in [*root.glob("*"), *root.glob("models/*/*")] if p.name.startswith(".")] == []
        for identity in filter(None, found):
            manifest = store.release(identity)
            assert all(store.check_blob(sha) for sha in manifest.blobs)
        before = state(root)
        assert recover(store) == []
        assert state(root) == before
        store.unlock()
        of = {identity: note for note, identity in self.ids.items()}
        return tuple(of.get(identity, identity) for identity in found)

    def works(self, root: Path) -> None:
        """A normal switch works afterwards."""
        store = opened(root, SetClock())
        activate(store, self.ids["C"])
        assert links(store)[0] == self.ids["C"]
        assert open_leases(store) == {}
        store.unlock()


def state(root: Path) -> dict:
    """Return everything below the root but the lock, with its contents."""
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path)] = os.readlink(str(path))
        elif path.is_file() and not path.name.endswith("lock"):
            found[str(path)] = path.read_bytes()
    return found


def identity(store: Store, note: str) -> str:
    return next(i for i in store.verified_releases() if store.release(i).document["note"] == note)


def on(note: str, lease_s: float = 0) -> Work:
    return lambda store: activate(store, identity(store, note), lease_s)


def both(*works: Work) -> Work:
    return lambda store: [work(store) for work in works]


def nothing(store: Store) -> None:
    pass


def expired(clock: SetClock) -> None:
    clock.advance(100)


def confirming(store: Store) -> None:
    confirm(store, identity(store, "B"))


def back(to: str) -> Work:
    return lambda store: rollback(store, "cls", to if to in ("previous", "nothing") else identity(store, to))


LEASED = both(on("A"), on("B", 60))
SCENES = {
    "first": (nothing, on("A"), None, [("", ""), ("A", "")]),
    "first under a lease": (nothing, on("A", 60), None, [("", ""), ("A", "")]),
    "second": (on("A"), on("B"), None, [("A", ""), ("B", "A")]),
    "third under a lease": (both(on("A"), on("B")), on("C", 60), None, [("B", "A"), ("C", "B")]),
    "another during a lease": (LEASED, on("C", 60), None, [("B", "A"), ("A", ""), ("C", "A")]),
    "renewal": (LEASED, on("B", 90), None, [("B", "A")]),
    "confirm": (LEASED, confirming, None, [("B", "A")]),
    "roll back": (both(on("A"), on("B")), back("previous"), None, [("B", "A"), ("A", "B")]),
    "roll back during a lease": (LEASED, back("previous"), None, [("B", "A"), ("A", "")]),
    "switch off": (on("A"), back("nothing"), None, [("A", ""), ("", "A")]),
    "undo of a first": (on("A", 60), recover, expired, [("", "")]),
    "undo": (LEASED, recover, expired, [("A", "")]),
    "undo after a restart": (LEASED, recover, SetClock.restart, [("A", "")]),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.mark.parametrize("name", sorted(SCENES))
def test_killed_at_every_call(folder: Path, name: str) -> None:
    before, work, later, allowed = SCENES[name]
    scene = Scene(folder, before, work, later or (lambda clock: None))
    names = scene.calls()
    seen = set()
    for at, call in enumerate(names, 1):
        for torn in (False, True) if call == "write" else (False,):
            root = scene.device()
            assert scene.run(root, at, torn) == 9
            found = scene.names(root)
            assert found in allowed, (at, torn)
            seen.add(found)
            if at % 5 == 1:
                scene.works(root)
            shutil.rmtree(str(root))
    root = scene.device()
    assert scene.run(root) == 0
    assert scene.names(root) == allowed[-1]
    assert allowed[0] in seen
    scene.works(root)


def test_killed_at_every_call_and_again_while_recovering(folder: Path) -> None:
    scene = Scene(folder, both(on("A"), on("B")), on("C", 60))
    total = len(scene.calls())
    deaths = 0
    for at in range(1, total + 1):
        broken = scene.device()
        scene.run(broken, at, torn=True)
        for second in range(1, 100):
            root = scene.folder / "again"
            shutil.copytree(str(broken), str(root), symlinks=True)
            code = in_child(lambda root=root: opened(root, SetClock()), second)
            assert scene.names(root) in [("B", "A"), ("C", "B")]
            shutil.rmtree(str(root))
            if code == 0:
                break
            assert code == 9
            deaths += 1
        shutil.rmtree(str(broken))
    assert deaths > total


def long_past(store: Store) -> None:
    """Fill the journal so that the next step compacts it."""
    journal, clock = Journal(store.root), SetClock()
    (last,) = journal.read().operations[-1:]
    for number in range(last.number + 1, COMPACT_AT):
        journal.append(last._replace(number=number).moved(State.DONE, clock, "x" * 1000))
        if os.path.getsize(store.path("journal")) > COMPACT_AT - 1300:  # the next step is no longer
            return


def test_killed_at_every_call_of_a_compaction(folder: Path) -> None:
    scene = Scene(folder, both(on("A"), on("B"), long_past), on("C", 60))
    names = scene.calls()
    assert names.count("replace") == 2 + 1 + 1  # links, the lease's copy and journal
    for at in range(1, len(names) + 1):
        root = scene.device()
        assert scene.run(root, at) == 9
        assert scene.names(root) in [("B", "A"), ("C", "B")]
        scene.works(root)


def test_the_intention_is_on_the_disk_before_a_link_changes(folder: Path) -> None:
    """Order of the calls: the lease's copy and begin are synced, links changed and their folder synced, then the outcome."""
    scene = Scene(folder, on("A"), on("B", 60))
    store = opened(scene.device(), SetClock())
    names = calls(lambda: activate(store, scene.ids["B"], 60))
    link = ["symlink", "replace"]
    assert names == ["mkdir", "fsync", "replace", "fsync", "write", "fsync", *link, *link, "fsync", "write", "fsync"]
