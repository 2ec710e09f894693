"""A graph whose offsets are counted from its end, so that those of two versions of it are alike.

The graph of a .nb is a FlatBuffer: its 32-bit offsets are relative to where they stand, so that an attribute which is added moves
nearly all long ones.  What they lead to (the layouts of tables, shared texts) mostly lies at the graph's end, and at the same
distance from it in another version.  A word at byte p of a graph of n bytes, p a multiple of 4, is read as a little-endian signed
number v; where 4096 <= abs(v) < n - p, it becomes n + 4095 - p - abs(v) with the sign of v, unless the four bytes before it are
all printable ASCII, as it may be the end of a text then.  That number is in the same bounds, so that the same again gives v back.
"""

import struct
from typing import BinaryIO, Iterable, Iterator, NamedTuple, Tuple

from ..formats.checked import items, whole
from ..protocol import MAX_BODY

MAX_GRAPHS = 8 << 20  # bytes of all graphs of a request, which are held in memory
_LEAST = 4096  # of a long offset; shorter ones are alike in many tables as they are
_WORD = struct.Struct("<i")


class Graph(NamedTuple):
    """Where a file's graph lies in it."""

    start: int = 0
    size: int = 0  # bytes; 0: the file has none

    @property
    def end(self) -> int:
        """Return where it ends."""
        return self.start + self.size


def graphs_of_request(value: object, size: int, bases: int) -> Tuple[Graph, ...]:
    """Read a list of [start, size], of a result of `size` bytes and of each of its bases; () for none.  Raises ValueError."""
    pairs = [items(pair, 2, "each of `graphs`") for pair in items(value, bases + 1, "`graphs`")]
    if pairs and (len(pairs) != bases + 1 or any(len(pair) != 2 for pair in pairs)):
        raise ValueError("`graphs` must have [start, size] of the result and of each base")
    graphs = tuple(
        Graph(
            whole(start, 0, MAX_BODY, "the start of one of `graphs`"),
            whole(length, 0, MAX_GRAPHS, "the size of one of `graphs`"),
        )
        for start, length in pairs
    )
    if sum(graph.size for graph in graphs) > MAX_GRAPHS:
        raise ValueError("`graphs` are larger than %d bytes" % MAX_GRAPHS)
    if graphs and graphs[0].end > size:
        raise ValueError("the result's graph ends at byte %d of %d" % (graphs[0].end, size))
    return graphs


def turned(graph: bytes) -> bytes:
    """Return the graph with its long offsets counted from its end, or back as they were: it is the same for both."""
    out, size = bytearray(graph), len(graph)
    place = -4
    for (value,) in _WORD.iter_unpack(memoryview(graph)[: size // 4 * 4]):
        place += 4
        if -_LEAST < value < _LEAST or abs(value) >= size - place or _is_text(graph[max(place - 4, 0) : place]):
            continue
        other = size + _LEAST - 1 - place - abs(value)
        _WORD.pack_into(out, place, other if value > 0 else -other)
    return bytes(out)


def _is_text(word: bytes) -> bool:
    """Say whether a word has four printable characters.  Such a word is never changed: as a number it is too large."""
    return len(word) == 4 and min(word) >= 32 and max(word) < 127


def with_turned(pieces: Iterable[bytes], graph: Graph) -> Iterator[bytes]:
    """Yield a file's bytes with its graph turned, which is held until it is whole."""
    before, held = graph.start, bytearray()
    for piece in pieces:
        if before:
            head, piece = piece[:before], piece[before:]
            before -= len(head)
            yield head
        if piece and not before and len(held) < graph.size:
            room = graph.size - len(held)
            held += piece[:room]
            piece = piece[room:]
            if len(held) == graph.size:
                yield turned(bytes(held))
        if piece:
            yield piece


class Base:
    """A file to copy from, whose graph is turned when the first bytes of it are read."""

    def __init__(self, file: BinaryIO, graph: Graph) -> None:
        self._file, self._graph = file, graph
        self._turned = b""

    def read(self, start: int, most: int) -> bytes:
        """Return up to `most` bytes from `start` on; none at the end."""
        self._file.seek(start)
        piece = self._file.read(most)
        first, last = max(start, self._graph.start), min(start + len(piece), self._graph.end)
        if first >= last:
            return piece
        if not self._turned:
            self._file.seek(self._graph.start)
            self._turned = turned(self._file.read(self._graph.size))
        inside = self._turned[first - self._graph.start : last - self._graph.start]
        return piece[: first - start] + inside + piece[last - start :]
