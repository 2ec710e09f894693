"""Switching a release on, confirming it, going back: what is told, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from litefleet_agent.cli import main
from litefleet_agent.releases.activation import activate, confirm, open_leases, overdue, recover, rollback
from litefleet_agent.releases.archive import NAME, name_archive
from litefleet_agent.releases.store import Store
from litefleet_agent.session.hello import revert_expired, switch_status

from tests.agent.session.test_server import Peer
from tests.agent.support.release_fixtures import SetClock, kept, links, opened, proven, refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(root: Path, clock: SetClock) -> Store:
    return opened(root, clock)


# --- without a lease


def test_switching_keeps_the_one_before(store: Store, root: Path) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    assert activate(store, one) == (True, None)
    assert links(store) == (one, "")
    assert activate(store, two) == (True, None)
    assert links(store) == (two, one)
    assert json.loads((root / "models" / "cls" / "current").read_text())["note"] == "2"
    assert activate(store, two) == (False, None)
    assert activate(store, two, 60) == (False, None)  # what is final takes no lease
    assert links(store) == (two, one)


def test_switching_survives_what_a_dead_session_left(store: Store, root: Path) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one)
    (root / "models" / "cls" / ".tmp-current").symlink_to("/nonexistent")
    assert activate(store, two).changed
    assert sorted(os.listdir(str(root / "models" / "cls"))) == ["current", "previous"]


def test_only_what_was_proven_here_is_switched_on(store: Store, root: Path) -> None:
    identity = kept(store, "1")
    assert "was not proven" in refused("not-verified", activate, store, identity)
    store.record_verification(identity, "f")
    store.clear_verified(identity)
    store.clear_verified(identity)  # twice is no error
    assert "was not proven" in refused("not-verified", activate, store, identity)
    assert refused("missing", activate, store, "c" * 64)
    assert refused("bad-request", activate, store, "../x")
    (root / "releases" / (identity + ".json")).write_text("{}")
    assert "no longer says" in refused("hash-mismatch", activate, store, identity)
    assert (store.current(), (root / "journal").exists()) == ({}, False)


@pytest.mark.parametrize("lease", [-1, float("nan"), float("inf"), 1e9, "60", None, True, [60]])
def test_a_lease_of_no_length_is_refused(store: Store, lease: object) -> None:
    identity = proven(store, "1")
    assert refused("bad-request", activate, store, identity, lease).startswith(
        "a lease (in seconds) must be a number from 0 to 2592000, not "
    )
    assert store.current() == {}


def test_a_symlinked_root_works(tmp_path: Path, clock: SetClock) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = opened(tmp_path / "link", clock)
    assert activate(store, proven(store, "1")).changed
    assert json.loads((tmp_path / "real" / "models" / "cls" / "current").read_text())["note"] == "1"


# --- under a lease


def test_what_nobody_confirms_goes_back(store: Store, clock: SetClock) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one)
    assert activate(store, two, 60) == (True, 60)
    clock.advance(59)
    assert recover(store) == []
    assert (overdue(store), links(store)) == (False, (two, one))
    clock.advance(1)
    assert overdue(store)
    assert [(o.model, o.to, o.why) for o in recover(store)] == [("cls", two, "nobody confirmed it within 60 s")]
    assert links(store) == (one, "")
    assert recover(store) == []
    said = refused("lease-expired", confirm, store, two)
    assert (
        said
        == f"the release {two[:12]} cannot be confirmed: nobody confirmed it within 60 s; the device reverted 0 s ago, "
        + f"and cls runs {one[:12]}"
    )


def test_confirmed_is_final(store: Store, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    confirm(store, one)
    confirm(store, one)
    clock.restart()
    assert recover(store) == []
    assert links(store) == (one, "")
    assert activate(store, one) == (False, None)


def test_too_late_to_confirm_undoes_it_right_there(store: Store, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    clock.advance(61)
    assert "and cls runs nothing" in refused("lease-expired", confirm, store, one)
    assert links(store) == ("", "")


def test_a_restart_ends_a_lease(store: Store, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 600)
    clock.restart()
    assert "the device restarted" in refused("lease-expired", confirm, store, one)


def test_a_restart_that_the_boot_id_does_not_tell_is_seen_by_the_clock(store: Store, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    clock.up = 3.0
    assert [o.why for o in recover(store)] == ["the device restarted before the release was confirmed"]


def test_the_wall_clock_means_nothing(store: Store, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    clock.epoch += 1e7
    assert recover(store) == []
    clock.epoch = 0
    clock.up += 61
    assert len(recover(store)) == 1


def test_asked_again_a_lease_is_renewed_or_made_final(store: Store, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    clock.advance(50)
    assert activate(store, one, 60) == (False, 60)
    clock.advance(50)
    assert recover(store) == []
    assert activate(store, one) == (False, None)
    clock.advance(500)
    assert recover(store) == []
    assert links(store) == (one, "")


def test_another_release_starts_from_what_was_confirmed(store: Store, clock: SetClock) -> None:
    one, two, three = proven(store, "1"), proven(store, "2"), proven(store, "3")
    activate(store, one)
    activate(store, two, 60)
    activate(store, three, 60)
    assert links(store) == (three, one)
    assert refused("lease-expired", confirm, store, two)
    clock.advance(61)
    recover(store)
    assert links(store) == (one, "")
    activate(store, two, 60)
    assert activate(store, one, 60) == (True, None)  # back to what is confirmed
    assert (links(store), open_leases(store)) == ((one, ""), {})


def test_models_do_not_touch_each_other(store: Store, clock: SetClock) -> None:
    one, other = proven(store, "1"), proven(store, "2", "det")
    activate(store, one, 60)
    activate(store, other, 90)
    clock.advance(70)
    assert [o.model for o in recover(store)] == ["cls"]
    assert store.current() == {"det": other}
    assert sorted(open_leases(store)) == ["det"]


def test_links_that_somebody_else_changed_are_not_confirmed(store: Store, root: Path) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one)
    activate(store, two, 60)
    (root / "models" / "cls" / "current").unlink()
    assert "the links of cls were changed by something else" in refused("lease-expired", confirm, store, two)
    assert links(store) == (one, "")


def test_what_was_never_switched_on_is_not_confirmed(store: Store) -> None:
    assert "is not current: cls runs nothing" in refused("lease-expired", confirm, store, proven(store, "1"))
    assert refused("missing", confirm, store, "a" * 64)


# --- going back


def test_back_and_forth(store: Store) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one)
    activate(store, two)
    assert rollback(store, "cls", "previous") == (True, one, two)
    assert links(store) == (one, two)
    assert rollback(store, "cls", two) == (True, two, one)
    assert rollback(store, "cls", two) == (False, two, two)
    assert rollback(store, "cls", "nothing") == (True, "", two)
    assert links(store) == ("", two)
    assert rollback(store, "cls", "nothing") == (False, "", "")
    assert rollback(store, "cls", "previous") == (True, two, "")
    assert links(store) == (two, "")
    assert "to switch it off, roll back to nothing" in refused("not-kept", rollback, store, "cls", "previous")


def test_under_a_lease_back_means_what_it_came_from(store: Store) -> None:
    one, two, three = proven(store, "1"), proven(store, "2"), proven(store, "3")
    activate(store, one)
    activate(store, two)
    activate(store, three, 60)
    assert rollback(store, "cls", "previous") == (True, two, three)
    assert (links(store), open_leases(store)) == ((two, one), {})
    activate(store, three, 60)
    assert rollback(store, "cls", "nothing") == (True, "", three)
    assert links(store) == ("", two)


def test_only_what_is_here_whole_and_proven_is_gone_back_to(store: Store, root: Path) -> None:
    one, two, other = proven(store, "1"), proven(store, "2"), proven(store, "3", "det")
    unproven, lossy = kept(store, "4"), proven(store, "5")
    activate(store, one)
    activate(store, two, 60)
    os.unlink(store.blob(store.release(lossy).nb))
    before = (root / "journal").read_bytes()
    for target, words in (
        (unproven, "it was not proven on this device"),
        (lossy, " is missing"),
        (other, "it is a release of det"),
        ("d" * 64, "is not on this device"),
    ):
        assert words in refused("not-kept", rollback, store, "cls", target)
    for target in ("", "../x", "Previous", None, 7):
        assert refused("bad-request", rollback, store, "cls", target)
    for model in ("../x", "", None):
        assert refused("bad-request", rollback, store, model, "nothing")
    assert ((root / "journal").read_bytes(), links(store)) == (before, (two, one))


# --- what the file system refuses


def test_a_switch_that_fails_is_a_sentence_and_is_undone(store: Store, root: Path) -> None:
    one, two = proven(store, "1"), proven(store, "2")
    activate(store, one)
    folder = root / "models" / "cls"
    (folder / "previous").mkdir()
    (folder / "previous" / "in the way").touch()
    said = refused("io-error", activate, store, two, 60)
    assert said.startswith("the release %s cannot be activated: " % two[:12])  # noqa: UP031
    assert store.current() == {"cls": one}
    shutil.rmtree(str(folder / "previous"))
    assert activate(store, two).changed
    assert links(store) == (two, one)


def test_a_journal_that_cannot_be_read_stops_switching_and_not_the_session(store: Store, root: Path) -> None:
    one = proven(store, "1")
    (root / "journal").mkdir()
    store.unlock()
    store.lock()
    assert "cannot be" in refused("io-error", activate, store, one)
    assert "cannot be read" in refused("io-error", open_leases, store)
    revert_expired(store)
    assert switch_status(store).to_dict() == {"leases": {}, "undone": [], "kept": {"cls": [one]}, "told": {}}
    assert store.current() == {}


# --- what is told


def test_hello_settles_first_and_tells(store: Store, root: Path, clock: SetClock) -> None:
    one, two, other = proven(store, "1"), proven(store, "2"), proven(store, "3", "det")
    store.record_verification(two, "f", at=5)
    activate(store, one)
    activate(store, two, 60)
    activate(store, other, 90)
    clock.advance(70)
    store.unlock()
    reader = Store(str(root), clock)
    revert_expired(reader)
    assert not reader.locked
    told = switch_status(reader).to_dict()
    assert told["leases"] == {"det": {"release": other, "before": "", "remaining_s": 20.0}}
    assert told["undone"] == [
        {"model": "cls", "release": two, "why": "nobody confirmed it within 60 s", "at": clock.wall()}
    ]
    assert told["kept"] == {"cls": [two, one], "det": [other]}
    assert json.loads(json.dumps(told)) == told


def test_hello_waits_for_no_session(store: Store, root: Path, clock: SetClock) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    clock.advance(61)
    reader = Store(str(root), clock)
    revert_expired(reader)  # `store` holds the lock, and may be a session that hangs
    assert links(store) == ("", "")
    assert switch_status(reader).leases == {}


def test_hello_reverts_nothing_while_an_agent_without_the_switch_lock_is_at_work(
    store: Store, root: Path, clock: SetClock
) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    clock.advance(61)
    (root / "lock").write_text("pid 1 since 2026-01-01T00:00:00Z")  # `store` holds it
    reader = Store(str(root), clock)
    revert_expired(reader)
    assert links(store) == (one, "")
    assert switch_status(reader).leases["cls"].remaining_s == 0


def test_a_whole_session(root: Path) -> None:
    with Peer(root) as peer:
        device = Store(str(root))
        device.lock()
        one, two = proven(device, "1"), proven(device, "2")
        device.unlock()
        assert peer.ask("activate", release=one)["result"] == {
            "changed": True,
            "keeper": False,
            "lease_remaining_s": None,
        }
        answer = peer.ask("activate", release=two, lease_s=30)["result"]
        assert answer == {"changed": True, "keeper": True, "lease_remaining_s": 30}
        hello = peer.ask("hello")["result"]
        assert 0 < hello["leases"]["cls"]["remaining_s"] <= 30
        assert peer.ask("confirm", release=two)["result"] == {}
        assert peer.ask("rollback", model="cls", to="previous")["result"] == {
            "changed": True,
            "current": one,
            "before": two,
        }
        assert peer.ask("confirm", release=two)["error"]["code"] == "lease-expired"
        assert peer.ask("rollback", model="cls", to="e" * 64)["error"]["code"] == "not-kept"
        hello = peer.ask("hello")["result"]
        assert (hello["leases"], hello["undone"], hello["current"]) == ({}, [], {"cls": one})
        assert sorted(hello["kept"]["cls"]) == sorted([one, two])
        assert peer.end()[0] == 0


def test_recover_at_boot(root: Path, store: Store, clock: SetClock, capsys: pytest.CaptureFixture) -> None:
    one = proven(store, "1")
    activate(store, one, 60)
    assert main(["recover", "--root", str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == {"undone": [], "busy": True}
    store.unlock()
    assert main(["recover", "--root", str(root)]) == 0  # the machine's own boot id is not the set clock's
    (undone,) = json.loads(capsys.readouterr().out)["undone"]
    assert (undone["to"], undone["why"]) == (one, "the device restarted before the release was confirmed")
    assert main(["recover", "--root", str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == {"undone": [], "busy": False}
    assert main(["recover", "--root", str(root / "none")]) == 0
    assert not (root / "none").exists()
    assert main(["recover", "--rot", str(root)]) == 2


# --- the archive's name


def test_the_running_archive_bears_a_name_that_stays(root: Path) -> None:
    (root / "agent").mkdir(parents=True)
    for name in ("a" * 64, "a" * 64, "b" * 64):
        name_archive(str(root), str(root / "agent" / (name + ".pyz")))
        assert os.listdir(str(root / "agent")) == [NAME]
        assert os.readlink(str(root / "agent" / NAME)) == name + ".pyz"


def test_only_an_archive_of_this_root_is_named(root: Path, tmp_path: Path) -> None:
    (root / "agent").mkdir(parents=True)
    for place in (tmp_path / "x.pyz", root / "agent" / "folder", root / "agent" / NAME):
        name_archive(str(root), str(place))
    name_archive(str(tmp_path / "none"), str(tmp_path / "none" / "agent" / "a.pyz"))
    assert os.listdir(str(root / "agent")) == []
