"""The keeper: a real process that takes a release back when nobody confirms it, and keeps nothing of the session's."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import litefleet_agent
import pytest
from litefleet_agent.releases.activation import activate, confirm, lock_and_recover, overdue, recover
from litefleet_agent.releases.journal import Journal
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.store import Store, StoreError

from tests.agent.support.release_fixtures import links, opened, proven

PACKAGE = Path(litefleet_agent.__file__).parent
START = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from litefleet_agent.releases.lease_keeper import start\n"
    "from litefleet_agent.releases.store import Store\n"
    "from litefleet_agent.releases.activation import activate\n"
    "import os; os.set_inheritable(os.dup(1), True)\n"
    "s = Store(sys.argv[2]); s.lock()\n"
    "activate(s, sys.argv[3], float(sys.argv[4]))\n"
    "print(start(sys.argv[2]), flush=True)"
)


def keepers(root: Path) -> list:
    """Return the process ids of the keepers of `root`: what holds their lock."""
    lock, found = str(root.resolve() / "lease.lock"), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if lock in (os.readlink(str(one)) for one in (folder / "fd").iterdir()):
                found.append(int(folder.name))
    return found


def until(what: Callable[[], bool], limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    for pid in keepers(tmp_path / "root"):
        os.kill(pid, 9)


def session(root: Path, release: str, lease_s: float, package: Path = PACKAGE.parent) -> str:
    """Activate in a process whose output is a pipe that must end with it, as sshd's does; return what start() said."""
    argv = [sys.executable, "-I", "-c", START, str(package), str(root), release, str(lease_s)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        begun = time.monotonic()
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - begun < 5 or lease_s > 5
    assert err == b""
    return out.decode().strip()


def device(root: Path, *notes: str) -> list:
    store = opened(root, Clock())
    ids = [proven(store, note) for note in notes]
    store.unlock()
    return ids


def test_a_device_goes_back_by_itself(root: Path) -> None:
    one, two = device(root, "1", "2")
    assert session(root, one, 3.0) == "True"
    store = Store(str(root))
    assert links(store) == (one, "")
    until(lambda: links(store) == ("", ""))  # the first release of all
    until(lambda: keepers(root) == [])
    store.lock()
    activate(store, one)
    store.unlock()
    assert session(root, two, 3.0) == "True"
    assert links(store) == (two, one)
    until(lambda: links(store) == (one, ""))
    until(lambda: keepers(root) == [])
    assert "nobody confirmed it within 3 s" in Journal(str(root)).read().operations[-1].why


def test_confirmed_in_time_it_stays_and_the_keeper_ends(root: Path) -> None:
    (one,) = device(root, "1")
    session(root, one, 6.0)
    store = opened(root, Clock())
    confirm(store, one)
    store.unlock()
    until(lambda: keepers(root) == [])
    assert links(store) == (one, "")


def held(folder: Path) -> set:
    """Return what a process has open; it may be reading the journal just now."""
    found = set()
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(str(path)))
    return found


def test_it_holds_nothing_of_the_session(root: Path) -> None:
    (one,) = device(root, "1")
    session(root, one, 60)
    (pid,) = keepers(root)
    process = Path("/proc") / str(pid)
    until(lambda: held(process / "fd") == {os.devnull, str(root / "lease.lock")})
    assert os.readlink(str(process / "cwd")) == "/"
    assert os.getsid(pid) not in (os.getsid(0), os.getpid())
    assert os.stat(str(root / "lease.lock")).st_size == 0


def test_one_keeper_serves_all_leases(root: Path) -> None:
    store = opened(root, Clock())
    one, other = proven(store, "1"), proven(store, "2", "det")
    store.unlock()
    assert session(root, one, 1.0) == "True"
    assert session(root, other, 1.2) == "True"
    assert len(keepers(root)) == 1
    until(lambda: store.current() == {})
    until(lambda: keepers(root) == [])


