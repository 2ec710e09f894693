"""The end of a socket in a process that works for another one: frames, one after the other.  It may wait."""

import socket
from typing import Any, Dict, Optional, Sequence, Tuple

from .protocol import PREFIX_SIZE, decode_header, decode_prefix, encode

__all__ = ["Link"]


class Link:
    """This process's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def read(self) -> Optional[Tuple[Dict[str, Any], bytes]]:
        """Return the next frame, None when the other end let go."""
        prefix = self._take(PREFIX_SIZE)
        if prefix is None:
            return None
        header_size, body_size = decode_prefix(prefix)
        header, body = self._take(header_size), self._take(body_size)
        return None if header is None or body is None else (decode_header(header), body)

    def _take(self, size: int) -> Optional[bytes]:
        data, filled = bytearray(size), 0
        while filled < size:
            got = self._socket.recv_into(memoryview(data)[filled:])
            if not got:
                return None
            filled += got
        return bytes(data)

    def send(self, header: Dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        """Send a frame whose body is `parts`, one after the other."""
        self._socket.sendall(encode(header, sum(map(len, parts))))
        for part in parts:
            self._socket.sendall(part)

    def stage(self, words: str) -> None:
        """Tell what comes next, in words: should it end this process, the other one knows at what."""
        self.send({"event": "stage", "words": words})
