"""The one frame decoder, against the hostile streams of all its users: service, worker, client, session and controller."""

from __future__ import annotations

import struct
import time
import tracemalloc
import typing
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.protocol import MAX_BODY, MAX_HEADER, FrameDecoder, ProtocolError, encode

Frame = typing.Tuple[dict, bytes]  # noqa: UP006 - Python 3.7 cannot subscript tuple
HEADERS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4)
FRAMES = st.lists(st.tuples(HEADERS, st.binary(max_size=300)), max_size=6)
CUTS = st.lists(st.integers(0, 3000), max_size=12)


def bytes_of(frames: list[Frame]) -> bytes:
    return b"".join(encode(header, len(body)) + body for header, body in frames)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    edges = [0, *ends, len(data)]
    return [data[edges[i] : edges[i + 1]] for i in range(len(edges) - 1)]


class Reader:
    """Feeds one decoder and takes the bodies in one of the ways in which transports do."""

    def __init__(self, way: str, **limits: int) -> None:
        self.way = way
        self.decoder = FrameDecoder(preallocate=100 if way == "buffer" else 0, **limits)
        self._parts = b""

    def frames(self, piece: bytes) -> Iterator[Frame]:
        if self.way == "buffer":
            piece = self._receive(piece)
        self.decoder.feed(piece)
        while True:
            if self.decoder.header is None and self.decoder.next_header() is None:
                return
            header, body = self.decoder.header, self._body()
            if body is None:
                return
            assert header is not None
            yield header, body
            if self.way == "buffer":  # what the decoder had no room for in its buffer
                piece, self._left = self._left, b""
                self.decoder.feed(self._receive(piece))

    _left = b""

    def _receive(self, piece: bytes) -> bytes:
        """Receive into the decoder's buffer while a body is being collected, as `recv_into` does; return the rest."""
        piece, self._left = self._left + piece, b""
        while piece and self.decoder.collecting and self.decoder.missing:
            with self.decoder.get_buffer() as view:
                count = min(len(view), len(piece), 7)
                view[:count] = piece[:count]
            self.decoder.buffer_updated(count)
            piece = piece[count:]
        if self.decoder.collecting and not self.decoder.missing:
            self._left = piece
            return b""
        return piece

    def _body(self) -> bytes | None:
        if self.way == "array":
            array = self.decoder.body_array()
            return None if array is None else bytes(array)
        if self.way != "chunks":
            return self.decoder.body()
        while self.decoder.missing:
            chunk = self.decoder.chunk(11)
            if not chunk:
                return None
            self._parts += chunk
        self.decoder.drop_body()
        whole, self._parts = self._parts, b""
        return whole


WAYS = pytest.mark.parametrize("way", ["body", "array", "chunks", "buffer"])


@WAYS
@settings(max_examples=150, deadline=None)
@given(frames=FRAMES, cuts=CUTS)
def test_any_frames_in_any_pieces_come_out_whole_and_in_order(way: str, frames: list[Frame], cuts: list[int]) -> None:
    reader = Reader(way)
    assert [frame for piece in split(bytes_of(frames), cuts) for frame in reader.frames(piece)] == frames
    assert not reader.decoder.begun
    assert reader.decoder.buffered == 0


@WAYS
def test_frames_that_come_byte_by_byte(way: str) -> None:
    frames = [({"id": 1}, b"abc"), ({}, b""), ({"id": 3}, bytes(300))]
    reader, data = Reader(way), bytes_of([({"id": 1}, b"abc"), ({}, b""), ({"id": 3}, bytes(300))])
    assert [frame for i in range(len(data)) for frame in reader.frames(data[i : i + 1])] == frames


@WAYS
def test_a_stream_cut_at_any_byte_gives_the_whole_frames_and_says_that_one_has_begun(way: str) -> None:
    frames = [({"id": 1}, b"12345"), ({"id": 2}, b""), ({"id": 3}, b"xyz")]
    data = bytes_of(frames)
    ends = [len(bytes_of(frames[:count])) for count in range(4)]
    for cut in range(len(data) + 1):
        reader = Reader(way)
        got = list(reader.frames(data[:cut]))
        assert got == frames[: sum(end <= cut for end in ends) - 1]
        assert reader.decoder.begun is (cut not in ends)


@WAYS
@settings(max_examples=100, deadline=None)
@given(frames=FRAMES, cuts=CUTS, data=st.binary(min_size=1, max_size=200))
def test_garbage_behind_frames_is_an_error_and_never_a_frame(
    way: str, frames: list[Frame], cuts: list[int], data: bytes
) -> None:
    if b"LFF1".startswith(data[:4]):
        data = b"x" + data
    reader, got = Reader(way), []

    def read() -> None:
        for piece in split(bytes_of(frames) + data, cuts):
            got.extend(reader.frames(piece))

    with pytest.raises(ProtocolError, match="expected a frame"):
        read()
    assert got == frames


