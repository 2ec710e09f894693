"""Frames over a socket that never blocks: bytes in, whole frames out, and the other way round.

Memory grows with the bytes that have come, never with what a frame announces.
"""

import itertools
import os
import socket
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import AgentError
from ..protocol import MAX_BODY, MAX_HEADER, PREFIX_SIZE, ProtocolError, decode_header, decode_prefix
from .event_loop import READ, WRITE, EventLoop

__all__ = ["Backpressure", "Channel", "Frame", "FrameReader", "Outbox", "Validate"]


# (header, body bytes); raises an AgentError when the body is not to be read, NotYet when that can't be said yet
Validate = Callable[[Dict[str, Any], int], Any]

_PARTS = 64  # handed to the kernel at once; it takes at most 1024


class Backpressure(Exception):
    """A frame waits at its header: `take` is to be called again."""


class Frame(NamedTuple):
    """One frame; `refused` says why its body was not kept, `note` is what `decide` made of its header."""

    header: Dict[str, Any]
    body: bytes
    rejected: Optional[AgentError] = None
    context: Any = None


class FrameReader:
    """Makes frames of bytes that come in any pieces.

    `decide` may refuse a frame by its header: `take` gives it at once, without a body, and what comes of the body is dropped.
    """

    def __init__(
        self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY, validate: Optional[Validate] = None
    ) -> None:
        self._max_header, self._max_body, self._validate = max_header, max_body, validate
        self._input = b""  # not looked at yet; and kept for later only as far as no frame of it is whole
        self._at = 0  # how much of it is done with
        self._sizes: Optional[Tuple[int, int]] = None  # header and body bytes of the frame that has begun
        self._header: Optional[Dict[str, Any]] = None  # of the frame whose body is being read
        self._validated = False  # about that frame
        self._context: Any = None
        self._body = bytearray()
        self._missing = 0  # bytes of the body that have not come yet
        self._dropping = 0  # bytes still to come of a body that is not kept

    @property
    def begun(self) -> bool:
        """Whether a frame has begun that has not come whole."""
        return bool(self._sizes or self._header is not None or self._dropping or len(self._input) > self._at)

    @property
    def buffered(self) -> int:
        """How many bytes of an unfinished body are kept."""
        return len(self._body)

    def feed(self, data: bytes) -> List[Tuple[Dict[str, Any], bytes]]:
        """Take bytes in and return the frames that are whole now, as (header, body); ProtocolError for garbage."""
        self.push(data)
        frames = []
        frame = self.next_frame()
        while frame is not None:
            if frame.rejected is None:
                frames.append((frame.header, frame.body))
            frame = self.next_frame()
        return frames

    def push(self, data: bytes) -> None:
        """Take bytes in; `take` looks at them."""
        left = self._input[self._at :]
        if self._validated and not left and len(data) <= self._missing:
            self._body += data  # the middle of a large body: straight to where it belongs
            self._missing -= len(data)
            data = b""
        self._input, self._at = left + data if left else data, 0

    def next_frame(self) -> Optional[Frame]:
        """Return the next frame that is whole or refused, None until more has come.

        Raises ProtocolError for garbage, NotYet for what `decide` has to be asked again.
        """
        if self._dropping:
            self._skip_dropped()
            if self._dropping:
                return None
        if self._header is None and not self._read_header():
            return None
        if not self._validated:
            rejected = self._validate_header()
            if rejected is not None:
                return rejected
        return self._read_body()

    def _skip_dropped(self) -> None:
        step = min(self._dropping, len(self._input) - self._at)
        self._at += step
        self._dropping -= step

    def _read_header(self) -> bool:
        """Return whether the next frame's header is there."""
        if self._sizes is None:
            prefix = self._input[self._at : self._at + PREFIX_SIZE]
            if not b"LFF1".startswith(prefix[:4]):  # said at once: garbage need not be 16 bytes long
                raise ProtocolError("expected a frame, got the bytes %r" % prefix)
            if len(prefix) < PREFIX_SIZE:
                return False
            self._sizes = self._checked(prefix)
            self._at += PREFIX_SIZE
        size = self._sizes[0]
        if len(self._input) - self._at < size:
            return False
        self._header = decode_header(self._input[self._at : self._at + size])
        self._at += size
        self._missing, self._sizes, self._validated = self._sizes[1], None, False
        return True

    def _checked(self, prefix: bytes) -> Tuple[int, int]:
        header, body = decode_prefix(prefix)
        if header > self._max_header or body > self._max_body:
            raise ProtocolError(
                "a frame announces %d header and %d body bytes; at most %d and %d are taken"
                % (header, body, self._max_header, self._max_body)
            )
        return header, body

    def _validate_header(self) -> Optional[Frame]:
        assert self._header is not None
        try:
            self._context = self._validate(self._header, self._missing) if self._validate is not None else None
        except AgentError as error:
            return self.reject(error)
        self._validated = True
        return None

    def reject(self, error: AgentError) -> Frame:
        """Stop keeping the body that is being read, and return its frame as refused; the rest of it will be dropped."""
        assert self._header is not None
        frame = Frame(self._header, b"", error)
        self._dropping, self._missing, self._validated = self._missing, 0, False
        self._header, self._context = None, None
        self._body = bytearray()
        return frame

    def _read_body(self) -> Optional[Frame]:
        step = min(self._missing, len(self._input) - self._at)
        received = self._input[self._at : self._at + step]
        self._at += step
        self._missing -= step
        if self._missing or self._body:
            self._body += received
            received = b""
        if self._missing:
            return None
        assert self._header is not None
        frame = Frame(self._header, received or bytes(self._body), None, self._context)
        self._header, self._context, self._body, self._validated = None, None, bytearray(), False
        return frame


