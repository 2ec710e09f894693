"""Puts a blob together from blobs that are here and from bytes that were sent: a new model is mostly copies of an old one.

The body is compressed ("zlib" or "lzma"), and comes with the request or came before it as a blob of its own.  Its first `script`
bytes are steps, the rest are the new bytes.  A step is four unsigned LEB128 numbers: how many new bytes come first, then from
which base (its index in `bases`), from where in it (the zigzag-coded distance from the end of the copy before in that base) and
how many bytes are copied.  Where the request has `differences`, so many bytes come after the steps, and the last number is twice
the length, plus 1 for a copy that is nearly right: to its bytes the next differences are added, modulo 256.  Where it has
`planes`, the new bytes come in blocks of so many bytes, the last one of fewer: first a byte, the stride (1, 2 or 4), then every
stride-th byte from the first one on, every stride-th from the second one on, and so forth.  Where it has `graphs`, all of that
is said of files whose graphs are turned (graph_offsets.py), and the result's is turned back at the end.  The controller's
devices/delta.py writes it.  The result counts only when it has the hash that names it.
"""

import os
import stat
from contextlib import ExitStack
from itertools import repeat
from typing import BinaryIO, Callable, Dict, Iterable, Iterator, NamedTuple, Sequence, Tuple

from ..errors import AgentError
from ..formats.checked import items, text, whole
from ..protocol import MAX_BODY, Header
from .graph_offsets import Base, Graph, graphs_of_request, with_turned
from .parts import taken
from .store import Store, StoreError

MAX_BASES = 8
MAX_SCRIPT = 4 << 20  # bytes of all steps
MAX_DIFFERENCES = 1 << 20  # bytes, which are held in memory as the steps are
MAX_BLOCK = 1 << 20  # bytes whose planes are held in memory at once
_PIECE = 1 << 16  # bytes copied or decompressed at once
_LZMA_MEMORY = 96 << 20  # bytes that a decoder may take; the controller's needs 9 MB (a dictionary of 8 MiB)
_STRIDES = (1, 2, 4)
_LONGEST_NUMBER = 6  # bytes of one number: 42 bits


class _Unfit(Exception):
    """The body is not what the request says."""


class RebuildRequest(NamedTuple):
    """The fields of a request."""

    sha256: str  # of the result
    size: int  # bytes of the result
    bases: Tuple[str, ...]  # SHA-256 of blobs that are here
    script: int  # bytes of the steps, before compression
    coding: str
    steps: str = ""  # SHA-256 of the blob that holds the body; "": it came with the request
    differences: int = 0  # bytes after the steps that are added to copies
    planes: int = 0  # bytes of a block of new bytes, which come in planes; 0: as they are
    graphs: Tuple[Graph, ...] = ()  # that are turned: the result's, and each base's; (): none

    @classmethod
    def from_header(cls, header: Header) -> "RebuildRequest":
        """Read {sha256, size, bases, script, coding, steps, differences, planes, graphs}.  Raises AgentError "bad-request"."""
        try:
            bases = tuple(text(base, 64, "`bases`") for base in items(header.get("bases"), MAX_BASES))
            coding = text(header.get("coding"), 20, "`coding`")
            if coding not in _DECODERS:
                raise ValueError("`coding` is %r; this agent knows %s" % (coding, ", ".join(sorted(_DECODERS))))
            size = whole(header.get("size"), 0, MAX_BODY, "`size`")
            script = whole(header.get("script"), 0, MAX_SCRIPT, "`script`")
            steps = text(header.get("steps", ""), 64, "`steps`")
            differences = whole(header.get("differences", 0), 0, MAX_DIFFERENCES, "`differences`")
            planes = whole(header.get("planes", 0), 0, MAX_BLOCK, "`planes`")
            graphs = graphs_of_request(header.get("graphs", []), size, len(bases))
            sha256 = text(header.get("sha256"), 64, "`sha256`")
            return cls(sha256, size, bases, script, coding, steps, differences, planes, graphs)
        except ValueError as error:
            raise AgentError("the request does not fit: %s" % error, "bad-request") from None


def rebuild(store: Store, request: RebuildRequest, body: Iterable[bytes]) -> None:
    """Store the blob that the steps in `body`, or in the blob that the request names, give, or nothing.

    Raises StoreError: "missing" for a base that is not here, "bad-request" for a body that is none, and those of `Store.put`.
    """
    if request.steps:
        body = taken(store, request.steps)
    with ExitStack() as stack:
        files = [stack.enter_context(_open(store, sha)) for sha in request.bases]
        try:
            graphs = request.graphs[1:] or repeat(Graph())
            bases = [_base(file, graph) for file, graph in zip(files, graphs)]  # noqa: B905 - 3.7
            result = _result(request, bases, body)
            if request.graphs:
                result = with_turned(result, request.graphs[0])
            store.put(request.sha256, request.size, result)
        except _Unfit as error:
            raise StoreError(
                "the blob %s cannot be rebuilt: %s" % (request.sha256[:12], error), "bad-request"
            ) from None


