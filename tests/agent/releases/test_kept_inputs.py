"""Inputs that stay on a device: found by their hash, bounded, dropped by age, and never in the way of a release."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from litefleet_agent.releases import kept_inputs
from litefleet_agent.releases.garbage import Keep, free_space
from litefleet_agent.releases.kept_inputs import KeptInputs
from litefleet_agent.releases.store import Store


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    return opened


def names(store: Store) -> set[str]:
    return set(os.listdir(store.path("inputs")))


def test_what_is_kept_is_found_by_its_hash_by_a_later_session(store: Store) -> None:
    assert KeptInputs(store).get(sha(b"one")) is None
    assert KeptInputs(store).keep(b"one")
    assert KeptInputs(store).get(sha(b"one")) == b"one"
    for odd in ("", "..", "../releases", sha(b"one").upper(), "0" * 63, "x" * 5000):
        assert KeptInputs(store).get(odd) is None


def test_damaged_data_is_removed_and_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    KeptInputs(store).keep(b"one")
    Path(store.path("inputs", sha(b"one"))).write_bytes(b"two")
    assert KeptInputs(store).get(sha(b"one")) is None
    assert names(store) == set()
    (tmp_path / "elsewhere").write_bytes(b"secret")
    os.symlink(str(tmp_path / "elsewhere"), store.path("inputs", sha(b"secret")))
    assert KeptInputs(store).get(sha(b"secret")) is None


def test_the_folder_is_bounded_and_old_inputs_go_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_inputs, "MOST_BYTES", 1000)
    first = KeptInputs(store)
    data = [bytes([number]) * 200 for number in range(6)]
    assert [first.keep(one) for one in data] == [True] * 5 + [False]
    assert not KeptInputs(store).keep(data[5]), "a measurement does not drop its own beginning"
    old = time.time() - 7200
    for one in data[:4]:
        os.utime(store.path("inputs", sha(one)), (old, old))
    assert KeptInputs(store).get(sha(data[0])) == data[0]  # used again: it stays
    assert KeptInputs(store).keep(data[5])
    assert names(store) == {sha(data[0]), sha(data[4]), sha(data[5])}


def test_a_release_that_needs_the_space_gets_it(store: Store) -> None:
    KeptInputs(store).keep(bytes(1 << 20))
    free_space(store, 1, Keep())
    assert len(names(store)) == 1
    free_space(store, 2 << 20, Keep(quota=(5 << 20) // 2))
    assert names(store) == set()


def test_a_disk_that_does_not_take_inputs_is_no_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_inputs, "write_atomic", full)
    assert not KeptInputs(store).keep(b"one")
    monkeypatch.setattr(kept_inputs, "free_bytes", lambda root: 0)
    assert not KeptInputs(store).keep(b"one")
