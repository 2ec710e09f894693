"""What a connection may cost: uvicorn's protocol with time limits for headers, bodies and readers, and a bound on connections.

uvicorn itself waits for ever for a first request, for the rest of a body, and for a client that does not read its response.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 512  # connections of the server
MOST_OF_ONE = 100  # connections of one address, other than a trusted proxy's
HEADERS_S = 10.0  # from the connection, or from the last response, to the end of the headers
BODY_S = 30.0  # from the headers to the end of the body
READ_S = 30.0  # for which a client may read nothing of what waits for it
_LOOK_S = 1.0


class Guarded(H11Protocol):
    """One connection.  `addresses` counts the connections of each address of one server."""

    addresses: ClassVar[Counter[str]] = Counter()
    unbounded: ClassVar[frozenset[str]] = frozenset()  # trusted proxies, through which many people come
    headers_s, body_s, read_s, look_s = HEADERS_S, BODY_S, READ_S, _LOOK_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.addresses[self._address] += 1
        self._since = self._read_at = time.monotonic()
        self._unread = 0
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.look_s, self._look)
        too_many = self.addresses[self._address] > MOST_OF_ONE and self._address not in self.unbounded
        if too_many or len(self.connections) > MOST:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self.addresses[self._address] -= 1
        if self.addresses[self._address] <= 0:
            del self.addresses[self._address]
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Let the time for the next request's headers begin."""
        self._since = time.monotonic()
        super().on_response_complete()

    def handle_events(self) -> None:
        """Let the time for a body begin where its headers have come."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._since = time.monotonic()

    def shutdown(self) -> None:
        """End when the response under way has ended; over TLS, without waiting long for the client's goodbye."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(1.0, self.transport.abort)

    def _look(self) -> None:
        """End the connection of a client that is too slow."""
        now = time.monotonic()
        left = self.transport.get_write_buffer_size()
        if left == 0 or left < self._unread:
            self._read_at = now
        self._unread = left
        waits_for_headers = self.cycle is None or self.cycle.response_complete
        waits_for_body = not waits_for_headers and self.cycle.more_body
        if (
            (waits_for_headers and now - self._since > self.headers_s)
            or (waits_for_body and now - self._since > self.body_s)
            or now - self._read_at > self.read_s
        ):
            self.transport.abort()
            return
        self._timer = self.loop.call_later(self.look_s, self._look)


def guarded(unbounded: frozenset[str], **limits: float) -> type[Any]:
    """Return the protocol of one server, with counters of its own; `limits` replaces headers_s, body_s and read_s."""
    return type("GuardedHere", (Guarded,), {"addresses": Counter(), "unbounded": unbounded, **limits})
