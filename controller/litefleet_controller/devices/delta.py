"""What of a file a device can copy from files that it holds, and the rest: a new model is mostly tensors of an old one.

The same weights are the same bytes in the .nb of another opt version, of another target and of a model whose last layer was
trained again.  Copies are found by content at any offset, so that moved, renamed and reordered tensors are found too.  The
device puts the file together (`rebuild`, agent releases/rebuild.py) and hashes it before it counts.
"""

from __future__ import annotations

import itertools
import lzma
import mmap
import shutil
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from litefleet_agent.facts.values import Disk
from litefleet_agent.formats.checked import is_sha
from litefleet_agent.releases.graph_offsets import Graph, with_turned
from litefleet_agent.releases.rebuild import MAX_BASES, MAX_DIFFERENCES, MAX_SCRIPT

from ..common.checked import mapping_or_empty, sequence_or_empty
from .agent_client import Request
from .graphs import graph_to_turn, graphs_of, with_turned_graph
from .near_copies import Content, Copy, differences, with_near_copies
from .planes import BLOCK, deflated_planes, in_planes

_LEAST_SIZE = 16 << 10  # bytes of a file below which a round trip costs more than it saves
_MOST_BYTES = 512 << 20  # of a file and its bases together: they are mapped, and read once
_MOST_SHARE = 0.95  # of the file: above it the file is sent as it is
_MOST_PACKED = 64 << 20  # bytes of a file that is compressed without bases
_MOST_PACKED_SHARE = 0.85  # of such a file: above it the file is sent as it is
_SPARE = 1 << 20  # bytes that stay free on the device's disk beside a file that is sent compressed
_SEED = 16  # bytes that begin a match
_STRIDE = 128  # bytes from one seed of a base to the next, at least
_MOST_SEEDS = 1 << 17  # of all bases: they take 190 bytes each, so that those of large files lie further apart
_MAPPED = 8 << 20  # bytes that are read before the pages of mapped files are given back
_PIECE = 1 << 20  # bytes compressed at once
_HELD = 1 << 20  # bytes of a body above which it is a file
_FILES = 16  # such files that are kept
_LEAST_COPY = 256  # bytes; shorter ones break up what lzma finds by itself (measured on three models, 16 to 512)
_SEARCHED = 4 << 20  # bytes of the file in which a match may begin at any byte, then at every fourth
_MOST_LZMA = 8 << 20  # bytes of a rest that is also tried with lzma, which takes 0.5 s per MB
# Contexts of four bytes, as numbers of 32 bits and flatbuffers have: 2 to 9 % less than lzma's defaults on three models.
_LZMA = ({"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2},)
_LZMA_OF_BYTES = (
    {"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0},
)  # of differences, and of planes
_GRAPH_FIELD = 20  # bytes that the place of a graph takes in a request's header
_LOCK = threading.Lock()
_UNKNOWN_DISK = Disk()


class Delta(NamedTuple):
    """How to make a file from others."""

    bases: tuple[str, ...]  # SHA-256
    script: int  # bytes of the steps, before compression
    coding: str
    body: bytes | Path  # a file, where it is large
    differences: int = 0  # bytes after the steps that are added to what is copied; 0: the steps have no such copies
    planes: int = 0  # bytes of a block of new bytes, which are sent in planes (planes.py); 0: they are sent as they are
    graphs: tuple[Graph, ...] = ()  # that are turned (graphs.py): the file's, and each base's; (): none

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return _length(self.body)

    def request(self, sha256: str, size: int) -> Request:
        """Return the request that makes the file `sha256` of `size` bytes on a device."""
        fields = {"sha256": sha256, "size": size, "bases": list(self.bases), "script": self.script}
        fields.update({name: n for name, n in (("differences", self.differences), ("planes", self.planes)) if n})
        if self.graphs:
            fields["graphs"] = [list(graph) for graph in self.graphs]
        return Request("rebuild", {**fields, "coding": self.coding}, self.body)


class Codings(NamedTuple):
    """What an agent can undo, besides zlib."""

    lzma: bool = True
    near: bool = True  # copies that are nearly right
    planes: bool = True
    graphs: bool = True  # whose offsets are counted from the end

    @classmethod
    def of(cls, hello: Mapping[str, object]) -> Codings | None:
        """Return what the device announces, None where it puts no files together."""
        told = sequence_or_empty(hello.get("rebuild"))[:10]
        return cls(*(name in told for name in cls._fields)) if "zlib" in told else None


_ALL = Codings()


def delta_request(hello: Mapping[str, object], sha256: str, path: Path) -> Request | None:
    """Return the request that makes a file from what the device holds, None where sending it whole is as good.

    Bases are blobs of the device that lie beside `path` under their hash, as all files in the store of converted models do.
    """
    codings = Codings.of(hello)
    if codings is None or path.name != sha256:
        return None  # an older agent, or a file that is not in the store
    held = mapping_or_empty(hello.get("blobs"))
    bases = [
        base for base, size in held.items() if is_sha(base) and base != sha256 and _size(path.parent / base) == size
    ]
    with _LOCK:  # many devices ask for the same at once
        found = _delta(path, tuple(sorted(bases)[:MAX_BASES]), codings) if bases else None
    return found.request(sha256, path.stat().st_size) if found else None


def packed_request(hello: Mapping[str, object], sha256: str, path: Path, disk: Disk = _UNKNOWN_DISK) -> Request | None:
    """Return the request that sends a file compressed, None where it saves less than 15 %.

    None too where the device has a part of it, or no room for the compressed bytes beside the file.

    A device's sshd decrypts less then, which on small boards takes longer than zlib does.
    """
    begun, codings = mapping_or_empty(hello.get("parts")), Codings.of(hello)
    if path.name != sha256 or sha256 in begun or codings is None:
        return None
    with _LOCK:  # many devices ask for the same at once
        found = _packed(path, codings.planes, codings.graphs)
    if found is None or (disk.total and disk.free < path.stat().st_size + found.size + _SPARE):
        return None
    return found.request(sha256, path.stat().st_size)


@lru_cache(maxsize=8)
def _packed(path: Path, with_planes: bool, with_graphs: bool) -> Delta | None:
    """Return a file as new bytes alone, in planes and with its graph turned where that is smaller."""
    if not _LEAST_SIZE <= _size(path) <= _MOST_PACKED:
        return None
    with ExitStack() as stack:
        data = _mapped(stack, path)
        graph = graph_to_turn(data) if with_graphs else Graph()
        # lzma saves 3 % more of a model's numbers, and takes a board's CPU ten times as long
        most = int(len(data) * _MOST_PACKED_SHARE)
        found = _smallest_zlib(b"", lambda: with_turned(_pieces(data, 0, len(data)), graph), 6, most, with_planes)
    turned = (graph,) if graph.size else ()
    return Delta((), 0, "zlib", found[0], planes=found[1], graphs=turned) if found else None


def _size(path: Path) -> int:
    """Return a file's bytes, -1 when there is none."""
    return path.stat().st_size if path.is_file() else -1


@lru_cache(maxsize=32)
def _delta(path: Path, bases: tuple[str, ...], codings: Codings) -> Delta | None:
    """Return how to make the file from its neighbours `bases`."""
    size = path.stat().st_size
    if size < _LEAST_SIZE or size + sum(_size(path.parent / base) for base in bases) > _MOST_BYTES:
        return None
    with ExitStack() as stack:
        held = {base: _mapped(stack, path.parent / base) for base in bases if _size(path.parent / base) > 0}
        return make_delta(_mapped(stack, path), held, codings)


def make_delta(data: Content, bases: Mapping[str, Content], codings: Codings = _ALL) -> Delta | None:
    """Return how to make `data` from `bases` (SHA-256 to bytes), None where it saves less than 5 % of the bytes.

    The smallest of several ways: with exact copies of the files as they are, or of the files with their graphs turned, for agents
    with `codings.graphs`; with nearly right copies added to the smaller one of these, for agents with `codings.near`.
    """
    ways = [_Way(data, bases)]
    if codings.graphs and (graphs := graphs_of(data, list(bases.values()))):
        file, *others = map(with_turned_graph, (data, *bases.values()), graphs)
        ways.append(_Way(file, dict(zip(bases, others, strict=True)), graphs))
    tried = [(way, list(_copies(way.data, list(way.bases.values())))) for way in ways]
    made = [_made(way, exact, b"", codings) for way, exact in tried]
    found, (way, exact) = min(zip(made, tried, strict=True), key=lambda pair: _cost(pair[0]))
    old = list(way.bases.values())
    near = with_near_copies(way.data, old, exact) if codings.near else exact
    if any(copy.near for copy in near):
        added = differences(way.data, old, near)
        smaller = _made(way, near, added, codings) if len(added) <= MAX_DIFFERENCES else None
        found = min(found, smaller, key=_cost)
    return found


class _Way(NamedTuple):
    """The bytes that are compared: the files, or the files with their graphs turned."""

    data: Content
    bases: Mapping[str, Content]
    graphs: tuple[Graph, ...] = ()


def _cost(delta: Delta | None) -> int:
    """Return the bytes that a delta takes with what it adds to the request's header, for a comparison; many for None."""
    return delta.size + _GRAPH_FIELD * len(delta.graphs) if delta else sys.maxsize


def _made(way: _Way, copies: Sequence[Copy], added: bytes, codings: Codings) -> Delta | None:
    """Return the delta of these copies, with what is added to them; None where it saves too little or has too many steps."""
    data, bases = way.data, way.bases
    script, rest, used = bytearray(), [], [0] * len(bases)
    position = 0
    for copy in copies:
        rest.append((position, copy.at))
        distance = copy.start - used[copy.base]
        length = copy.length << 1 | copy.near if added else copy.length
        for number in (copy.at - position, copy.base, (distance << 1) ^ (distance >> 63), length):
            script += _leb128(number)
        used[copy.base] = copy.start + copy.length
        position = copy.at + copy.length
    rest.append((position, len(data)))
    if len(script) > MAX_SCRIPT:
        return None

    def new() -> Iterator[bytes]:
        return itertools.chain.from_iterable(_pieces(data, start, end) for start, end in rest)

    head, size = bytes(script) + added, sum(end - start for start, end in rest)
    most = int(len(data) * _MOST_SHARE)
    with_planes = codings.planes and size >= _LEAST_SIZE
    found = _smallest_zlib(head, new, 9, most, with_planes)
    body, planes, coding = (*found, "zlib") if found else (None, 0, "")
    if codings.lzma and len(head) + size <= _MOST_LZMA:
        whole = b"".join((head, *(itertools.chain.from_iterable(in_planes(new())) if planes else new())))
        filters = (_LZMA_OF_BYTES,) if planes else (_LZMA, _LZMA_OF_BYTES) if added else (_LZMA,)
        packed = min((lzma.compress(whole, filters=chosen) for chosen in filters), key=len)
        if len(packed) <= most and (body is None or len(packed) < _length(body)):
            body, coding = packed, "lzma"
    return Delta(tuple(bases), len(script), coding, body, len(added), planes, way.graphs) if body is not None else None


_New: TypeAlias = Callable[[], Iterator[bytes]]  # gives the new bytes


def _smallest_zlib(head: bytes, new: _New, level: int, most: int, with_planes: bool) -> tuple[bytes | Path, int] | None:
    """Return `head` and the new bytes compressed, and the bytes of a block of planes (0: none); None above `most` bytes."""
    planed, split = None, [0, 0]  # blocks that are not in planes, and those that are

    def blocks() -> Iterator[list[bytes]]:
        for parts in in_planes(new()):
            split[len(parts) > 1] += 1
            yield parts

    if with_planes:
        planed = _kept(deflated_planes(head, blocks(), level), most)
        if planed is not None and split[1] > split[0]:
            return planed, BLOCK
    plain = _kept(_deflated(itertools.chain((head,), new()), level), most if planed is None else _length(planed))
    if plain is not None:
        return plain, 0
    return (planed, BLOCK) if planed is not None else None


def _mapped(stack: ExitStack, path: Path) -> mmap.mmap:
    """Return a file's bytes, which are read as they are used, until the stack is closed."""
    with path.open("rb") as file:
        return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _give_back(contents: Iterable[Content]) -> None:
    """Let the pages go that were read of mapped files: they would count as this process's memory."""
    for content in contents:
        if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            content.madvise(mmap.MADV_DONTNEED)


def _pieces(data: Content, start: int, end: int) -> Iterator[bytes]:
    for place in range(start, end, _PIECE):
        yield data[place : min(place + _PIECE, end)]
        _give_back([data] if (place - start) % _MAPPED == 0 else ())


def _deflated(pieces: Iterable[bytes], level: int) -> Iterator[bytes]:
    packer = zlib.compressobj(level)
    yield from map(packer.compress, pieces)
    yield packer.flush()


def _kept(packed: Iterable[bytes], most: int) -> bytes | Path | None:
    """Return the bytes together, in a file if they are many; None as soon as they are more than `most`."""
    size = 0
    with tempfile.SpooledTemporaryFile(max_size=_HELD) as spool:
        for piece in packed:
            size += len(piece)
            if size > most:
                return None
            spool.write(piece)
        spool.seek(0)
        return spool.read() if size <= _HELD else _FOLDER.keep(spool)


def _length(body: bytes | Path) -> int:
    return body.stat().st_size if isinstance(body, Path) else len(body)


class _Folder:
    """Large bodies in a folder of this process, which is removed when the process ends; the oldest make way."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._made: list[Path] = []

    def keep(self, body: IO[bytes]) -> Path:
        """Return a file with what is left of `body`."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="litefleet-delta-")
        with tempfile.NamedTemporaryFile(dir=self._folder.name, delete=False) as file:
            shutil.copyfileobj(body, file, _PIECE)
        self._made.append(Path(file.name))
        while len(self._made) > _FILES:
            self._made.pop(0).unlink(missing_ok=True)
        return Path(file.name)


_FOLDER = _Folder()


def _copies(data: Content, bases: Sequence[Content]) -> Iterator[Copy]:
    """Yield what of `data` is in `bases`, in the order of `data` and without overlaps."""
    seeds = _seeds(bases)
    position = done = searched = 0
    read = _MAPPED
    last = len(data) - _SEED
    while position <= last:
        if position > read:
            _give_back((data, *bases))
            read = position + _MAPPED
        found = seeds.get(hash(data[position : position + _SEED]))
        if found is not None:
            base, start = found % len(bases), found // len(bases)
            back = _same_before(data, position, bases[base], start, position - done)
            length = back + _same_after(data, position, bases[base], start)
            if length >= _LEAST_COPY:
                yield Copy(position - back, base, start - back, length)
                position = done = position - back + length
                continue
        step = 1 if searched < _SEARCHED else 4 - position % 4
        position += step
        searched += step


def _seeds(bases: Sequence[Content]) -> dict[int, int]:
    """Return where seeds lie: their hash -> offset times the number of bases, plus the base's index; the first place of each."""
    seeds: dict[int, int] = {}
    stride = max(_STRIDE, sum(map(len, bases)) // _MOST_SEEDS // _STRIDE * _STRIDE)
    for index, base in enumerate(bases):
        for offset in range(0, len(base) - _SEED + 1, stride):
            seed = base[offset : offset + _SEED]
            if seed[1:] != seed[:-1]:  # a run of one byte compresses well without
                seeds.setdefault(hash(seed), offset * len(bases) + index)
            if offset % _MAPPED == 0:
                _give_back((base,))
    return seeds


def _same_after(a: Content, i: int, b: Content, j: int) -> int:
    """Return how many bytes from offset `i` of `a` and `j` of `b` on are the same."""
    most, done, step, read = min(len(a) - i, len(b) - j), 0, 64, _MAPPED
    while done < most and step:
        if done > read:
            _give_back((a, b))
            read = done + _MAPPED
        size = min(step, most - done)
        if a[i + done : i + done + size] == b[j + done : j + done + size]:
            done += size
            step = min(step * 2, _PIECE)
        else:
            step //= 2
    return done


def _same_before(a: Content, i: int, b: Content, j: int, most: int) -> int:
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