def test_a_session_that_holds_the_store_does_not_hinder_it(root: Path) -> None:
    """The session may hang: that is what a lease is for."""
    (one,) = device(root, "1")
    store = Store(str(root))
    session(root, one, 1.0)
    begun = time.monotonic()
    store.lock()
    until(lambda: links(store) == ("", ""), 1.0 + 2 - (time.monotonic() - begun))
    assert store.locked
    with pytest.raises(StoreError, match="nobody confirmed it within 1 s"):
        confirm(store, one)
    store.unlock()


def test_it_waits_for_a_session_of_an_agent_without_the_switch_lock(root: Path) -> None:
    """That one changes journal and links under the store's lock alone."""
    (one,) = device(root, "1")
    session(root, one, 1.0)
    with (root / "lock").open("r+") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        old.truncate(0)
        old.write("pid 1 since 2026-01-01T00:00:00Z")
        old.flush()
        until(lambda: Journal(str(root)).read().open()[0].overdue(Clock()) != "")
        time.sleep(0.5)
        assert links(Store(str(root))) == (one, "")
    until(lambda: links(Store(str(root))) == ("", ""))


def test_it_waits_for_a_switch_that_is_being_made(root: Path) -> None:
    (one,) = device(root, "1")
    session(root, one, 1.0)
    store = Store(str(root))
    with store.switching():
        until(lambda: Journal(str(root)).read().open()[0].overdue(Clock()) != "")
        time.sleep(0.5)
        assert links(store) == (one, "")
    until(lambda: links(store) == ("", ""))


def test_a_release_whose_lease_cannot_be_read_is_not_confirmed(root: Path) -> None:
    one, two = device(root, "1", "2")
    store = opened(root, Clock())
    activate(store, one)
    activate(store, two, 60)
    (root / "journal").write_bytes(b"")
    with pytest.raises(StoreError, match="could not be read any more; the device reverted") as caught:
        confirm(store, two)
    assert caught.value.code == "lease-expired"
    assert links(store) == (one, "")
    store.unlock()


class OtherBoot(Clock):
    """The clock of a device that has restarted, where its wall clock is another one too."""

    def boot_id(self) -> str:
        return "another boot"

    def boottime(self) -> float:
        return 5.0

    def wall(self) -> float:
        return 0.0


@pytest.mark.parametrize("damage", ["emptied", "removed", "garbage", "kept"])
@pytest.mark.parametrize("first", [True, False])
def test_after_a_restart_a_lease_that_cannot_be_read_is_over(root: Path, damage: str, first: bool) -> None:
    """No watchdog remembers it then: the copy does."""
    one, two = device(root, "1", "2")
    store = opened(root, Clock())
    if not first:
        activate(store, one)
    activate(store, two, 60)
    store.unlock()
    if damage == "removed":
        (root / "journal").unlink()
    elif damage != "kept":
        (root / "journal").write_bytes(b"" if damage == "emptied" else os.urandom(5000))
    store = Store(str(root), OtherBoot())
    assert overdue(store)
    assert [operation.to for operation in lock_and_recover(store)] == [two]
    assert links(store) == (("", "") if first else (one, ""))
    assert lock_and_recover(store) == []
    assert not overdue(store)
    store.unlock()


@pytest.mark.parametrize("damage", ["emptied", "garbage", "one lease's lines"])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_lost_journal_costs_each_model_its_lease(root: Path, damage: str, restarted: bool) -> None:
    """The first one to be reverted is recorded again, with a number above the others'."""
    store = opened(root, Clock())
    releases = {model: proven(store, model, model) for model in ("first", "second", "cls")}
    for model in ("second", "cls", "first"):
        activate(store, releases[model], 60)
    store.unlock()
    journal = root / "journal"
    if damage == "one lease's lines":
        journal.write_bytes(b"".join(line for line in journal.read_bytes().splitlines(True) if b'"second"' not in line))
    else:
        journal.write_bytes(b"" if damage == "emptied" else os.urandom(5000))
    store = Store(str(root), OtherBoot() if restarted else Clock())
    store.lock()
    assert overdue(store)
    expected = {"second"} if damage == "one lease's lines" and not restarted else set(releases)
    assert {operation.model for operation in recover(store)} == expected
    assert {model for model in releases if links(store, model)[0] == ""} == expected
    assert {path.stem for path in (root / "leases").iterdir()} == set(releases) - expected
    store.unlock()