class Outbox:
    """Frames on their way out of a socket that does not take them all at once."""

    def __init__(self) -> None:
        self._parts: Deque[Tuple[memoryview, bool]] = deque()  # a part, and whether it is a frame's last
        self.size = 0  # bytes that have not been taken

    def put(self, head: bytes, *body: bytes) -> None:
        """Add a frame: what `protocol.encode` gave, and the parts of its body."""
        parts = [memoryview(part) for part in (head, *body) if part]
        self._parts.extend((part, part is parts[-1]) for part in parts)
        self.size += sum(map(len, parts))

    def write_some(self, fd: int) -> int:
        """Write what `fd` takes now, and return how many frames were finished; OSError when the other side is gone."""
        finished = 0
        while self._parts:
            parts = [part for part, _ in itertools.islice(self._parts, _PARTS)]
            try:
                written = os.writev(fd, parts)
            except BlockingIOError:
                break
            finished += self._written(written)
            if written < sum(len(part) for part in parts):
                break
        return finished

    def _written(self, count: int) -> int:
        self.size -= count
        finished = 0
        while self._parts and count >= len(self._parts[0][0]):
            part, last = self._parts.popleft()
            count -= len(part)
            finished += last
        if count:
            part, last = self._parts[0]
            self._parts[0] = part[count:], last
        return finished

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self.size = 0


_AT_ONCE = 16  # reads in one turn of the loop, so that one worker does not hold up the others
_HEAD_SIZE = 65536  # bytes that are asked for while no body is due


class Channel:
    """One end of a stream socket.

    `screen(header, body size)` is called before a body's memory is taken, and may raise ProtocolError; `on_frame(header,
    body)` for each whole frame; `on_end(why)` once, when the other end is gone ("") or does not keep to the protocol.
    """

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        validate: Callable[[Dict[str, Any], int], None],
        on_frame: Callable[[Dict[str, Any], bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop, self._socket = loop, sock
        self._validate, self._on_frame, self._on_end = validate, on_frame, on_end
        self._outbox = Outbox()
        self._events = READ
        self._head = b""  # prefix and header, as far as they have come
        self._header: Dict[str, Any] = {}
        self._body = bytearray()
        self._filled = -1  # how much of the body has come; -1 = none is due
        self._closed = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    # --- out

    def send(self, parts: Sequence[bytes]) -> None:
        """Send a frame's parts, now or when there is room; a peer that is gone is told by `on_end` alone."""
        self._outbox.put(*parts)
        self._write()

    def finish(self) -> None:
        """Tell the other end that nothing more comes."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            pass

    def _write(self) -> None:
        if self._closed:
            return
        try:
            self._outbox.write_some(self._socket.fileno())
        except OSError:  # reading tells the rest
            self._outbox.clear()
        events = READ | WRITE if self._outbox.size else READ
        if events != self._events:
            self._events = events
            self._loop.watch(self._socket.fileno(), events, self._ready)

    # --- in

    def _ready(self, ready: int) -> None:
        if ready & WRITE:
            self._write()
        if ready & READ:
            self._read()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self._closed or not self._read_some():
                return

    def _read_some(self) -> bool:
        """Read once, and say whether more may have come by now."""
        try:
            got = self._read_body() if self._filled >= 0 else self._read_head()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            got = 0
        if not got:
            self._end("")
            return False
        try:
            return self._deliver()
        except ProtocolError as error:
            self._end(str(error))
            return False

    def _read_head(self) -> int:
        data = self._socket.recv(_HEAD_SIZE)
        self._head = self._head + data if self._head else data
        return len(data)

    def _read_body(self) -> int:
        with memoryview(self._body) as view:
            got = self._socket.recv_into(view[self._filled :])
        self._filled += got
        return got

    def _deliver(self) -> bool:
        """Take what is whole, and say whether the socket may hold more of the frame that has begun."""
        while not self._closed:
            if self._filled < 0 and not self._parse_head():
                return bool(self._head)
            if self._filled < len(self._body):
                return True
            header, body = self._header, bytes(self._body)
            self._body, self._filled = bytearray(), -1
            self._on_frame(header, body)  # what it raises is its own affair
            if not self._head:
                return False
        return False

    def _parse_head(self) -> bool:
        """Take prefix and header, and what has come of the body; False until they are whole."""
        if len(self._head) < PREFIX_SIZE:
            return False
        size, body_size = decode_prefix(self._head[:PREFIX_SIZE])
        if not size:
            raise ProtocolError("a frame without a header")
        end = PREFIX_SIZE + size
        if len(self._head) < end:
            return False
        self._header = decode_header(self._head[PREFIX_SIZE:end])
        self._validate(self._header, body_size)
        received = self._head[end : end + body_size]
        self._head = self._head[end + body_size :]
        self._body, self._filled = bytearray(body_size), len(received)
        self._body[: len(received)] = received
        return True

    def _end(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._on_end(why)

    def close(self) -> None:
        """Let go of the socket; `on_end` is not called any more."""
        if not self._closed:
            self._closed = True
            self._outbox.clear()
            self._loop.forget(self._socket.fileno())
            self._socket.close()
