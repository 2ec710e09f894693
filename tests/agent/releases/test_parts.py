"""Transfers that were cut: what came is kept and goes on, a damaged start never counts, and nothing stays for ever."""

from __future__ import annotations

import hashlib
import os
import random
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.releases.garbage import Keep, free_space
from litefleet_agent.releases.parts import LEAST_SIZE, part_of, receive
from litefleet_agent.releases.rebuild import RebuildRequest, rebuild
from litefleet_agent.releases.store import PART, Store, StoreError

DATA = random.Random(3).getrandbits(8 * 300_000).to_bytes(300_000, "big")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Gone(Exception):
    """The controller closed the connection."""


def cut(data: bytes, at: int) -> Iterator[bytes]:
    for start in range(0, at, 7000):
        yield data[start : min(start + 7000, at)]
    raise Gone


def opened(folder: Path) -> Store:
    store = Store(str(folder))
    store.lock()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return opened(tmp_path)


@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=5))
@settings(deadline=None, max_examples=25)
def test_a_blob_goes_on_after_cuts_at_any_byte(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder, name = tmp_path_factory.mktemp("store"), sha(DATA)
    for at in sorted(cuts):
        store = opened(folder)
        there = part_of(store, name)
        assert there.sha256 == (sha(DATA[: there.size]) if there.size or there.sha256 else "")
        with pytest.raises(Gone):
            receive(store, name, len(DATA), cut(DATA[there.size :], at - there.size), there.size)
        assert (store.blobs(), store.blobs(PART)) == ({}, {name: at})
        store.unlock()
    store = opened(folder)
    receive(store, name, len(DATA), [DATA[max(cuts, default=0) :]], max(cuts, default=0))
    assert (store.blobs(), store.blobs(PART)) == ({name: len(DATA)}, {})
    assert store.check_blob(name)
    assert sorted(os.listdir(folder / "blobs")) == [name]


def kept(store: Store, data: bytes, at: int) -> Path:
    with pytest.raises(Gone):
        receive(store, sha(data), len(data), cut(data, at))
    return Path(store.path("blobs", PART + sha(data)))


def test_a_start_that_changed_on_the_disk_never_counts(store: Store) -> None:
    path = kept(store, DATA, 200_000)
    path.write_bytes(bytes(200_000))  # as a power cut may leave it
    assert part_of(store, sha(DATA)) == (200_000, sha(bytes(200_000)))
    with pytest.raises(StoreError, match="expected the bytes of") as caught:
        receive(store, sha(DATA), len(DATA), [DATA[200_000:]], 200_000)
    assert caught.value.code == "hash-mismatch"
    assert os.listdir(store.path("blobs")) == []


def test_more_than_is_here_cannot_be_continued(store: Store) -> None:
    kept(store, DATA, 1000)
    with pytest.raises(StoreError, match=r"1000 bytes of .* are here, not 5000") as caught:
        receive(store, sha(DATA), len(DATA), [DATA[5000:]], 5000)
    assert caught.value.code == "missing"


def test_it_begins_again_where_the_controller_sends_all(store: Store) -> None:
    kept(store, DATA, 200_000)
    receive(store, sha(DATA), len(DATA), [DATA])
    assert store.check_blob(sha(DATA))
    assert os.listdir(store.path("blobs")) == [sha(DATA)]


def test_of_a_small_blob_nothing_is_kept(store: Store) -> None:
    small = DATA[: LEAST_SIZE - 1]
    with pytest.raises(Gone):
        receive(store, sha(small), len(small), cut(small, 50_000))
    assert os.listdir(store.path("blobs")) == []


def test_a_link_in_its_place_is_not_followed(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "another file"
    other.write_bytes(b"not a blob")
    os.symlink(other, store.path("blobs", PART + sha(DATA)))
    assert part_of(store, sha(DATA)).sha256 != sha(b"not a blob")
    with pytest.raises(StoreError):
        receive(store, sha(DATA), len(DATA), [DATA])
    assert other.read_bytes() == b"not a blob"
    receive(store, sha(DATA), len(DATA), [DATA])
    assert store.check_blob(sha(DATA))


def test_the_next_session_keeps_it_for_a_week(store: Store, tmp_path: Path) -> None:
    path = kept(store, DATA, 100_000)
    for age_s, stays in ((6 * 86400, True), (8 * 86400, False)):
        os.utime(path, (time.time() - age_s,) * 2)
        store.unlock()
        store = opened(tmp_path)
        assert path.exists() is stays


def test_it_gives_way_where_space_is_needed(store: Store) -> None:
    path, other = kept(store, DATA, 100_000), kept(store, DATA[1:], 100_000)
    free_space(store, 0, Keep())
    assert (path.exists(), other.exists()) == (True, True)
    with pytest.raises(StoreError):
        free_space(store, 1 << 59, Keep(wanted=frozenset([sha(DATA)])))
    assert (path.exists(), other.exists()) == (True, False)
    with pytest.raises(StoreError):
        receive(store, sha(DATA[2:]), 1 << 59, [b""])
    assert not path.exists()


@pytest.mark.parametrize("whole", [True, False])
def test_the_steps_of_a_rebuild_may_have_come_before_it(store: Store, whole: bool) -> None:
    body = zlib.compress(DATA)
    steps = body if whole else body[:-9]
    receive(store, sha(steps), len(steps), [steps])
    fields = {"sha256": sha(DATA), "size": len(DATA), "bases": [], "script": 0, "coding": "zlib", "steps": sha(steps)}
    if whole:
        rebuild(store, RebuildRequest.from_header(fields), [])
    else:
        with pytest.raises(StoreError, match="cannot be rebuilt"):
            rebuild(store, RebuildRequest.from_header(fields), [])
    assert store.blobs() == ({sha(DATA): len(DATA)} if whole else {})


def test_steps_that_are_not_here_are_a_sentence(store: Store) -> None:
    fields = {"sha256": sha(DATA), "size": 9, "bases": [], "script": 0, "coding": "zlib", "steps": "0" * 64}
    with pytest.raises(StoreError, match="the blob 000000000000 is not on this device"):
        rebuild(store, RebuildRequest.from_header(fields), [])
