"""LFF1 frames: a fixed prefix, a JSON header and an optional binary body.  Both ends share this module.

    4 bytes magic "LFF1" | u32 header length | u64 body length   (big-endian), then the header (UTF-8 JSON object), then the body

A request's header holds `id` (a positive integer) and `op`; a peer may send requests ahead without waiting.  The answer
holds `re` (the request's id) and either `result` or `error` {`code`, `message`}; answers come in the order of the requests.
`event` headers (progress of a long request) may come in between.

`FrameDecoder` performs no I/O.  `BlockingStream` is its transport over file descriptors that block; the daemon, the client
and the controller have their own, because they wait in other ways.
"""

from __future__ import annotations

import os
import select
import struct

from .errors import AgentError
from .formats.light import NamedTuple, dumps, loads

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

if TYPE_CHECKING:
    Header = Dict[str, object]  # a frame's JSON object as received: the reader of a value checks it
else:
    Header = dict

_PREFIX = struct.Struct(">4sIQ")
_MAGIC = b"LFF1"
PREFIX_SIZE = _PREFIX.size
MAX_HEADER = 1 << 20  # bytes; facts and findings take a few KiB
MAX_BODY = 2 << 30  # bytes; the largest blob that travels
_READ_SIZE = 4096  # bytes read at once where the next frame's size is unknown: mostly its prefix and the whole header
_CHUNK_SIZE = 1 << 16  # bytes read at once of a body that is read in pieces: what a pipe holds
_PARTS = 64  # buffers of one system call; Linux accepts at most 1024


class ProtocolError(AgentError):
    """The peer's bytes are not LFF1 frames, or they exceed a limit."""

    code = "protocol"


class ResponseParts(NamedTuple):
    """A result whose frame has a body."""

    result: Header
    body: List[bytes]  # its parts, one after the other


def encode(header: Header, body_size: int = 0) -> bytes:
    """Return the frame up to its body, whose `body_size` bytes the caller sends next.

    Raises ProtocolError when the header exceeds MAX_HEADER.
    """
    data = dumps(header).encode("utf-8")
    if len(data) > MAX_HEADER:
        raise ProtocolError("a header of %d bytes is over the limit of %d" % (len(data), MAX_HEADER))
    return _PREFIX.pack(_MAGIC, len(data), body_size) + data


def decode_prefix(prefix: bytes, max_header: int = MAX_HEADER, max_body: int = MAX_BODY) -> Tuple[int, int]:
    """Return (header bytes, body bytes) that a frame's 16-byte prefix announces.

    Raises ProtocolError for another magic and for sizes over the limits.
    """
    magic, header_size, body_size = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise ProtocolError("expected a frame, got the bytes %r" % prefix[:16])
    if header_size > max_header or body_size > max_body:
        raise ProtocolError(
            "a frame announces %d header and %d body bytes: too large, the limits are %d and %d"
            % (header_size, body_size, max_header, max_body)
        )
    return header_size, body_size


def decode_header(data: bytes) -> Header:
    """Return the JSON object in a frame's header; ProtocolError when it is none."""
    try:
        header = loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("a frame's header is not JSON: %r" % data[:80]) from None
    if not isinstance(header, dict):
        raise ProtocolError("a frame's header is not a JSON object: %r" % data[:80])
    return header


