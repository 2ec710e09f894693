"""The transport of workers and sessions: frames whole in both directions, however the kernel cuts them."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from litefleet_agent.protocol import BlockingStream, ProtocolError, encode


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_frames_go_both_ways_with_bodies_in_parts(ends):
    here, there = (BlockingStream(end.fileno(), end.fileno()) for end in ends)
    sent = [
        ({"id": 1}, ()),
        ({"id": 2}, (b"", b"abc", b"")),
        ({"id": 3}, tuple(os.urandom(7) for _ in range(200))),  # more parts than the kernel takes at once
        ({"id": 4}, (os.urandom(3 << 20), b"x", os.urandom(1 << 20))),  # more than the socket holds
        ({"id": 5}, ()),
    ]
    sender = threading.Thread(target=lambda: [here.send(header, parts) for header, parts in sent])
    sender.start()
    got = [there.read() for _ in sent]
    sender.join(30)
    assert got == [(header, b"".join(parts)) for header, parts in sent]


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 20, -1])
def test_an_end_in_the_middle_of_a_frame_is_an_end(ends, cut):
    ours, theirs = ends
    whole = encode({"id": 1}, 5) + b"12345"
    ours.sendall(whole + whole[:cut])
    ours.close()
    stream = BlockingStream(theirs.fileno(), theirs.fileno())
    assert stream.read() == ({"id": 1}, b"12345")
    assert stream.read() is None


def test_bytes_that_come_one_by_one(ends):
    ours, theirs = ends
    data = encode({"id": 1}, 3) + b"abc" + encode({"id": 2})
    sender = threading.Thread(target=lambda: [ours.sendall(data[i : i + 1]) for i in range(len(data))])
    sender.start()
    stream = BlockingStream(theirs.fileno(), theirs.fileno())
    assert [stream.read(), stream.read()] == [({"id": 1}, b"abc"), ({"id": 2}, b"")]
    sender.join(30)


def test_what_is_no_frame_is_named(ends):
    ours, theirs = ends
    ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError, match="expected a frame"):
        BlockingStream(theirs.fileno(), theirs.fileno()).read()


def test_an_other_end_that_is_gone_is_an_error(ends):
    ours, theirs = ends
    theirs.close()
    with pytest.raises(BrokenPipeError):
        BlockingStream(ours.fileno(), ours.fileno()).stage("loading")


def test_a_body_in_pieces_and_what_was_read_ahead(ends):
    ours, theirs = ends
    body = os.urandom(300000)
    data = encode({"id": 1}, len(body)) + body + encode({"id": 2}, 5) + b"12345" + encode({"id": 3})
    sender = threading.Thread(target=lambda: ours.sendall(data[1000:]))
    sender.start()
    stream = BlockingStream(theirs.fileno(), theirs.fileno(), ahead=data[:1000])
    assert stream.read_header() == {"id": 1}
    assert stream.missing == len(body)
    pieces = list(stream.read_chunks())
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 1 << 16
    assert stream.read_header() == {"id": 2}  # its body is skipped
    assert stream.read_header() == {"id": 3}
    assert stream.read_body() == b""
    sender.join(30)


def test_a_body_in_pieces_that_is_cut_is_not_whole(ends):
    ours, theirs = ends
    ours.sendall(encode({"id": 1}, 10) + b"12345")
    ours.close()
    stream = BlockingStream(theirs.fileno(), theirs.fileno())
    assert stream.read_header() == {"id": 1}
    assert list(stream.read_chunks()) == [b"12345"]
    assert stream.missing == 5
    assert stream.read_body() is None
    assert stream.read_header() is None
