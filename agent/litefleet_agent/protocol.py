"""Frames: a fixed prefix, a JSON header and, where there is one, a binary body.  Pure, shared by both ends.

    4 bytes magic "LFF1" | u32 header length | u64 body length   (big-endian), then the header (UTF-8 JSON object), then the body

A request's header holds `id` (a positive integer) and `op`; requests may be sent ahead without waiting.  The answer holds
`re` (the request's id) and either `result` or `error` {`code`, `message`}; answers come in the order of the requests.
`event` headers (progress of a long request) may come in between.
"""

import json
import socket
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .errors import AgentError

__all__ = [
    "MAX_BODY",
    "MAX_HEADER",
    "PREFIX_SIZE",
    "BlockingStream",
    "ProtocolError",
    "ResponseParts",
    "decode_header",
    "decode_prefix",
    "encode",
]


_PREFIX = struct.Struct(">4sIQ")
_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True)
_MAGIC = b"LFF1"
PREFIX_SIZE = _PREFIX.size
MAX_HEADER = 1 << 20  # bytes; facts and findings take a few KiB
MAX_BODY = 2 << 30  # bytes; the largest blob that travels


class ProtocolError(AgentError):
    """The peer does not speak this protocol."""

    code = "protocol"


class ResponseParts(NamedTuple):
    """A result whose frame has a body."""

    result: Dict[str, Any]
    body: List[bytes]  # its parts, one after the other


def encode(header: Dict[str, Any], body_size: int = 0) -> bytes:
    """Return the frame up to its body, whose `body_size` bytes the caller sends next."""
    data = _ENCODER.encode(header).encode("utf-8")
    if len(data) > MAX_HEADER:
        raise ProtocolError("a header of %d bytes is over the limit of %d" % (len(data), MAX_HEADER))
    return _PREFIX.pack(_MAGIC, len(data), body_size) + data


def decode_prefix(prefix: bytes) -> Tuple[int, int]:
    """Return (header bytes, body bytes) that a frame's 16-byte prefix announces.

    Raises ProtocolError for another magic and for sizes over the limits.
    """
    magic, header_size, body_size = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise ProtocolError("expected a frame, got the bytes %r" % prefix[:16])
    if header_size > MAX_HEADER or body_size > MAX_BODY:
        raise ProtocolError("a frame announces %d header and %d body bytes: too large" % (header_size, body_size))
    return header_size, body_size


def decode_header(data: bytes) -> Dict[str, Any]:
    """Return the JSON object in a frame's header; ProtocolError when it is none."""
    try:
        header = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("a frame's header is not JSON: %r" % data[:80]) from None
    if not isinstance(header, dict):
        raise ProtocolError("a frame's header is not a JSON object: %r" % data[:80])
    return header


_AT_ONCE = 4096  # bytes that are asked for at a frame's start: mostly its prefix and the whole header
_PARTS = 64  # handed to the kernel at once; it takes at most 1024


class BlockingStream:
    """This process's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""  # came along with what was read

    def read(self) -> Optional[Tuple[Dict[str, Any], bytes]]:
        """Return the next frame, None when the other end let go."""
        if not self._buffer:
            self._buffer = self._socket.recv(_AT_ONCE)
        prefix = self._read_exactly(PREFIX_SIZE)
        if prefix is None:
            return None
        header_size, body_size = decode_prefix(prefix)
        header, body = self._read_exactly(header_size), self._read_exactly(body_size)
        return None if header is None or body is None else (decode_header(header), body)

    def _read_exactly(self, size: int) -> Optional[bytes]:
        data = bytearray(size)
        filled = min(size, len(self._buffer))
        data[:filled], self._buffer = self._buffer[:filled], self._buffer[filled:]
        with memoryview(data) as view:
            while filled < size:
                got = self._socket.recv_into(view[filled:])
                if not got:
                    return None
                filled += got
        return bytes(data)

    def send(self, header: Dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        """Send a frame whose body is `parts`, one after the other: at once, so that the other end wakes up once."""
        rest = [memoryview(encode(header, sum(map(len, parts))))]
        rest += [memoryview(part) for part in parts if len(part)]
        while rest:
            rest = _after(rest, self._socket.sendmsg(rest[:_PARTS]))

    def stage(self, words: str) -> None:
        """Tell what comes next, in words: should it end this process, the other one knows at what."""
        self.send({"event": "stage", "words": words})


def _after(parts: List[memoryview], sent: int) -> List[memoryview]:
    """Return what is left of `parts` after their first `sent` bytes."""
    done = 0
    while done < len(parts) and sent >= len(parts[done]):
        sent -= len(parts[done])
        done += 1
    rest = parts[done:]
    if sent:
        rest[0] = rest[0][sent:]
    return rest
