"""What a device drops to have room: never what runs, and never a file before its manifest, wherever it is cut off."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from litefleet_agent.releases import activation as switch
from litefleet_agent.releases import caches
from litefleet_agent.releases import garbage as room
from litefleet_agent.releases.caches import prepare_cache
from litefleet_agent.releases.garbage import Keep, free_space, read_keep
from litefleet_agent.releases.runtimes import runtime_files, unpack_runtime
from litefleet_agent.releases.store import Store, StoreError

MB = 1 << 20


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled(tmp_path / "root")


def filled(root: Path) -> Store:
    opened = Store(str(root))
    opened.lock()
    return opened


def put(store: Store, data: bytes) -> str:
    store.put(sha(data), len(data), [data])
    return sha(data)


def runtime(store: Store, key: str) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("paddlelite/__init__.py", key * 5000)
    unpack_runtime(store, key, put(store, buffer.getvalue()))
    return key


def release(store: Store, name: str, number: int, size: int = 50_000, key: str = "system", proven: bool = True) -> str:
    """Keep a release of its own model file and of a golden that all of the model share; `number` is its proof's time."""
    if key != "system" and key not in store.runtimes():
        runtime(store, key)
    nb = (b"%s %d " % (name.encode(), number)).ljust(size, b"x")
    manifest = {
        "model": {"name": name, "nb": put(store, nb)},
        "golden": [put(store, b"golden of " + name.encode())],
        "runtime": key,
        "verify": {},
    }
    identity = store.write_release(manifest)
    if proven:
        store.record_verification(identity, "f", at=number)
    return identity


def kept(store: Store) -> set:
    return {p.stem for p in Path(store.path("releases")).glob("*.json")}


def whole(store: Store) -> bool:
    """Whether every manifest has all its files."""
    for identity in kept(store):
        manifest = store.release(identity)
        if not all(store.check_blob(s) for s in manifest.blobs):
            return False
        if manifest.runtime != "system" and runtime_files(store, manifest.runtime) is None:
            return False
        if manifest.runtime != "system" and manifest.runtime not in store.runtimes():
            return False
    return True


def folders(store: Store, folder: str) -> set:
    return {p.name for p in Path(store.path(folder)).iterdir()}


# --- which go


def test_the_newest_of_each_model_stay(store: Store) -> None:
    cls = [release(store, "cls", n) for n in range(1, 6)]
    det = [release(store, "det", n) for n in range(1, 3)]
    made = free_space(store, 0, Keep(releases=2))
    assert kept(store) == {*cls[3:], *det}
    assert made.dropped == tuple(cls[:3])
    assert made.freed > 3 * 50_000
    assert made.free > 0
    assert len(store.blobs()) == 4 + 2
    assert whole(store)
    assert free_space(store, 0, Keep(releases=2)).dropped == ()


def test_what_runs_ran_is_pinned_or_wanted_stays(store: Store) -> None:
    ids = [release(store, "cls", n) for n in range(1, 7)]
    switch.activate(store, ids[0])
    switch.activate(store, ids[1])
    made = free_space(store, 0, Keep(releases=0, pinned=frozenset([ids[2]]), wanted=frozenset([ids[3]])))
    assert kept(store) == set(ids[:4])
    assert set(made.dropped) == set(ids[4:])
    assert whole(store)


def test_what_is_under_a_lease_and_what_it_came_from_stay(store: Store) -> None:
    ids = [release(store, "cls", n) for n in range(1, 5)]
    for identity in ids[:2]:
        switch.activate(store, identity)
    switch.activate(store, ids[2], lease_s=600)
    free_space(store, 0, Keep(releases=0))
    assert kept(store) == set(ids[:3])  # what it goes back to has a `previous` of its own


def test_what_was_never_proven_goes_first(store: Store) -> None:
    proven = release(store, "cls", 5)
    failed = release(store, "cls", 9, proven=False)
    assert free_space(store, 0, Keep(releases=1)).dropped == (failed,)
    assert kept(store) == {proven}


