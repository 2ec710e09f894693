"""Frames over a socket, without ever waiting: what the daemon and one worker tell each other."""

import socket
from typing import Any, Callable, Dict, Sequence

from ..protocol import PREFIX_SIZE, ProtocolError, decode_header, decode_prefix
from .frames import Outbox
from .loop import READ, WRITE, Loop

__all__ = ["Channel"]

_AT_ONCE = 16  # reads in one turn of the loop, so that one worker does not hold up the others
_HEAD_SIZE = 65536  # bytes that are asked for while no body is due


class Channel:
    """One end of a stream socket.

    `screen(header, body size)` is called before a body's memory is taken, and may raise ProtocolError; `on_frame(header,
    body)` for each whole frame; `on_end(why)` once, when the other end is gone ("") or does not keep to the protocol.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        screen: Callable[[Dict[str, Any], int], None],
        on_frame: Callable[[Dict[str, Any], bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop, self._socket = loop, sock
        self._screen, self._on_frame, self._on_end = screen, on_frame, on_end
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
            return self._take()
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

    def _take(self) -> bool:
        """Take what is whole, and say whether the socket may hold more of the frame that has begun."""
        while not self._closed:
            if self._filled < 0 and not self._take_head():
                return bool(self._head)
            if self._filled < len(self._body):
                return True
            header, body = self._header, bytes(self._body)
            self._body, self._filled = bytearray(), -1
            self._on_frame(header, body)  # what it raises is its own affair
            if not self._head:
                return False
        return False

    def _take_head(self) -> bool:
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
        self._screen(self._header, body_size)
        came = self._head[end : end + body_size]
        self._head = self._head[end + body_size :]
        self._body, self._filled = bytearray(body_size), len(came)
        self._body[: len(came)] = came
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
