"""What of a file a device can copy from files that it holds, and the rest: a new model is mostly tensors of an old one.

The same weights are the same bytes in the .nb of another opt version, of another target and of a model whose last layer was
trained again.  Copies are found by content at any offset, so that moved, renamed and reordered tensors are found too.  The
device puts the file together (`rebuild`, agent releases/rebuild.py) and hashes it before it counts.
"""

from __future__ import annotations

import lzma
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from litefleet_agent.formats.checked import is_sha
from litefleet_agent.releases.rebuild import MAX_BASES, MAX_SCRIPT

from ..common.checked import mapping_or_empty, sequence_or_empty
from .agent_client import Request

_LEAST_SIZE = 16 << 10  # bytes of a file below which a round trip costs more than it saves
_MOST_BYTES = 512 << 20  # of a file and its bases together: they are held in memory
_MOST_SHARE = 0.95  # of the file: above it the file is sent as it is
_MOST_PACKED = 64 << 20  # bytes of a file that is compressed without bases
_MOST_PACKED_SHARE = 0.85  # of such a file: above it the file is sent as it is
_SEED = 16  # bytes that begin a match
_STRIDE = 128  # bytes from one seed of a base to the next
_LEAST_COPY = 256  # bytes; shorter ones break up what lzma finds by itself (measured on three models, 16 to 512)
_SEARCHED = 4 << 20  # bytes of the file in which a match may begin at any byte, then at every fourth
_MOST_LZMA = 8 << 20  # bytes of a rest that is also tried with lzma, which takes 0.5 s per MB
# Contexts of four bytes, as numbers of 32 bits and flatbuffers have: 2 to 9 % less than lzma's defaults on three models.
_LZMA = ({"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2},)
_LOCK = threading.Lock()


class Delta(NamedTuple):
    """How to make a file from others."""

    bases: tuple[str, ...]  # SHA-256
    script: int  # bytes of the steps, before compression
    coding: str
    body: bytes

    def request(self, sha256: str, size: int) -> Request:
        """Return the request that makes the file `sha256` of `size` bytes on a device."""
        fields = {"sha256": sha256, "size": size, "bases": list(self.bases), "script": self.script}
        return Request("rebuild", {**fields, "coding": self.coding}, self.body)


def delta_request(hello: Mapping[str, object], sha256: str, path: Path) -> Request | None:
    """Return the request that makes a file from what the device holds, None where sending it whole is as good.

    Bases are blobs of the device that lie beside `path` under their hash, as all files in the store of converted models do.
    """
    codings = tuple(str(coding) for coding in sequence_or_empty(hello.get("rebuild"))[:10])
    if "zlib" not in codings or path.name != sha256:
        return None  # an older agent, or a file that is not in the store
    held = mapping_or_empty(hello.get("blobs"))
    bases = [
        base for base, size in held.items() if is_sha(base) and base != sha256 and _size(path.parent / base) == size
    ]
    with _LOCK:  # many devices ask for the same at once
        found = _delta(path, tuple(sorted(bases)[:MAX_BASES]), "lzma" in codings) if bases else None
    return found.request(sha256, path.stat().st_size) if found else None


def packed_request(hello: Mapping[str, object], sha256: str, path: Path) -> Request | None:
    """Return the request that sends a file compressed, None where it saves less than 15 % or the device has a part of it.

    A device's sshd decrypts less then, which on small boards takes longer than zlib does.
    """
    begun = mapping_or_empty(hello.get("parts"))
    if path.name != sha256 or sha256 in begun or "zlib" not in sequence_or_empty(hello.get("rebuild"))[:10]:
        return None
    with _LOCK:  # many devices ask for the same at once
        found = _packed(path)
    return found.request(sha256, path.stat().st_size) if found else None


@lru_cache(maxsize=8)
def _packed(path: Path) -> Delta | None:
    """Return a file as new bytes alone."""
    if not _LEAST_SIZE <= _size(path) <= _MOST_PACKED:
        return None
    data = path.read_bytes()
    body = zlib.compress(data, 6)  # lzma saves 3 % more of a model's numbers, and takes a board's CPU ten times as long
    return Delta((), 0, "zlib", body) if len(body) <= len(data) * _MOST_PACKED_SHARE else None


def _size(path: Path) -> int:
    """Return a file's bytes, -1 when there is none."""
    return path.stat().st_size if path.is_file() else -1


@lru_cache(maxsize=32)
def _delta(path: Path, bases: tuple[str, ...], with_lzma: bool) -> Delta | None:
    """Return how to make the file from its neighbours `bases`."""
    size = path.stat().st_size
    if size < _LEAST_SIZE or size + sum(_size(path.parent / base) for base in bases) > _MOST_BYTES:
        return None
    return make_delta(path.read_bytes(), {base: (path.parent / base).read_bytes() for base in bases}, with_lzma)


def make_delta(data: bytes, bases: Mapping[str, bytes], with_lzma: bool = True) -> Delta | None:
    """Return how to make `data` from `bases` (SHA-256 to bytes), None where it saves less than 5 % of the bytes."""
    script, rest, used = bytearray(), [], [0] * len(bases)
    position = 0
    for copy in _copies(data, list(bases.values())):
        rest.append(data[position : copy.at])
        distance = copy.start - used[copy.base]
        for number in (copy.at - position, copy.base, (distance << 1) ^ (distance >> 63), copy.length):
            script += _leb128(number)
        used[copy.base] = copy.start + copy.length
        position = copy.at + copy.length
    rest.append(data[position:])
    if len(script) > MAX_SCRIPT:
        return None
    plain = bytes(script) + b"".join(rest)
    coding, body = "zlib", zlib.compress(plain, 9)
    if with_lzma and len(plain) <= _MOST_LZMA:
        smaller = lzma.compress(plain, filters=_LZMA)
        coding, body = min((coding, body), ("lzma", smaller), key=lambda packed: len(packed[1]))
    return Delta(tuple(bases), len(script), coding, body) if len(body) <= len(data) * _MOST_SHARE else None


class _Copy(NamedTuple):
    at: int  # offset in the file
    base: int  # index
    start: int  # offset in the base
    length: int  # bytes


def _copies(data: bytes, bases: Sequence[bytes]) -> Iterator[_Copy]:
    """Yield what of `data` is in `bases`, in the order of `data` and without overlaps."""
    seeds = _seeds(bases)
    position = done = searched = 0
    last = len(data) - _SEED
    while position <= last:
        found = seeds.get(data[position : position + _SEED])
        if found is not None:
            base, start = found
            back = _same_before(data, position, bases[base], start, position - done)
            length = back + _same_after(data, position, bases[base], start)
            if length >= _LEAST_COPY:
                yield _Copy(position - back, base, start - back, length)
                position = done = position - back + length
                continue
        step = 1 if searched < _SEARCHED else 4 - position % 4
        position += step
        searched += step


def _seeds(bases: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Return where seeds lie: bytes -> (index of the base, offset); the first place of each."""
    seeds: dict[bytes, tuple[int, int]] = {}
    for index, base in enumerate(bases):
        for offset in range(0, len(base) - _SEED + 1, _STRIDE):
            seed = base[offset : offset + _SEED]
            if seed[1:] != seed[:-1]:  # a run of one byte compresses well without
                seeds.setdefault(seed, (index, offset))
    return seeds


def _same_after(a: bytes, i: int, b: bytes, j: int) -> int:
    """Return how many bytes from offset `i` of `a` and `j` of `b` on are the same."""
    most, done, step = min(len(a) - i, len(b) - j), 0, 64
    while done < most and step:
        size = min(step, most - done)
        if a[i + done : i + done + size] == b[j + done : j + done + size]:
            done += size
            step *= 2
        else:
            step //= 2
    return done


def _same_before(a: bytes, i: int, b: bytes, j: int, most: int) -> int:
    """Return how many bytes just before offset `i` of `a` and `j` of `b` are the same, at most `most`."""
    most, count = min(most, j), 0
    while count < most and a[i - count - 1] == b[j - count - 1]:
        count += 1
    return count


def _leb128(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
