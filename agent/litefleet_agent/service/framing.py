"""Frames over sockets that never block: requests in, frames out, and the channel to a worker.

`protocol.FrameDecoder` decodes; this file waits on no socket itself: the event loop calls it when one is ready.
"""

import itertools
import os
import socket
from collections import deque
from typing import Any, Callable, Deque, NamedTuple, Optional, Sequence, Tuple

from ..errors import AgentError
from ..protocol import MAX_BODY, MAX_HEADER, FrameDecoder, Header, ProtocolError
from .event_loop import READ, WRITE, EventLoop

# (header, body bytes) -> the frame's context; raises an AgentError to reject the frame before its body is read, Backpressure
# while that cannot be decided
Validate = Callable[[Header, int], Any]

_PARTS = 64  # buffers of one system call; Linux accepts at most 1024
_READS_A_TURN = 16  # of one channel in one turn of the loop, so that one worker does not hold up the others
_READ_SIZE = 1 << 16  # bytes that are requested while no body is due


class Backpressure(Exception):
    """A frame waits at its header: the caller asks for it again later."""


class Frame(NamedTuple):
    """One frame; `rejected` is the error for which its body was dropped, `context` what `validate` returned for its header."""

    header: Header
    body: bytes
    rejected: Optional[AgentError] = None
    context: Any = None


class FrameReader:
    """The frames of one connection whose requests are validated by their headers.

    `validate` may reject a frame: `next_frame` returns it at once, without a body, and drops what comes of the body.
    """

    def __init__(
        self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY, validate: Optional[Validate] = None
    ) -> None:
        self._decoder = FrameDecoder(max_header, max_body)
        self._validate = validate
        self._validated = False  # the header of the frame whose body is being read
        self._context: Any = None
        self.feed = self._decoder.feed

    @property
    def begun(self) -> bool:
        """Whether a frame has begun that has not come whole."""
        return self._decoder.begun

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished body that are held."""
        return self._decoder.buffered

    def next_frame(self) -> Optional[Frame]:
        """Return the next frame that is whole or rejected, None until more has come.

        Raises ProtocolError for bytes that are no frame, Backpressure while `validate` cannot decide yet.
        """
        decoder = self._decoder
        header = decoder.header
        if header is None:
            header = decoder.next_header()
            if header is None:
                return None
        if not self._validated:
            try:
                self._context = self._validate(header, decoder.missing) if self._validate is not None else None
            except AgentError as error:
                return self.reject(error)
            self._validated = True
        body = decoder.body()
        if body is None:
            return None
        frame = Frame(header, body, None, self._context)
        self._context, self._validated = None, False
        return frame

    def reject(self, error: AgentError) -> Frame:
        """Stop keeping the body that is being read, and return its frame as rejected; the rest of it will be dropped."""
        assert self._decoder.header is not None
        frame = Frame(self._decoder.header, b"", error)
        self._decoder.drop_body()
        self._context, self._validated = None, False
        return frame


class Outbox:
    """Frames that wait until a socket accepts them."""

    def __init__(self) -> None:
        self._parts: Deque[Tuple[memoryview, bool]] = deque()  # a part, and whether it is a frame's last
        self.size = 0  # bytes that were not written yet

    def put(self, head: bytes, *body: bytes) -> None:
        """Add a frame: what `protocol.encode` gave, and the parts of its body."""
        parts = [memoryview(part) for part in (head, *body) if part]
        self._parts.extend((part, part is parts[-1]) for part in parts)
        self.size += sum(map(len, parts))

    def write_some(self, fd: int) -> int:
        """Write what `fd` accepts now and return how many frames were finished; OSError when the other side is gone."""
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
        """Drop all frames."""
        self._parts.clear()
        self.size = 0


class Channel:
    """The daemon's end of a worker's socket.

    Calls `validate(header, body size)`, which may raise ProtocolError, before it allocates memory for a body; `on_frame(header,
    body)` for each whole frame; and `on_end(why)` once, when the other end is gone ("") or violates the protocol.
    """

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        validate: Callable[[Header, int], None],
        on_frame: Callable[[Header, bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop, self._socket = loop, sock
        self._validate, self._on_frame, self._on_end = validate, on_frame, on_end
        self._outbox = Outbox()
        self._events = READ
        self._decoder = FrameDecoder(preallocate=MAX_BODY)  # `validate` bounds it by what was asked for
        self._closed = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    # --- out

    def send(self, parts: Sequence[bytes]) -> None:
        """Send a frame's parts, now or when there is room; never raises: only `on_end` reports a peer that is gone."""
        self._outbox.put(*parts)
        self._write()

    def finish(self) -> None:
        """Close the sending half: the worker reads the end of the stream."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            pass

    def _write(self) -> None:
        if self._closed:
            return
        try:
            self._outbox.write_some(self._socket.fileno())
        except OSError:  # reading reports the rest
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
        for _ in range(_READS_A_TURN):
            if self._closed or not self._read_some():
                return

    def _read_some(self) -> bool:
        """Read once, and return whether more may have come by now."""
        try:
            if self._decoder.collecting:
                count = self._receive_body()
            else:
                data = self._socket.recv(_READ_SIZE)
                self._decoder.feed(data)
                count = len(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = 0
        if not count:
            self._end("")
            return False
        try:
            return self._deliver()
        except ProtocolError as error:
            self._end(str(error))
            return False

    def _receive_body(self) -> int:
        with self._decoder.get_buffer() as view:
            count = self._socket.recv_into(view)
        self._decoder.buffer_updated(count)
        return count

    def _deliver(self) -> bool:
        """Deliver the frames that are whole, and return whether the socket may hold more of the one that has begun."""
        decoder = self._decoder
        while not self._closed:
            header = decoder.header
            if header is None:
                header = decoder.next_header()
                if header is None:
                    return decoder.begun
                self._validate(header, decoder.missing)
            body = decoder.body()
            if body is None:
                return True
            self._on_frame(header, body)
            if not decoder.begun:
                return False
        return False

    def _end(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._on_end(why)

    def close(self) -> None:
        """Close the socket; `on_end` is not called any more.  Idempotent."""
        if not self._closed:
            self._closed = True
            self._outbox.clear()
            self._loop.forget(self._socket.fileno())
            self._socket.close()