def _open(store: Store, sha: str) -> BinaryIO:
    try:
        fd = os.open(store.blob(sha), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise StoreError("the blob %s is not on this device" % sha[:12], "missing") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError("the blob %s is no regular file" % sha[:12], "missing")
    return os.fdopen(fd, "rb")


def _base(file: BinaryIO, graph: Graph) -> Base:
    if graph.end > os.fstat(file.fileno()).st_size:
        raise _Unfit("the graph of one of its bases ends behind it")
    return Base(file, graph)


def _result(request: RebuildRequest, bases: Sequence[Base], body: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the result's bytes, never more than `request.size`.  Raises _Unfit."""
    new = _Reader(_DECODERS[request.coding](body))
    steps, left = _numbers(b"".join(new.take(request.script))), request.size
    added = _Differences(b"".join(new.take(request.differences)))
    if request.planes:
        new = _Reader(_joined(new, request.planes))
    ends = [0] * len(bases)
    for count in steps:
        left = _rest(left, count)
        yield from new.take(count)
        index, distance, length = next(steps), next(steps), next(steps)
        if index >= len(bases):
            raise _Unfit("a step copies from base %d of %d" % (index, len(bases)))
        near = bool(request.differences and length & 1)
        length >>= bool(request.differences)
        left = _rest(left, length)
        start = ends[index] + ((distance >> 1) ^ -(distance & 1))
        copied = _copy(bases[index], start, length)
        yield from map(added.added_to, copied) if near else copied
        ends[index] = start + length
    yield from new.take(left)
    if not new.ended() or added.left:
        raise _Unfit("more bytes came than the result has")


def _joined(planes: "_Reader", block: int) -> Iterator[bytes]:
    """Yield blocks that came in planes.  Raises _Unfit for a stride that there is not."""
    while not planes.ended():
        stride = ord(b"".join(planes.take(1)))
        if stride not in _STRIDES:
            raise _Unfit("a block of its new bytes has the stride %d" % stride)
        held = b"".join(planes.up_to(block))
        if not held:
            raise _Unfit("a block of its new bytes is empty")
        whole, place = bytearray(len(held)), 0
        for first in range(stride):
            end = place + len(range(first, len(held), stride))
            whole[first::stride] = held[place:end]
            place = end
        yield bytes(whole)


class _Differences:
    """The bytes that are added to copies."""

    def __init__(self, added: bytes) -> None:
        self._added, self._at = added, 0

    @property
    def left(self) -> int:
        """How many are left."""
        return len(self._added) - self._at

    def added_to(self, piece: bytes) -> bytes:
        """Return the bytes plus the next differences, each modulo 256.  Raises _Unfit when there are fewer.

        All bytes are added at once as parts of one number: their lower seven bits cannot carry, the eighth is added apart.
        """
        size = len(piece)
        if size > self.left:
            raise _Unfit("it has fewer differences than its steps add")
        a = int.from_bytes(piece, "big")
        b = int.from_bytes(self._added[self._at : self._at + size], "big")
        self._at += size
        low = int.from_bytes(b"\x7f" * size, "big")
        high = low + int.from_bytes(b"\x01" * size, "big")
        return (((a & low) + (b & low)) ^ ((a ^ b) & high)).to_bytes(size, "big")


def _rest(left: int, count: int) -> int:
    if count > left:
        raise _Unfit("its steps give more bytes than the result has")
    return left - count


def _numbers(script: bytes) -> Iterator[int]:
    """Yield the numbers of the steps.  Raises _Unfit when the last step is not whole."""
    value = shift = count = 0
    for byte in script:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value, shift, count = 0, 0, count + 1
        elif shift >= 7 * _LONGEST_NUMBER:
            raise _Unfit("a number of its steps is too long")
    if shift or count % 4:
        raise _Unfit("its last step is not whole")


def _copy(base: Base, start: int, length: int) -> Iterator[bytes]:
    if start < 0:
        raise _Unfit("a step begins before its base does")
    while length:
        piece = base.read(start, min(length, _PIECE))
        if not piece:
            raise _Unfit("a step ends behind its base")
        start, length = start + len(piece), length - len(piece)
        yield piece


class _Reader:
    """The decompressed bytes, in the pieces that the steps need."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece = pieces, b""

    def take(self, count: int) -> Iterator[bytes]:
        """Yield the next `count` bytes.  Raises _Unfit when there are fewer."""
        for piece in self.up_to(count):
            count -= len(piece)
            yield piece
        if count:
            raise _Unfit("it ends too early")

    def up_to(self, count: int) -> Iterator[bytes]:
        """Yield the next `count` bytes, or all that are left."""
        while count and not self.ended():
            piece, self._piece = self._piece[:count], self._piece[count:]
            count -= len(piece)
            yield piece

    def ended(self) -> bool:
        """Say whether all bytes were taken."""
        self._piece = self._piece or next(self._pieces, b"")
        return not self._piece


def _inflate(body: Iterable[bytes]) -> Iterator[bytes]:
    import zlib

    decoder = zlib.decompressobj()
    try:
        for chunk in body:
            while chunk:
                piece = decoder.decompress(chunk, _PIECE)
                chunk = decoder.unconsumed_tail
                if piece:
                    yield piece
        rest = decoder.flush()
    except zlib.error as error:
        raise _Unfit(str(error)) from None
    if rest:
        yield rest
    if not decoder.eof or decoder.unused_data:
        raise _Unfit("its compressed bytes are not whole")


def _unpack_lzma(body: Iterable[bytes]) -> Iterator[bytes]:
    import lzma

    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
    try:
        for chunk in body:
            piece = decoder.decompress(chunk, _PIECE)
            while piece:
                yield piece
                piece = b"" if decoder.eof or decoder.needs_input else decoder.decompress(b"", _PIECE)
    except (lzma.LZMAError, EOFError) as error:
        raise _Unfit(str(error)) from None
    if not decoder.eof or decoder.unused_data:
        raise _Unfit("its compressed bytes are not whole")


_DECODERS: Dict[str, Callable[[Iterable[bytes]], Iterator[bytes]]] = {"zlib": _inflate, "lzma": _unpack_lzma}
