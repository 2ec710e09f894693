"""Blobs put together from others: what the steps say, nothing else, and never more than was announced."""

from __future__ import annotations

import lzma
import random
import zlib
from pathlib import Path

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.releases.rebuild import RebuildRequest, rebuild
from litefleet_agent.releases.store import Store, StoreError

from tests.agent.support.rebuild_steps import leb128, sha

BASE = random.Random(7).getrandbits(8 * 300_000).to_bytes(300_000, "big")
PACK = {"zlib": zlib.compress, "lzma": lzma.compress}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path))
    made.lock()
    made.put(sha(BASE), len(BASE), [BASE])
    return made


def attempt(
    store: Store, result: bytes, script: bytes, new: bytes, coding: str = "zlib", changed: dict | None = None
) -> None:
    header = {"sha256": sha(result), "size": len(result), "bases": [sha(BASE)], "script": len(script), "coding": coding}
    body = PACK[coding](script + new)
    request = RebuildRequest.from_header({**header, **(changed or {})})
    rebuild(store, request, [body[i : i + 999] for i in range(0, len(body), 999)])


@pytest.mark.parametrize("coding", ["zlib", "lzma"])
def test_new_bytes_and_copies_forwards_and_backwards_make_the_blob(store: Store, coding: str) -> None:
    # 5 new bytes, 100,000 from offset 200,000; then 200,000 from offset 0: 300,000 back; then 3 new bytes
    result = b"begin" + BASE[200_000:] + BASE[:200_000] + b"end"
    script = leb128(5, 0, 400_000, 100_000) + leb128(0, 0, 599_999, 200_000)
    attempt(store, result, script, b"beginend", coding)
    assert Path(store.blob(sha(result))).read_bytes() == result


def test_without_bases_it_is_a_compressed_upload(store: Store) -> None:
    attempt(store, b"x" * 1_000_000, b"", b"x" * 1_000_000, changed={"bases": []})
    assert store.check_blob(sha(b"x" * 1_000_000))


HOSTILE = {
    "behind its base": (leb128(0, 0, 2 * 299_999, 10), b"", {}),
    "before its base": (leb128(0, 0, 1, 10), b"", {}),
    "another base": (leb128(0, 1, 0, 10), b"", {}),
    "more than announced": (leb128(0, 0, 0, 11), b"", {}),
    "more new bytes than announced": (leb128(11, 0, 0, 0), b"12345678901", {}),
    "bytes behind the end": (leb128(0, 0, 0, 10), b"more", {}),
    "too few bytes": (leb128(9, 0, 0, 1), b"123", {}),
    "half a step": (leb128(0, 0), b"", {}),
    "an endless number": (b"\xff" * 40, b"", {}),
    "a script longer than the body": (b"", b"", {"script": 500}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_body_that_does_not_fit_is_refused_and_leaves_nothing(store: Store, kind: str) -> None:
    script, new, fields = HOSTILE[kind]
    with pytest.raises(StoreError) as caught:
        attempt(store, b"1234567890", script, new, changed=fields)
    assert caught.value.code == "bad-request", caught.value
    assert "cannot be rebuilt" in str(caught.value)
    assert [p.name for p in Path(store.root, "blobs").iterdir()] == [sha(BASE)]


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": "../../etc/passwd"},
        {"bases": ["../x"]},
        {"bases": "x"},
        {"bases": ["0" * 64] * 9},
        {"size": -1},
        {"size": 1 << 40},
        {"size": "9"},
        {"script": 1 << 30},
        {"coding": "bz2"},
        {"coding": None},
    ],
)
def test_fields_that_do_not_fit_are_refused(store: Store, fields: dict) -> None:
    with pytest.raises(AgentError) as caught:
        attempt(store, b"", b"", b"", changed=fields)
    assert caught.value.code == "bad-request"


def test_a_base_that_is_missing_or_no_file_is_said(store: Store, tmp_path: Path) -> None:
    Path(store.blob("1" * 64)).symlink_to("/etc/passwd")
    Path(store.blob("2" * 64)).mkdir()
    for name in ("0" * 64, "1" * 64, "2" * 64):
        with pytest.raises(StoreError) as caught:
            attempt(store, b"", b"", b"", changed={"bases": [name]})
        assert caught.value.code == "missing"


def test_a_base_with_other_bytes_makes_no_blob(store: Store) -> None:
    Path(store.blob(sha(BASE))).write_bytes(BASE[:-1] + b"?")
    with pytest.raises(StoreError) as caught:
        attempt(store, BASE, leb128(0, 0, 0, len(BASE)), b"")
    assert caught.value.code == "hash-mismatch"


def test_what_unpacks_to_far_more_than_announced_is_not_unpacked(store: Store) -> None:
    body = zlib.compress(bytes(200 << 20))
    request = RebuildRequest(sha(b"1"), 1, (), 0, "zlib")
    with pytest.raises(StoreError, match="more bytes came"):
        rebuild(store, request, [body])


