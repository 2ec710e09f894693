"""Requests that are validated by their headers, and frames that wait to be written.  The decoder: ../test_protocol_decoder.py."""

import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.protocol import encode
from litefleet_agent.service.framing import Backpressure, FrameReader, Outbox
from litefleet_agent.service.messages import Rejection

HEADERS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4)
FRAMES = st.lists(st.tuples(HEADERS, st.binary(max_size=300)), max_size=6)


def bytes_of(frames):
    return b"".join(encode(header, len(body)) + body for header, body in frames)


def split(data, cuts):
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    edges = [0, *ends, len(data)]
    return [data[edges[i] : edges[i + 1]] for i in range(len(edges) - 1)]


@settings(max_examples=150, deadline=None)
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 3000), max_size=12), rejected=st.sets(st.integers(0, 5)))
def test_rejected_bodies_are_dropped_and_the_others_are_whole(frames, cuts, rejected):
    numbered = [(dict(header, id=i), body) for i, (header, body) in enumerate(frames)]

    def validate(header, size):
        assert size == len(numbered[header["id"]][1])
        if header["id"] in rejected:
            raise Rejection("no", "bad-input")

    reader = FrameReader(validate=validate)
    got = []
    for piece in split(bytes_of(numbered), cuts):
        reader.feed(piece)
        frame = reader.next_frame()
        while frame is not None:
            got.append(frame)
            frame = reader.next_frame()
    assert [(f.header, f.body) for f in got] == [(h, b"" if h["id"] in rejected else b) for h, b in numbered]
    assert [f.rejected is not None for f in got] == [h["id"] in rejected for h, _ in numbered]


def test_a_dropped_body_takes_no_memory():
    def validate(header, size):
        raise Rejection("no", "bad-input")

    reader = FrameReader(validate=validate)
    reader.feed(encode({"id": 1}, 200 << 20))
    assert reader.next_frame().rejected.code == "bad-input"
    piece = b"x" * (1 << 20)
    tracemalloc.start()
    try:
        for _ in range(200):
            assert reader.begun
            reader.feed(piece)
            assert reader.next_frame() is None
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert not reader.begun
    with pytest.raises(Rejection):
        raise reader_next(reader).rejected


def reader_next(reader):
    reader.feed(encode({"id": 2}))
    return reader.next_frame()


def all_of(reader, piece):
    """Feed a piece and return the frames that are whole by now, as (header, body)."""
    reader.feed(piece)
    frames = []
    frame = reader.next_frame()
    while frame is not None:
        frames.append((frame.header, frame.body))
        frame = reader.next_frame()
    return frames


def test_a_body_may_be_given_up_half_way():
    reader = FrameReader()
    assert all_of(reader, encode({"id": 1}, 10) + b"12345") == []
    assert reader.buffered == 5
    frame = reader.reject(Rejection("full", "busy"))
    assert (frame.header, frame.body, frame.rejected.code) == ({"id": 1}, b"", "busy")
    assert reader.buffered == 0
    assert all_of(reader, b"67890" + encode({"id": 2})) == [({"id": 2}, b"")]


def test_a_frame_may_wait_at_its_header_until_it_is_decided_on():
    decided = []

    def validate(header, size):
        if not decided:
            raise Backpressure
        return decided[0]

    reader = FrameReader(validate=validate)
    reader.feed(encode({"id": 1}, 3) + b"ab")
    for _ in range(3):
        with pytest.raises(Backpressure):
            reader.next_frame()
    reader.feed(b"c" + encode({"id": 2}))
    with pytest.raises(Backpressure):
        reader.next_frame()
    assert (reader.begun, reader.buffered) == (True, 0)
    decided.append("a note")
    assert [reader.next_frame()[:4] for _ in range(2)] == [
        ({"id": 1}, b"abc", None, "a note"),
        ({"id": 2}, b"", None, "a note"),
    ]
    assert reader.next_frame() is None


def test_the_outbox_sends_all_in_pieces_and_counts_frames():
    read, write = os.pipe()
    try:
        os.set_blocking(write, False)
        os.set_blocking(read, False)
        outbox = Outbox()
        frames = [({"re": i}, bytes([i]) * (i * 40000)) for i in range(6)]
        for header, body in frames:
            outbox.put(encode(header, len(body)), body)
        assert outbox.size == len(bytes_of(frames))
        reader, got, finished = FrameReader(), [], 0
        while outbox.size:
            finished += outbox.write_some(write)
            got += all_of(reader, os.read(read, 30000))
        while reader.begun or len(got) < len(frames):
            got += all_of(reader, os.read(read, 30000))
        assert got == frames
        assert finished == len(frames)
        assert outbox.write_some(write) == 0
    finally:
        os.close(read)
        os.close(write)


def test_the_outbox_says_when_nobody_reads_any_more():
    read, write = os.pipe()
    os.close(read)
    try:
        outbox = Outbox()
        outbox.put(encode({"re": 1}))
        with pytest.raises(BrokenPipeError):
            outbox.write_some(write)
        outbox.clear()
        assert outbox.size == 0
    finally:
        os.close(write)
