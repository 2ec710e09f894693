"""The device's folder: whole or not there, whatever arrives, whoever else is at work, and however a session ended."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.releases.runtimes import runtime_files, unpack_runtime
from litefleet_agent.releases.store import Store, StoreError, default_root, release_id

AGENT = Path(__file__).parents[3] / "agent"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def visible(root: Path) -> list[str]:
    """Every file below the root but the lock, hidden ones included."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir() and not p.name.endswith("lock"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Store:
    opened = Store(str(root))
    opened.lock()
    return opened


def put(store: Store, data: bytes) -> str:
    store.put(sha(data), len(data), [data])
    return sha(data)


def bundle(*members: tuple[str, bytes], **kind: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **kind) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def manifest(store: Store, **change: object) -> dict:
    whole = {
        "model": {"name": "cls", "nb": put(store, b"the model")},
        "golden": [put(store, b"the golden")],
        "runtime": "system",
        "verify": {},
    }
    return {**whole, **change}


def refused(code: str, call, *args: object) -> str:
    """Return the sentence of the StoreError that `call` must end with."""
    with pytest.raises(StoreError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    return str(caught.value)


# --- blobs


@given(parts=st.lists(st.binary(max_size=50), max_size=8))
@settings(deadline=None, max_examples=40)
def test_what_was_put_is_there_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    store.lock()
    data = b"".join(parts)
    store.put(sha(data), len(data), iter(parts))
    assert Path(store.blob(sha(data))).read_bytes() == data
    assert store.blobs() == {sha(data): len(data)}
    assert store.check_blob(sha(data))


def test_wrong_bytes_leave_nothing(store: Store, root: Path) -> None:
    said = refused("hash-mismatch", store.put, sha(b"a"), 1, [b"b"])
    assert said == f"expected the bytes of {sha(b'a')[:12]}, got {sha(b'b')[:12]}"
    assert visible(root) == []


def test_wrong_bytes_leave_the_blob_that_was_there(store: Store) -> None:
    name = put(store, b"good")
    refused("hash-mismatch", store.put, name, 3, [b"bad"])
    assert store.check_blob(name)


def test_a_sender_that_dies_half_way_leaves_nothing(store: Store, root: Path) -> None:
    seen = []

    def chunks():
        yield b"half"
        seen.extend(visible(root))
        raise ConnectionError("gone")

    with pytest.raises(StoreError, match="cannot be stored: gone"):
        store.put(sha(b"half and half"), 13, chunks())
    assert len(seen) == 1
    assert Path(seen[0]).name.startswith(".tmp-")
    assert visible(root) == []
    assert store.blobs() == {}


def test_what_does_not_fit_is_refused_before_the_first_byte(store: Store, root: Path) -> None:
    taken = []

    def chunks():
        taken.append(1)
        yield b""

    said = refused("disk-full", store.put, sha(b""), 1 << 60, chunks())
    assert said.startswith(f"{1 << 60} bytes are to be stored under {root}, where ")
    assert taken == []


@pytest.mark.parametrize(
    "name",
    ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "/" + "a" * 63, None, 7, ["a"]],
)
def test_only_a_sha256_names_a_blob_or_a_release(store: Store, name: object) -> None:
    for call in (store.blob, store.release, store.verified, store.clear_verified):
        assert refused("bad-request", call, name).startswith("not a SHA-256: ")


def test_odd_things_among_the_blobs_are_not_offered(store: Store, root: Path) -> None:
    name = put(store, b"x")
    (root / "blobs" / ("b" * 64)).mkdir()
    (root / "blobs" / ("c" * 64)).symlink_to("/nonexistent")
    (root / "blobs" / "notes.txt").write_text("mine")
    assert store.blobs() == {name: 1}


def test_a_blob_that_rotted_is_noticed(store: Store, root: Path) -> None:
    whole = manifest(store)
    (root / "blobs" / whole["model"]["nb"]).write_bytes(b"the m0del")
    assert not store.check_blob(whole["model"]["nb"])
    said = refused("hash-mismatch", store.write_release, whole)
    assert said.endswith("no longer holds the bytes that were sent")
    assert whole["model"]["nb"] not in store.blobs()  # so the next run sends it anew


# --- runtimes


def unpack(store: Store, data: bytes, key: str = "r1") -> None:
    unpack_runtime(store, key, put(store, data))