def test_random_bodies_give_a_sentence_or_the_right_bytes(store: Store) -> None:
    chance = random.Random(11)
    result = BASE[1000:2000] + b"new"
    right = PACK["zlib"](leb128(0, 0, 2000, 1000) + b"new")
    request = RebuildRequest(sha(result), len(result), (sha(BASE),), 6, "zlib")
    for _ in range(300):
        body = bytearray(right)
        for _ in range(chance.randint(1, 3)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        if chance.random() < 0.3:
            del body[chance.randrange(len(body)) :]
        try:
            rebuild(store, request, [bytes(body)])
        except StoreError:
            assert not Path(store.blob(sha(result))).exists()
        else:
            assert store.check_blob(sha(result))
            Path(store.blob(sha(result))).unlink()


def test_differences_are_added_to_copies_that_are_nearly_right(store: Store) -> None:
    near = bytes((byte + step * 37) & 255 for step, byte in enumerate(BASE[1000:141_000]))
    result = b"<" + near + BASE[:50_000]
    added = bytes((byte - BASE[1000 + place]) & 255 for place, byte in enumerate(near))
    script = leb128(1, 0, 2000, 140_000 * 2 + 1) + leb128(0, 0, 141_000 * 2 - 1, 50_000 * 2)
    attempt(store, result, script, added + b"<", changed={"differences": len(added)})
    assert Path(store.blob(sha(result))).read_bytes() == result


@pytest.mark.parametrize(
    ("count", "sent"),
    [(9, b"123456789"), (11, b"12345678901"), (10, b"123456789")],
    ids=["fewer", "more", "cut"],
)
def test_differences_that_do_not_fit_the_steps_are_rejected(store: Store, count: int, sent: bytes) -> None:
    script = leb128(0, 0, 0, 10 * 2 + 1)
    with pytest.raises(StoreError) as raised:
        attempt(store, BASE[:10], script, sent, changed={"differences": count})
    assert raised.value.code == "bad-request"


@pytest.mark.parametrize("differences", [-1, (1 << 20) + 1, "7", 1.5, None])
def test_a_number_of_differences_out_of_bounds_is_rejected(store: Store, differences: object) -> None:
    with pytest.raises(AgentError, match="differences"):
        attempt(store, BASE[:10], leb128(0, 0, 0, 10), b"", changed={"differences": differences})


def planed(data: bytes, stride: int) -> bytes:
    return bytes([stride]) + b"".join(data[place::stride] for place in range(stride))


@pytest.mark.parametrize("coding", ["zlib", "lzma"])
def test_new_bytes_in_planes_are_put_together_block_by_block(store: Store, coding: str) -> None:
    new, block = BASE[:10_007], 4000
    blocks = ((0, 4), (block, 1), (2 * block, 2))  # where each begins, and its stride
    body = b"".join(planed(new[place : place + block], stride) for place, stride in blocks)
    result = new[:5000] + BASE[7:700] + new[5000:]
    attempt(store, result, leb128(5000, 0, 14, 693), body, coding, {"planes": block})
    assert Path(store.blob(sha(result))).read_bytes() == result


def test_planes_of_the_last_bytes_may_be_empty(store: Store) -> None:
    for size in range(9):
        result = BASE[:size]
        attempt(store, result, b"", planed(result, 4) if size else b"", changed={"planes": 100})
        assert Path(store.blob(sha(result))).read_bytes() == result


@pytest.mark.parametrize("planes", [b"\x03123", b"\x00123", b"\x041", b"\x011234", b"\x01123\x01", b"", b"\xff" * 9])
def test_planes_that_do_not_fit_are_rejected(store: Store, planes: bytes) -> None:
    with pytest.raises(StoreError) as raised:
        attempt(store, b"123", b"", planes, changed={"planes": 3})
    assert raised.value.code == "bad-request"
    assert [path.name for path in Path(store.root, "blobs").iterdir()] == [sha(BASE)]


@pytest.mark.parametrize("planes", [-1, (1 << 20) + 1, "7", 1.5, None])
def test_a_size_of_blocks_out_of_bounds_is_rejected(store: Store, planes: object) -> None:
    with pytest.raises(AgentError, match="planes"):
        attempt(store, BASE[:10], b"", planed(BASE[:10], 4), changed={"planes": planes})


def test_random_planes_give_a_sentence_or_the_right_bytes(store: Store) -> None:
    chance = random.Random(12)
    result = BASE[:1000]
    right = b"".join(planed(result[place : place + 256], 4) for place in range(0, 1000, 256))
    request = RebuildRequest(sha(result), len(result), (), 0, "zlib", planes=256)
    refused = 0
    for _ in range(300):
        body = bytearray(right)
        for _ in range(chance.randint(0, 2)):
            body[chance.choice((0, 257, 514, 771, chance.randrange(len(body))))] = chance.randrange(256)
        if chance.random() < 0.2:
            del body[chance.randrange(len(body)) :]
        try:
            rebuild(store, request, [zlib.compress(body)])
        except StoreError:
            refused += 1
            assert not Path(store.blob(sha(result))).exists()
        else:
            assert store.check_blob(sha(result))
            Path(store.blob(sha(result))).unlink()
    assert 100 < refused < 300


def test_planes_that_unpack_to_far_more_than_announced_are_not_unpacked(store: Store) -> None:
    body = zlib.compress(b"\x01" * (200 << 20))
    request = RebuildRequest(sha(b"1"), 1, (), 0, "zlib", planes=1 << 20)
    with pytest.raises(StoreError, match="more bytes came"):
        rebuild(store, request, [body])
