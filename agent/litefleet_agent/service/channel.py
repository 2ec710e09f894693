"""Frames over a socket, without ever waiting: what the daemon and one worker tell each other."""

import socket
from collections import deque
from typing import Any, Callable, Deque, Dict, Optional, Sequence, Tuple

from ..protocol import PREFIX_SIZE, ProtocolError, decode_header, decode_prefix
from .loop import READ, WRITE, Loop

__all__ = ["Channel"]

_AT_ONCE = 16  # reads in one turn of the loop, so that one worker does not hold up the others


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
        self._out: Deque[memoryview] = deque()
        self._header: Dict[str, Any] = {}
        self._body_size = 0
        self._frame: Optional[Tuple[Dict[str, Any], bytes]] = None
        self._closed = False
        self._then: Callable[[bytes], None] = self._prefix
        self._expect(PREFIX_SIZE, self._prefix)
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    # --- out

    def send(self, parts: Sequence[bytes]) -> None:
        """Send a frame's parts, now or when there is room; a peer that is gone is told by `on_end` alone."""
        self._out.extend(memoryview(part) for part in parts if part)
        self._write()

    def finish(self) -> None:
        """Tell the other end that nothing more comes."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            pass

    def _write(self) -> None:
        try:
            while self._out:
                sent = self._socket.send(self._out[0])
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # reading tells the rest
            self._out.clear()
        if not self._closed:
            self._loop.watch(self._socket.fileno(), READ | WRITE if self._out else READ, self._ready)

    # --- in

    def _ready(self, ready: int) -> None:
        if ready & WRITE:
            self._write()
        if ready & READ:
            self._read()

    def _expect(self, size: int, then: Callable[[bytes], None]) -> None:
        self._buffer, self._filled, self._then = bytearray(size), 0, then

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self._closed or not self._read_some():
                return

    def _read_some(self) -> bool:
        try:
            got = self._socket.recv_into(memoryview(self._buffer)[self._filled :])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            got = 0
        if not got:
            self._end("")
            return False
        self._filled += got
        return self._filled < len(self._buffer) or self._piece(bytes(self._buffer))

    def _piece(self, data: bytes) -> bool:
        """Take a whole prefix, header or body; what `on_frame` raises is its own affair."""
        try:
            self._then(data)
        except ProtocolError as error:
            self._end(str(error))
            return False
        if self._frame is not None:
            frame, self._frame = self._frame, None
            self._on_frame(*frame)
        return True

    def _prefix(self, data: bytes) -> None:
        header_size, self._body_size = decode_prefix(data)
        if not header_size:
            raise ProtocolError("a frame without a header")
        self._expect(header_size, self._head)

    def _head(self, data: bytes) -> None:
        self._header = decode_header(data)
        self._screen(self._header, self._body_size)
        if self._body_size:
            self._expect(self._body_size, self._whole)
        else:
            self._whole(b"")

    def _whole(self, body: bytes) -> None:
        self._frame = self._header, body
        self._expect(PREFIX_SIZE, self._prefix)

    def _end(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._on_end(why)

    def close(self) -> None:
        """Let go of the socket; `on_end` is not called any more."""
        if not self._closed:
            self._closed = True
            self._out.clear()
            self._loop.forget(self._socket.fileno())
            self._socket.close()