def test_a_bundle_is_unpacked_whole_and_its_blob_dropped(store: Store, root: Path) -> None:
    unpack(store, bundle(("paddlelite/__init__.py", b""), ("paddlelite/libs/lib.so", b"\x7fELF")))
    files = ["runtimes/r1/paddlelite/__init__.py", "runtimes/r1/paddlelite/libs/lib.so"]
    assert visible(root) == ["runtimes/r1.files.json", *files]
    assert runtime_files(store, "r1") == {
        "paddlelite/__init__.py": (0, sha(b"")),
        "paddlelite/libs/lib.so": (4, sha(b"\x7fELF")),
    }
    assert store.runtimes() == ["r1"]
    unpack_runtime(store, "r1", "a" * 64)  # there already: nothing to be done, and no blob needed
    assert store.runtimes() == ["r1"]


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "a\\..\\out", "..", "/"])
def test_paths_that_leave_the_folder_are_refused(store: Store, root: Path, name: str) -> None:
    data = bundle(("good.py", b""), (name, b"evil"))
    assert "unsafe path" in refused("bad-request", unpack, store, data)
    assert visible(root) == ["blobs/" + sha(data)]
    assert not list(root.parent.rglob("out"))


def test_a_symlink_entry_never_becomes_a_link(store: Store, root: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    link.create_system = 3
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc")
        archive.writestr("file", "x")
    unpack(store, buffer.getvalue())
    assert not (root / "runtimes/r1/link").is_symlink()
    assert (root / "runtimes/r1/link").read_text() == "/etc"


def test_a_file_below_a_symlink_entry_does_not_escape(store: Store, root: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, str(root.parent))
        archive.writestr("link/escaped", "x")
    with pytest.raises(StoreError, match="cannot be unpacked"):
        unpack(store, buffer.getvalue())
    assert not (root.parent / "escaped").exists()
    assert store.runtimes() == []


def test_bombs_are_refused_by_their_own_figures(store: Store, root: Path) -> None:
    big = bytearray(bundle(("a", b"x")))
    for offset in (big.find(b"PK\x01\x02") + 24, 22):  # the size in the directory, and in the file's own header
        big[offset : offset + 4] = b"\xf0\xff\xff\xff"
    assert "unpacks to 4294967280 bytes in 1 files: too large" in refused("bad-request", unpack, store, bytes(big))
    many = bundle(*((f"f{n}", b"") for n in range(20001)))
    assert "in 20001 files: too large" in refused("bad-request", unpack, store, many)
    assert store.runtimes() == []


def test_a_size_that_lies_low_unpacks_no_more_than_it_says(store: Store, root: Path) -> None:
    lies = bytearray(bundle(("a", bytes(100000)), compression=zipfile.ZIP_DEFLATED))
    for offset in (lies.find(b"PK\x01\x02") + 24, 22):
        lies[offset : offset + 4] = b"\x05\0\0\0"
    assert "cannot be unpacked" in refused("bad-request", unpack, store, bytes(lies))
    assert store.runtimes() == []


SOUND = bundle(("paddlelite/__init__.py", b"x = 1\n" * 50), ("paddlelite/libs/a.so", bytes(300)))


@given(changes=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_a_damaged_bundle_is_a_sentence_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    store = Store(str(outside / "root"))
    store.lock()
    damaged = bytearray(SOUND)
    for place, value in changes:
        damaged[place] = value
    try:
        unpack(store, bytes(damaged))
    except StoreError:
        assert store.runtimes() == []
    else:
        assert store.runtimes() == ["r1"]
    assert os.listdir(str(outside)) == ["root"]
    assert [n for n in os.listdir(store.path("runtimes")) if n.startswith(".")] == []


def test_a_locked_and_a_strangely_packed_bundle_are_sentences(store: Store) -> None:
    sound = bundle(("a", b"x"))
    entry = sound.find(b"PK\x01\x02")
    locked, strange = bytearray(sound), bytearray(sound)
    for offset in (entry + 8, 6):
        locked[offset] |= 1
    for offset in (entry + 10, 8):
        strange[offset] = 99
    assert "password" in refused("bad-request", unpack, store, bytes(locked))
    assert "cannot be unpacked" in refused("bad-request", unpack, store, bytes(strange))
    assert "not a zip" in refused("bad-request", unpack, store, b"no zip at all")


def test_runtime_names_are_plain_and_system_stays_the_devices_own(store: Store) -> None:
    name = put(store, SOUND)
    for key in ("..", "../x", ".hidden", "", "a/b", "a" * 129, "r\n", None, {}):
        assert refused("bad-request", unpack_runtime, store, key, name).startswith("not a plain name: ")
    assert "system is the name" in refused("bad-request", unpack_runtime, store, "system", name)
    assert "is not on this device" in refused("missing", unpack_runtime, store, "r2", "b" * 64)


# --- releases


def test_a_release_is_named_by_its_canonical_bytes(store: Store) -> None:
    whole = manifest(store)
    identity = store.write_release(whole)
    assert identity == release_id(json.loads(json.dumps(whole))) == release_id(dict(reversed(list(whole.items()))))
    assert store.release(identity).document == whole


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": "cls"},
        {"model": {"name": "../x", "nb": "a" * 64}},
        {"model": {"name": "cls", "nb": "../x"}},
        {"model": {"name": ["cls"], "nb": "a" * 64}},
        {"golden": "a" * 64},
        {"golden": {"a": 1}},
        {"golden": []},
        {"golden": [None]},
        {"golden": ["a" * 64] * 1001},
        {"runtime": None},
        {"runtime": "../../usr"},
        {"runtime": {"key": 1}},
        {"runtime": ""},
        {"verify": None},
        {"verify": [1]},
        {"extra": "é" * (1 << 18)},
    ],
)
def test_a_manifest_that_does_not_fit_is_a_sentence(store: Store, root: Path, change: dict) -> None:
    assert refused("bad-request", store.write_release, manifest(store, **change))
    assert os.listdir(str(root / "releases")) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("a" * 64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    whole=JSON
    | st.fixed_dictionaries(
        {
            "model": JSON | st.fixed_dictionaries({"name": JSON, "nb": JSON}),
            "golden": JSON,
            "runtime": JSON,
            "verify": JSON,
        }
    )
)
@settings(deadline=None, max_examples=150)
def test_any_json_as_a_manifest_is_refused_with_a_sentence(tmp_path_factory: pytest.TempPathFactory, whole) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    store.lock()
    with pytest.raises(StoreError):
        store.write_release(whole)