@WAYS
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "expected a frame, got the bytes b'G"),
        (b"x", "expected a frame, got the bytes b'x'"),
        (b"LFF2", "expected a frame"),
        (
            struct.pack(">4sIQ", b"LFF1", 1 << 30, 0),
            "1073741824 header and 0 body bytes: too large, the limits are 100",
        ),
        (struct.pack(">4sIQ", b"LFF1", 2, 1 << 63), "too large"),
        (struct.pack(">4sIQ", b"LFF1", 101, 0), "too large"),
        (
            struct.pack(">4sIQ", b"LFF1", 2, 1001),
            "2 header and 1001 body bytes: too large, the limits are 100 and 1000",
        ),
        (struct.pack(">4sIQ", b"LFF1", 0, 0), "is not JSON: b''"),
        (struct.pack(">4sIQ", b"LFF1", 2, 0) + b"[]", "is not a JSON object"),
        (struct.pack(">4sIQ", b"LFF1", 3, 0) + b"\xff\xfe\x00", "is not JSON"),
        (struct.pack(">4sIQ", b"LFF1", 4, 9) + b"{{{{", "is not JSON"),
        (struct.pack(">4sIQ", b"LFF1", 100, 0) + b"[" * 100, "is not JSON"),
    ],
    ids=range(12),
)
def test_what_is_no_frame_is_named_at_once_however_it_is_cut(way: str, data: bytes, words: str) -> None:
    for cut in range(len(data)):
        reader = Reader(way, max_header=100, max_body=1000)

        def read(reader: Reader = reader, cut: int = cut) -> None:
            assert list(reader.frames(data[:cut])) == []
            assert list(reader.frames(data[cut:])) == []

        with pytest.raises(ProtocolError, match=words) as caught:
            read()
        assert len(str(caught.value)) < 500


def test_the_protocols_own_limits_hold_before_the_bytes_come() -> None:
    for header, body in ((MAX_HEADER + 1, 0), (0, MAX_BODY + 1)):
        decoder = FrameDecoder()
        decoder.feed(struct.pack(">4sIQ", b"LFF1", header, body))
        with pytest.raises(ProtocolError, match=f"a frame announces {header} header and {body} body bytes: too large"):
            decoder.next_header()


def test_an_announced_size_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        readers = [Reader("body") for _ in range(20)]
        for reader in readers:
            assert list(reader.frames(encode({"id": 1}, 2 << 30) + b"x" * 1000)) == []
        assert [reader.decoder.buffered for reader in readers] == [1000] * 20
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_memory_is_taken_as_preallocated_and_no_further() -> None:
    decoder = FrameDecoder(preallocate=1000)
    decoder.feed(encode({"id": 1}, 2500) + b"abc")
    assert decoder.next_header() == {"id": 1}
    assert decoder.body() is None
    sizes = []
    while decoder.missing:
        with decoder.get_buffer() as view:
            sizes.append(len(view))
            view[:] = b"x" * len(view)
        decoder.buffer_updated(sizes[-1])
    assert sizes == [1000, 1000, 497]
    assert decoder.body() == b"abc" + b"x" * 2497


def test_pieces_may_be_fed_into_a_buffer_that_is_half_full() -> None:
    decoder = FrameDecoder(preallocate=1000)
    decoder.feed(encode({"id": 1}, 12) + b"ab")
    decoder.next_header()
    assert decoder.body() is None
    decoder.feed(b"cdef")
    with decoder.get_buffer() as view:
        view[:3] = b"ghi"
    decoder.buffer_updated(3)
    assert decoder.body() is None
    decoder.feed(b"jkl" + encode({"id": 2}))
    assert decoder.body() == b"abcdefghijkl"
    assert decoder.next_header() == {"id": 2}


@pytest.mark.parametrize("taken", ["nothing", "a chunk", "a part"])
def test_what_is_not_taken_of_a_body_is_skipped_and_frees_its_memory(taken: str) -> None:
    decoder = FrameDecoder()
    decoder.feed(encode({"id": 1}, 200 << 20) + bytes(5000))
    assert decoder.next_header() == {"id": 1}
    if taken == "a chunk":
        assert decoder.chunk(100) == bytes(100)
    elif taken == "a part":
        assert decoder.body() is None
        decoder.feed(bytes(100))
        assert decoder.buffered == 5100
        decoder.drop_body()
        assert decoder.buffered == 0
    piece = b"x" * (1 << 20)
    tracemalloc.start()
    try:
        while decoder.missing > len(piece):
            decoder.feed(piece)
            assert decoder.next_header() is None
            assert decoder.begun
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    decoder.feed(bytes(decoder.missing) + encode({"id": 2}, 1) + b"y")
    assert (decoder.next_header(), decoder.body()) == ({"id": 2}, b"y")
    assert not decoder.begun


def test_a_body_array_is_the_callers_own() -> None:
    for pieces in ([b"abc"], [b"a", b"bc"]):
        decoder = FrameDecoder()
        decoder.feed(encode({}, 3) + pieces[0])
        decoder.next_header()
        array = decoder.body_array()
        for piece in pieces[1:]:
            assert array is None
            decoder.feed(piece)
            array = decoder.body_array()
        assert array == b"abc"
        array[0] = 0
        decoder.feed(encode({}, 3) + b"xyz")
        decoder.next_header()
        assert decoder.body_array() == b"xyz"
        assert array == b"\0bc"


@pytest.mark.parametrize("size", [1, 4096])
def test_a_large_header_or_body_in_small_pieces_takes_linear_time(size: int) -> None:
    begun = time.process_time()
    text = "x" * (MAX_HEADER - 100)
    data = encode({"id": 1, "text": text}, 64 << 10 if size == 1 else 64 << 20)
    decoder, header = FrameDecoder(), None
    for at in range(0, len(data), size):
        decoder.feed(data[at : at + size])
        header = decoder.next_header()
    assert header is not None
    assert header["text"] == text
    body = decoder.body()
    while body is None:
        decoder.feed(b"y" * size)
        body = decoder.body()
    assert body == b"y" * len(body)
    assert time.process_time() - begun < 20  # quadratic: minutes
