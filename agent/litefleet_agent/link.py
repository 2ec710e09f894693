"""The end of a socket in a process that works for another one: frames, one after the other.  It may wait."""

import socket
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .protocol import PREFIX_SIZE, decode_header, decode_prefix, encode

__all__ = ["Link"]

_AT_ONCE = 4096  # bytes that are asked for at a frame's start: mostly its prefix and the whole header
_PARTS = 64  # handed to the kernel at once; it takes at most 1024


class Link:
    """This process's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._ahead = b""  # came along with what was read

    def read(self) -> Optional[Tuple[Dict[str, Any], bytes]]:
        """Return the next frame, None when the other end let go."""
        if not self._ahead:
            self._ahead = self._socket.recv(_AT_ONCE)
        prefix = self._take(PREFIX_SIZE)
        if prefix is None:
            return None
        header_size, body_size = decode_prefix(prefix)
        header, body = self._take(header_size), self._take(body_size)
        return None if header is None or body is None else (decode_header(header), body)

    def _take(self, size: int) -> Optional[bytes]:
        data = bytearray(size)
        filled = min(size, len(self._ahead))
        data[:filled], self._ahead = self._ahead[:filled], self._ahead[filled:]
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