class FrameDecoder:
    """Turns bytes that arrive in any pieces into frames; performs no I/O.

    `feed` takes bytes.  `next_header` returns the next frame's header, whose body has `missing` bytes.  The caller then takes
    the body whole (`body`, `body_array`) or in pieces (`chunk`), or drops it: `next_header` skips what was not taken.

    Memory grows with the bytes that have come, never with what a frame announces, except by `preallocate` bytes at a time;
    these let a transport receive straight into `get_buffer`.
    """

    def __init__(self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY, preallocate: int = 0) -> None:
        self._max_header, self._max_body, self._preallocate = max_header, max_body, preallocate
        self._input: Union[bytes, bytearray] = b""  # came, and belongs to no body that is being collected
        self._at = 0  # how much of it is decoded
        self._sizes: Optional[Tuple[int, int]] = None  # header and body bytes of the frame whose header comes next
        self.header: Optional[Header] = None  # of the frame whose body was not taken yet
        self.header_size = 0  # bytes of the last header
        self.missing = 0  # bytes of that body that were neither taken nor collected
        self.collecting = False  # the body is being collected in memory
        self._body = bytearray()
        self._filled = 0  # bytes of it that have come

    @property
    def begun(self) -> bool:
        """Whether a frame has begun that was not taken whole."""
        return bool(self._sizes or self.header is not None or self.missing or len(self._input) > self._at)

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished body that are held."""
        return self._filled

    @property
    def unread(self) -> int:
        """Bytes that were fed and not decoded yet."""
        return len(self._input) - self._at

    def feed(self, data: bytes) -> None:
        """Add received bytes, in pieces of any size."""
        if self._at < len(self._input):  # many small pieces of one header take linear time
            if self._at or not isinstance(self._input, bytearray):
                self._input, self._at = bytearray(self._input[self._at :]), 0
            self._input += data
        elif self.collecting and self.missing:
            come = data[: self.missing] if len(data) > self.missing else data
            if self._filled == len(self._body):
                self._body += come
            else:
                self._body[self._filled : self._filled + len(come)] = come
            self.buffer_updated(len(come))
            if len(come) < len(data):
                self._input, self._at = data, len(come)
        else:
            self._input, self._at = data, 0

    def next_header(self) -> Optional[Header]:
        """Return the next frame's header, None until it has come whole; drops what is left of the frame before.

        Raises ProtocolError for bytes that are no frame, and for sizes over the limits before their bytes come.
        """
        if (self.missing or self.header is not None) and not self._skip_body():
            return None
        sizes = self._sizes
        if sizes is None:
            prefix = bytes(self._input[self._at : self._at + PREFIX_SIZE])
            if len(prefix) < PREFIX_SIZE:
                if not _MAGIC.startswith(prefix[:4]):  # reported at once: garbage need not be 16 bytes long
                    raise ProtocolError("expected a frame, got the bytes %r" % prefix)
                return None
            self._sizes = sizes = decode_prefix(prefix, self._max_header, self._max_body)
            self._at += PREFIX_SIZE
        end = self._at + sizes[0]
        if len(self._input) < end:
            return None
        self.header = header = decode_header(bytes(self._input[self._at : end]))
        self.header_size, self.missing = sizes
        self._sizes, self._at = None, end
        return header

    def _skip_body(self) -> bool:
        """Drop the current frame's body as far as it has come; return whether that was all of it."""
        self.drop_body()
        step = min(self.missing, len(self._input) - self._at)
        self._at += step
        self.missing -= step
        return not self.missing

    def body(self) -> Optional[bytes]:
        """Return the current frame's body, None until it has come whole."""
        if not self.collecting:
            end = self._at + self.missing
            if end <= len(self._input):
                data = bytes(self._input[self._at : end])
                self._at, self.missing, self.header = end, 0, None
                return data
        array = self.body_array()
        return None if array is None else bytes(array)

    def body_array(self) -> Optional[bytearray]:
        """Return the current frame's body as memory of the caller's own, None until it has come whole."""
        if not self.collecting:
            end = self._at + self.missing
            if end <= len(self._input):
                array = bytearray(self._input[self._at : end])
                self._at, self.missing, self.header = end, 0, None
                return array
            self._start_body()
        if self.missing:
            return None
        array = self._body
        self.drop_body()
        return array

    def _start_body(self) -> None:
        step = min(self.missing, len(self._input) - self._at)
        come = self._input[self._at : self._at + step]
        self._at += step
        self.missing -= step
        self._body = bytearray(step + min(self.missing, self._preallocate))
        self._body[:step] = come
        self._filled, self.collecting = step, True

    def get_buffer(self) -> memoryview:
        """Return memory for the next bytes of the body that is being collected; release it before the next call here."""
        if self._filled == len(self._body):
            self._body.extend(bytes(min(self.missing, max(self._preallocate, 1))))
        return memoryview(self._body)[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Record that `count` bytes were received into the memory that `get_buffer` returned."""
        self._filled += count
        self.missing -= count

    def chunk(self, most: int) -> bytes:
        """Return up to `most` of the body's next bytes, b"" while none has come; `missing` says how many are still due."""
        step = min(self.missing, len(self._input) - self._at, most)
        piece = self._input if step == len(self._input) else self._input[self._at : self._at + step]
        self._at += step
        self.missing -= step
        return bytes(piece)

    def drop_body(self) -> None:
        """Stop collecting the current frame's body and free its memory; the rest of it will be skipped."""
        self.header, self.collecting = None, False
        self._body, self._filled = bytearray(), 0


class BlockingStream:
    """Frames over file descriptors that block: a socket's, or two pipes'.

    `ahead` is what was read of the input before.  OSError when the other end is gone while something is sent.
    """

    def __init__(self, read_fd: int, write_fd: int, ahead: bytes = b"") -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self.count_read = 0  # bytes
        self.waiting = False  # for the other end to send something
        self._decoder = FrameDecoder(preallocate=MAX_BODY)
        self._decoder.feed(ahead)

    def read(self) -> Optional[Tuple[Header, bytes]]:
        """Return the next frame, None when the other end closed the stream."""
        header = self.read_header()
        if header is None:
            return None
        body = self.read_body()
        return None if body is None else (header, body)

    def read_header(self) -> Optional[Header]:
        """Return the next frame's header, None at the stream's end; what was not read of the body before is skipped."""
        header = self._decoder.next_header()
        while header is None:
            if not self._receive():
                return None
            header = self._decoder.next_header()
        return header

    @property
    def missing(self) -> int:
        """Bytes of the current frame's body that were not read yet."""
        return self._decoder.missing

    def read_body(self) -> Optional[bytes]:
        """Return the current frame's body, None when the stream ends before."""
        body = self._decoder.body()
        while body is None:
            with self._decoder.get_buffer() as view:
                self.waiting = True
                count = os.readv(self.read_fd, [view])
                self.waiting = False
            if not count:
                return None
            self.count_read += count
            self._decoder.buffer_updated(count)
            body = self._decoder.body()
        return body

    def read_chunks(self) -> Iterator[bytes]:
        """Yield the current frame's body in pieces; it is whole when `missing` is 0 afterwards."""
        while self._decoder.missing:
            chunk = self._decoder.chunk(_CHUNK_SIZE)
            if chunk:
                yield chunk
            elif not self._receive(min(self._decoder.missing, _CHUNK_SIZE)):
                return

    def _receive(self, size: int = _READ_SIZE) -> bool:
        """Read once, at most `size` bytes; return False at the stream's end."""
        self.waiting = True
        data = os.read(self.read_fd, size)
        self.waiting = False
        self.count_read += len(data)
        self._decoder.feed(data)
        return bool(data)

    def read_ahead(self) -> None:
        """Read what has come of the next frames, without waiting; at most 64 KiB of them are held."""
        if self._decoder.missing or self._decoder.unread >= _CHUNK_SIZE:
            return
        poll = select.poll()
        poll.register(self.read_fd, select.POLLIN)
        if poll.poll(0):
            self._receive()

    def send(self, header: Header, parts: Sequence[bytes] = ()) -> None:
        """Send a frame whose body is `parts`, in one system call where they fit, so that the other end wakes up once."""
        self.write([encode(header, sum(map(len, parts))), *parts])

    def write(self, parts: Sequence[bytes]) -> None:
        """Write `parts`, one after the other."""
        rest = [memoryview(part) for part in parts if len(part)]
        while rest:
            rest = _after(rest, os.writev(self.write_fd, rest[:_PARTS]))

    def stage(self, words: str) -> None:
        """Announce the next stage, so that the other end can report where this process died."""
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