def test_what_nothing_refers_to_goes(store: Store) -> None:
    used, unused = release(store, "cls", 1, key="r1"), release(store, "cls", 0, key="r2")
    stray, wanted = put(store, b"stray" * 1000), put(store, b"about to be used")
    runtime(store, "r3")
    store.record_verification("c" * 64, "f", at=1)
    seals = Path(store.path("seals"))
    for identity in (used, unused):
        (seals / f"{identity}.json").write_text("{}")
    Path(store.path("runtimes", "gone.files.json")).write_text("{}")
    free_space(store, 0, Keep(releases=1, wanted=frozenset([wanted]), runtime="r3"))
    assert kept(store) == {used}
    assert stray not in store.blobs()
    assert wanted in store.blobs()
    assert folders(store, "runtimes") == {"r1", "r1.files.json", "r3", "r3.files.json"}
    assert folders(store, "verified") == folders(store, "seals") == {f"{used}.json"}
    assert whole(store)


def test_a_release_s_cache_goes_with_it(store: Store, tmp_path: Path) -> None:
    stays, goes = release(store, "cls", 1), release(store, "cls", 2)
    for identity in (stays, goes):
        folder = Path(prepare_cache(store, identity))
        (folder / "opencl_kernels.bin").write_bytes(b"x" * 1000)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    os.unlink(store.path("releases", f"{goes}.json"))
    free_space(store, 0, Keep(releases=9))
    assert os.listdir(store.path("caches")) == [stays]
    assert prepare_cache(store, stays) == store.path("caches", stays)
    shutil.rmtree(store.path("caches", stays))
    os.symlink(outside, store.path("caches", stays))  # what this user could not have made is never followed
    assert os.listdir(prepare_cache(store, stays)) == []
    assert os.listdir(outside) == ["file"]


def test_a_cache_that_grew_too_large_is_emptied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = release(store, "cls", 1)
    monkeypatch.setattr(caches, "MOST_CACHED", 1000)
    folder = Path(prepare_cache(store, identity))
    (folder / "kernels").write_bytes(b"x" * 1000)
    assert os.listdir(prepare_cache(store, identity)) == ["kernels"]
    (folder / "more").write_bytes(b"x")
    assert os.listdir(prepare_cache(store, identity)) == []


def test_old_agents_go(store: Store) -> None:
    folder = Path(store.path("agent"))
    folder.mkdir()
    names = [f"{str(n) * 64}.pyz" for n in range(6)]
    for n, name in enumerate(names):
        (folder / name).write_bytes(b"agent")
        os.utime(str(folder / name), (n, n))
        (folder / (name[:64] + ".cpython-37.bytecode")).write_bytes(b"code")
    (folder / "litefleet-agent.pyz").symlink_to(names[1])
    free_space(store, 0, Keep(agent="0" * 64))
    left = [names[n] for n in (0, 1, 4, 5)]
    bytecode = {name[:64] + ".cpython-37.bytecode" for name in left}
    assert folders(store, "agent") == {"litefleet-agent.pyz", *left, *bytecode}


def test_files_that_others_put_there_stay(store: Store) -> None:
    for path in ("releases/notes.txt", "blobs/README", "verified/x.json"):
        Path(store.path(path)).write_text("mine")
    Path(store.path("models", "not a model")).mkdir()
    free_space(store, 0, Keep(releases=0))
    assert all(Path(store.path(p)).exists() for p in ("releases/notes.txt", "blobs/README", "verified/x.json"))


def test_a_manifest_that_can_not_be_read_goes_unless_it_runs(store: Store) -> None:
    first, second = release(store, "cls", 1), release(store, "cls", 2)
    switch.activate(store, first)
    for identity in (first, second):
        Path(store.path("releases", identity + ".json")).write_text("{}")
    blobs = store.blobs()
    free_space(store, 0, Keep(releases=5))
    assert kept(store) == {first}
    assert store.blobs() == blobs  # nobody can say which of them the running one needs


