"""The artifact store: whole files only, named by their hash, damage noticed."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from pathlib import Path

import pytest
from litefleet_controller.build.artifacts import ArtifactStore, StoreError

KEY = "c" * 64


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_what_goes_in_comes_out_under_its_hash(store: ArtifactStore, tmp_path: Path) -> None:
    sha = store.put(b"model")
    assert sha == hashlib.sha256(b"model").hexdigest()
    assert store.intact(sha)
    assert store.path(sha).read_bytes() == b"model"
    (tmp_path / "file.nb").write_bytes(b"model")
    assert store.put(tmp_path / "file.nb") == sha
    assert [p.name for p in store.path(sha).parent.iterdir()] == [sha]


def test_a_damaged_blob_is_noticed_and_replaced(store: ArtifactStore) -> None:
    sha = store.put(b"model")
    store.record(KEY, sha, {"target": "arm"})
    assert store.lookup(KEY) == sha
    store.path(sha).write_bytes(b"modem")
    assert not store.intact(sha)
    assert store.lookup(KEY) is None
    store.put(b"model")
    assert store.lookup(KEY) == sha


@pytest.mark.parametrize(
    "entry", [b"", b"{", b"[]", b'{"sha256": 5}', b'{"sha256": "../../etc/passwd"}', b"\xff", b"{}"]
)
def test_a_damaged_index_entry_means_convert_again(store: ArtifactStore, entry: bytes) -> None:
    store.record(KEY, store.put(b"model"), {})
    (store.root / "variants" / f"{KEY}.json").write_bytes(entry)
    assert store.lookup(KEY) is None


def test_unknown_and_missing(store: ArtifactStore) -> None:
    assert store.lookup(KEY) is None
    assert not store.intact(KEY)
    for name in ("../x", "", "A" * 64, "a" * 63):
        with pytest.raises(StoreError, match="is not a SHA-256"):
            store.path(name)


def test_a_store_that_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        ArtifactStore(tmp_path / "file").put(b"model")
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        ArtifactStore(tmp_path / "store").put(tmp_path / "gone.nb")


def _put(root: Path, number: int) -> str:
    return ArtifactStore(root).put(b"x" * 200_000 + bytes([number % 2]))


def test_writers_at_once_leave_whole_files_and_nothing_else(tmp_path: Path) -> None:
    with concurrent.futures.ProcessPoolExecutor(4) as pool:
        shas = set(pool.map(_put, [tmp_path] * 24, range(24)))
    assert sorted(os.listdir(tmp_path / "blobs")) == sorted(shas)
    assert all(ArtifactStore(tmp_path).intact(sha) for sha in shas)