def test_what_is_not_here_is_named(store: Store) -> None:
    assert refused("missing", store.write_release, manifest(store, golden=["b" * 64])).startswith(
        "the blob bbbbbbbbbbbb "
    )
    assert (
        refused("missing", store.write_release, manifest(store, runtime="r9")) == "the runtime r9 is not on this device"
    )
    assert refused("missing", store.release, "c" * 64) == "the release cccccccccccc is not on this device"


def test_a_release_that_was_tampered_with_is_not_used(store: Store, root: Path) -> None:
    identity = store.write_release(manifest(store))
    store.record_verification(identity, "f")
    changed = {**manifest(store), "runtime": "../../../tmp/evil"}
    (root / "releases" / (identity + ".json")).write_text(json.dumps(changed))
    assert "no longer says what was sent" in refused("hash-mismatch", store.release, identity)


def test_links_that_others_made_are_not_taken_for_releases(store: Store, root: Path) -> None:
    for name, target in (("a", "/etc/passwd"), ("b", "../../releases/x.json"), ("c", "a" * 64)):
        (root / "models" / name).mkdir()
        (root / "models" / name / "current").symlink_to(target)
    assert store.current() == {}


# --- the lock


HOLD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.releases.store import Store\n"
    "s = Store(sys.argv[2]); s.lock(); print('held', flush=True); sys.stdin.read()"
)


def test_a_second_session_is_told_who_is_at_work_and_reading_goes_on(root: Path) -> None:
    argv = [sys.executable, "-I", "-c", HOLD, str(AGENT), str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        second = Store(str(root))
        said = refused("busy", second.lock)
        assert said.startswith(f"another controller is at work on this device: pid {holder.pid} since 2")
        assert second.blobs() == {}
        holder.kill()
    second.lock()  # the kernel gives the lock of a dead session back
    second.lock()


def test_what_a_dead_session_left_half_made_is_cleared(root: Path) -> None:
    for folder in ("blobs", "runtimes/.tmp-r1-7/sub", "releases", "verified", "work/old", "agent"):
        (root / folder).mkdir(parents=True)
    left = [
        "blobs/.tmp-a-1",
        "runtimes/.tmp-r1-7/sub/f",
        "releases/.tmp-b-1",
        "verified/.tmp-c-1",
        "work/old/f",
        "work/g",
    ]
    for name in [*left, "agent/.tmp-new", "agent/.tmp-old", "agent/kept.pyz", "blobs/" + "a" * 64]:
        (root / name).write_text("x")
    old = time.time() - 7200
    os.utime(str(root / "agent" / ".tmp-old"), (old, old))
    (root / "work" / "link").symlink_to(root / "blobs")
    Store(str(root)).lock()
    assert visible(root) == ["agent/.tmp-new", "agent/kept.pyz", "blobs/" + "a" * 64]


def test_a_root_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written: Not a directory" in refused("io-error", Store(str(tmp_path / "file" / "root")).lock)
    assert "cannot be written" in refused("io-error", Store("/proc/litefleet").lock)


def test_the_default_root_is_one_this_user_can_write() -> None:
    assert default_root() in ("/var/lib/litefleet", os.path.expanduser("~/.local/share/litefleet"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_can_not_be_read_is_not_taken_for_nothing(store, monkeypatch, number):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    assert (store.current(), store.link("cls", "current")) == ({}, "")
    monkeypatch.setattr(os, "listdir", fails)
    with pytest.raises(StoreError, match="the folder models cannot be read: " + os.strerror(number)):
        store.current()
    monkeypatch.setattr(os, "readlink", fails)
    with pytest.raises(StoreError, match="models/cls/current cannot be read"):
        store.link("cls", "current")