# --- for want of room


def test_for_a_quota_more_goes_oldest_first_and_no_more_than_needed(store: Store) -> None:
    ids = [release(store, "cls", n, size=MB) for n in range(1, 6)]
    switch.activate(store, ids[0])
    made = free_space(store, MB, Keep(releases=9, quota=int(5.5 * MB)))
    assert made.dropped == (ids[1],)
    assert kept(store) == {ids[0], *ids[2:]}
    assert whole(store)


def test_nothing_that_may_stay_goes_in_vain(store: Store) -> None:
    ids = [release(store, "cls", n, size=MB) for n in range(1, 5)]
    switch.activate(store, ids[3])
    with pytest.raises(StoreError) as caught:
        free_space(store, 10 * MB, Keep(releases=2, quota=5 * MB))
    assert caught.value.code == "over-quota"
    assert str(10 * MB) in str(caught.value)
    assert str(5 * MB) in str(caught.value)
    assert kept(store) == set(ids[1:])  # ids[0] was beyond what is kept


def test_a_full_disk_is_a_sentence_with_figures(store: Store) -> None:
    identity = release(store, "cls", 1)
    with pytest.raises(StoreError) as caught:
        free_space(store, 1 << 60, Keep(releases=9))
    assert caught.value.code == "disk-full"
    assert str(1 << 60) in str(caught.value)
    assert kept(store) == {identity}


def test_a_shared_runtime_counts_only_with_its_last_release(store: Store) -> None:
    ids = [release(store, "cls", n, size=MB, key="r1") for n in (1, 2)]
    used = room._used(store.root)
    made = free_space(store, MB, Keep(releases=9, quota=used))
    assert made.dropped == (ids[0],)
    assert store.runtimes() == ["r1"]


@pytest.mark.parametrize(
    "fields",
    [{"keep": -1}, {"keep": "2"}, {"keep": True}, {"quota": -1}, {"quota": 1.5}, {"pinned": ["x"]}, {"wanted": [7]}],
)
def test_odd_wishes_are_refused(fields: dict) -> None:
    with pytest.raises(StoreError) as caught:
        read_keep(fields, "")
    assert caught.value.code == "bad-request"


# --- cut off anywhere

_CALLS = ("unlink", "rename", "rmdir", "fsync")


def build(root: Path) -> None:
    store = filled(root)
    ids = [release(store, "cls", n, size=2000, key=f"r{n}") for n in range(1, 5)]
    switch.activate(store, ids[3])
    put(store, b"stray")
    store.unlock()


def cut(root: Path, after: int) -> int:
    """Make room in a child that dies before its call number `after` of the file system; return how it ended."""
    child = os.fork()
    if child:
        return os.WEXITSTATUS(os.waitpid(child, 0)[1])
    left = [after]

    def counted(real):
        def call(*args: object, **more: object):
            left[0] -= 1
            if left[0] < 0:
                os._exit(7)
            return real(*args, **more)

        return call

    try:
        for name in _CALLS:
            setattr(os, name, counted(getattr(os, name)))
        store = Store(str(root))
        store.lock()
        free_space(store, 0, Keep(releases=1))
    except BaseException:
        os._exit(9)
    os._exit(0)


def test_cut_off_anywhere_no_manifest_is_without_its_files(tmp_path: Path) -> None:
    template = tmp_path / "template"
    build(template)
    points = 0
    while True:
        root = tmp_path / f"root{points}"
        shutil.copytree(str(template), str(root), symlinks=True)
        ended = cut(root, points)
        store = filled(root)
        assert whole(store), points
        free_space(store, 0, Keep(releases=1))  # the next one ends what this one began
        assert len(kept(store)) == 2
        assert folders(store, "runtimes") == {"r3", "r3.files.json", "r4", "r4.files.json"}
        assert len(store.blobs()) == 3
        store.unlock()
        shutil.rmtree(str(root))
        points += 1
        if ended == 0:
            break
        assert ended == 7
    assert points > 10