def test_a_confirmed_release_outlives_its_journal(root: Path) -> None:
    one, two = device(root, "1", "2")
    store = opened(root, Clock())
    activate(store, one, 60)
    confirm(store, one)
    activate(store, two, 60)
    confirm(store, two)
    store.unlock()
    (root / "journal").unlink()
    store = Store(str(root), OtherBoot())
    assert not overdue(store)
    assert lock_and_recover(store) == []
    assert links(store) == (two, one)
    store.unlock()


def test_a_copy_that_a_power_cut_brought_back_is_removed(root: Path) -> None:
    (one,) = device(root, "1")
    store = opened(root, Clock())
    activate(store, one, 60)
    (copy,) = (root / "leases").iterdir()
    data = copy.read_bytes()
    confirm(store, one)
    assert list((root / "leases").iterdir()) == []
    copy.write_bytes(data)
    recover(store)
    assert list((root / "leases").iterdir()) == []
    copy.write_bytes(b"[" * 20000)
    recover(store)
    assert links(store)[0] == one
    store.unlock()


@pytest.mark.parametrize("damage", ["emptied", "removed", "garbage", "a folder"])
@pytest.mark.parametrize("first", [True, False])
def test_a_lease_that_cannot_be_read_is_over(root: Path, damage: str, first: bool) -> None:
    one, two = device(root, "1", "2")
    if not first:
        store = opened(root, Clock())
        activate(store, one)
        store.unlock()
    assert session(root, two, 2.0) == "True"
    until(lambda: len(keepers(root)) == 1)
    time.sleep(0.3)  # it has read the lease
    journal = root / "journal"
    if damage == "emptied":
        journal.write_bytes(b"")
    elif damage == "garbage":
        journal.write_bytes(os.urandom(5000))
    else:
        journal.unlink()
    if damage == "a folder":
        journal.mkdir()
    until(lambda: links(Store(str(root)))[0] == ("" if first else one), 2.0 + 2)
    if damage == "a folder":
        journal.rmdir()
    until(lambda: keepers(root) == [])
    store = opened(root, Clock())
    assert links(store) == (("", "") if first else (one, ""))
    with pytest.raises(StoreError, match=r"cannot be confirmed|is not current"):
        confirm(store, two)
    store.unlock()


def test_a_compacted_journal_is_not_a_lost_one(root: Path) -> None:
    one, two = device(root, "1", "2")
    session(root, one, 60)
    store = opened(root, Clock())
    confirm(store, one)
    for _ in range(60):  # finished operations, of which 50 stay
        activate(store, two)
        activate(store, one)
    Journal(str(root))._compact()
    store.unlock()
    assert len(Journal(str(root)).read().operations) <= 51
    until(lambda: keepers(root) == [])
    assert links(Store(str(root)))[0] == one


def test_the_archive_may_be_removed_meanwhile(root: Path, tmp_path: Path) -> None:
    (one,) = device(root, "1")
    archive = shutil.make_archive(str(tmp_path / "agent"), "zip", str(PACKAGE.parent), PACKAGE.name)
    assert session(root, one, 1.0, Path(archive)) == "True"
    os.unlink(archive)
    until(lambda: links(Store(str(root))) == ("", ""))
    until(lambda: keepers(root) == [])


def test_where_none_can_be_started_it_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from litefleet_agent.releases.lease_keeper import start

    (root / "lease.lock").mkdir(parents=True)
    assert start(str(root)) is False

    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")  # RLIMIT_NPROC, or no memory

    monkeypatch.setattr(os, "fork", fork)
    assert start(str(root)) is False
