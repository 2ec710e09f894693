"""Frames: what goes in comes out, and what is none is refused before it costs anything."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefleet_agent.protocol import (
    MAX_BODY,
    MAX_HEADER,
    PREFIX_SIZE,
    ProtocolError,
    decode_header,
    decode_prefix,
    encode,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(header=st.dictionaries(st.text(), JSON, max_size=4), body=st.integers(0, MAX_BODY))
def test_a_frame_comes_back_as_it_was(header: dict, body: int) -> None:
    frame = encode(header, body)
    assert decode_prefix(frame[:PREFIX_SIZE]) == (len(frame) - PREFIX_SIZE, body)
    assert decode_header(frame[PREFIX_SIZE:]) == header


def test_the_bytes_of_a_frame() -> None:
    assert encode({"op": "put", "id": 2}, 5) == b"LFF1" + struct.pack(">IQ", 19, 5) + b'{"id":2,"op":"put"}'


@given(prefix=st.binary(min_size=PREFIX_SIZE, max_size=PREFIX_SIZE))
def test_any_prefix_is_sizes_within_the_limits_or_refused(prefix: bytes) -> None:
    try:
        header, body = decode_prefix(prefix)
    except ProtocolError:
        return
    assert prefix[:4] == b"LFF1"
    assert header <= MAX_HEADER
    assert body <= MAX_BODY


@given(data=st.binary(max_size=60))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        header = decode_header(data)
    except ProtocolError:
        return
    assert isinstance(header, dict)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[1]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100000, "is not JSON"),
        (b'{"a":' * 100000, "is not JSON"),
    ],
)
def test_headers_that_are_none(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        decode_header(data)
    assert len(str(caught.value)) < 500


def test_sizes_over_the_limits() -> None:
    for header, body in ((MAX_HEADER + 1, 0), (0, MAX_BODY + 1)):
        with pytest.raises(ProtocolError, match=f"a frame announces {header} header and {body} body bytes"):
            decode_prefix(struct.pack(">4sIQ", b"LFF1", header, body))
    with pytest.raises(ProtocolError, match=r"expected a frame, got the bytes b'HTTP/1\.1"):
        decode_prefix(b"HTTP/1.1 400 Bad")
    with pytest.raises(ProtocolError, match="over the limit"):
        encode({"a": "x" * MAX_HEADER})
