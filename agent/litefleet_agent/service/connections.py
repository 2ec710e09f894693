"""The client connections of the service: access control, limits per connection and for all together.

No connection waits for another.
"""

import select
import socket
from typing import Callable, Dict, Iterator, List, Optional

from ..errors import AgentError
from ..protocol import MAX_BODY, ProtocolError, encode
from .event_loop import READ, WRITE, EventLoop
from .framing import Backpressure, Frame, FrameReader, Outbox
from .listener import AccessControl, Peer, peer_of
from .messages import Rejection
from .settings import NAME, Settings

IN_FLIGHT = 8  # requests of one connection that are not answered yet, or whose answers the client has not read
MOST_HEADER = 1 << 16  # bytes
_MOST_UNREAD = 64 << 20  # bytes of answers that the client has not read; its further requests wait
_READ_SIZE = 1 << 18
_FRAMES_A_TURN = 8  # whose cost is known from their headers; then the other connections have their turn

ValidateRequest = Callable[["Connection", Dict[str, object], int], object]
OnRequest = Callable[["Connection", Dict[str, object], bytes, object], None]
OnClosed = Callable[["Connection"], None]


class Connection:
    """One client connection; `reply` sends an answer."""

    def __init__(self, handler: "ConnectionSet", sock: socket.socket, peer: Peer) -> None:
        self.pid, self.uid, self.gid = peer.pid, peer.uid, peer.gid
        self.closed = False
        self.reader = FrameReader(MOST_HEADER, MAX_BODY, self._validate)
        self.outbox = Outbox()
        self.in_flight = 0
        self.has_requested = False  # at least once
        self.idle_since = handler.loop.now()
        self._handler, self._loop, self._socket = handler, handler.loop, sock
        self._ended = False  # the client has closed its sending half, and may still read
        self._closing = False  # to be closed after the last answer
        self._empty = True  # no whole frame is buffered
        self._paused = False  # the next request waits at its header
        self.paused_since: Optional[float] = None  # the first time that request was paused
        self._processing = self._scheduled = self._broken = False
        self._events = 0
        self._frame_since: Optional[float] = None  # since when the rest of a frame is missing
        self._unread_since: Optional[float] = None  # since when the client has not read the next answer
        self._update_events()

    # --- answers

    def reply(self, header: Dict[str, object], body: bytes = b"") -> None:
        """Send an answer, now as much of it as the socket accepts; never raises, and makes no callback."""
        if self.closed:
            return
        try:
            head = encode(header, len(body))
        except ProtocolError as error:
            head, body = encode(error_of(header.get("re"), Rejection(str(error), "too-large"))), b""
        self.outbox.put(head, body)
        self._write()
        self._schedule()

    def _write(self) -> None:
        try:
            finished = self.outbox.write_some(self._socket.fileno())
        except OSError:
            self._broken = True
            self.outbox.clear()
            return
        now = self._loop.now()
        if finished:
            self.in_flight = max(0, self.in_flight - finished)
            self.idle_since = now
            self._unread_since = None
        if not self.outbox.size:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now

    def _schedule(self) -> None:
        """Process this connection soon, unless it only waits for the client's next request."""
        idle = self._empty and not (self.outbox.size or self._ended or self._closing or self._broken)
        if not (self._scheduled or self._processing or (idle and self._events == READ)):
            self._scheduled = True
            self._loop.later(0, self._process)

    # --- requests

    def _ready(self, ready: int) -> None:
        if ready & WRITE:
            self._write()
        if ready & READ and not self._broken:
            self._read()
        self._process()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._broken = True
            return
        self.idle_since = self._loop.now()
        self._ended = not data
        self.reader.feed(data)
        self._empty = False

    def _process(self) -> None:
        """Process the buffered frames, and watch for the next event."""
        self._scheduled = False
        if self.closed or self._processing:
            return
        self._processing = True
        try:
            self._process_frames()
        except Backpressure:
            self._paused = True
            if self.paused_since is None:
                self.paused_since = self._loop.now()
        except ProtocolError as error:
            self.reject_and_close(Rejection("%s; see docs/service.md for what is sent" % error, "bad-request"))
        self._processing = False
        self._handler.update_memory(self)
        self._update_events()

    def _process_frames(self) -> None:
        for _ in range(_FRAMES_A_TURN):
            if not self._may_read:
                return
            frame = self.reader.next_frame()
            if frame is None:
                self._empty = True
                return
            self._serve(frame)
            if frame.rejected is None and frame.context is None:
                return  # its cost is unknown: the other connections have their turn

    @property
    def _may_read(self) -> bool:
        full = self.in_flight >= IN_FLIGHT or self.outbox.size >= _MOST_UNREAD
        return not (full or self._paused or self._closing or self._broken)

    def resume(self) -> None:
        """Validate again the request that waits at its header."""
        if self._paused:
            self._paused = False
            self._schedule()

    def _serve(self, frame: Frame) -> None:
        self._frame_since = self.paused_since = None
        self.has_requested = True
        self.in_flight += 1
        if frame.rejected is not None:
            self.reply(error_of(_number(frame.header), frame.rejected))
        else:
            self._handler.on_request(self, frame.header, frame.body, frame.context)

    def _validate(self, header: Dict[str, object], size: int) -> object:
        most = self._handler.settings.queue_bytes
        if _number(header) is None:
            raise Rejection("`id` must be a whole number from 0 to 2^53", "bad-request")
        if size > most:
            raise Rejection(
                "the body has %d bytes; the limit is %d (`queue_bytes` in %s)" % (size, most, NAME), "too-large"
            )
        return self._handler.validate_request(self, header, size)

    def reject_current(self, rejection: Rejection) -> None:
        """Reject the request whose body is being read, and drop the rest of the body."""
        self._serve(self.reader.reject(rejection))

    # --- events and timeouts

    def _update_events(self) -> None:
        """Watch the socket for the next event, or close a finished connection."""
        if self._finished():
            self.close()
            return
        may_read = self._may_read
        reading = may_read and not self._ended and self._empty
        if may_read and not self._empty:
            self._schedule()
        if not (reading and self.reader.begun):
            self._frame_since = None  # the client is not late while this side does not read
        elif self._frame_since is None:
            self._frame_since = self._loop.now()
        events = (READ if reading else 0) | (WRITE if self.outbox.size else 0)
        if events != self._events:
            self._events = events
            self._loop.watch(self._socket.fileno(), events, self._ready)

    def _finished(self) -> bool:
        done = not self.in_flight and not self.outbox.size
        if self._broken or (self._closing and not self.outbox.size):
            return True
        return self._ended and (self._hung_up() or (self._empty and done))

    def _hung_up(self) -> bool:
        """Whether the client has closed both halves, not only its sending half."""
        return bool(self._polled(0) & select.POLLHUP)

    def _polled(self, events: int) -> int:
        poll = select.poll()
        poll.register(self._socket.fileno(), events)
        return sum(ready for _, ready in poll.poll(0))

    @property
    def idle(self) -> bool:
        """Whether no request, answer or part of a frame is pending: it can be closed without loss."""
        waits = self.in_flight or self.outbox.size or self.reader.begun or self._closing
        return not waits and not self._polled(select.POLLIN)

    @property
    def partial_since(self) -> Optional[float]:
        """Since when the rest of a frame is missing, None when the connection waits for anything else."""
        return None if self.in_flight or self.outbox.size or self._closing else self._frame_since

    def reject_and_close(self, rejection: Rejection) -> None:
        """Send the rejection, and close the connection after it."""
        if not self._closing:
            self._closing = True
            self.reply(error_of(None, rejection))

    def check_timeouts(self, now: float) -> None:
        """Close a connection whose client is too slow, silent for too long, or gone."""
        settings = self._handler.settings
        if self._expired(self._unread_since, now, settings.io_limit_s):
            self.close()
        elif self._expired(self._frame_since, now, settings.io_limit_s):
            self.reject_and_close(
                Rejection("the rest of a frame did not arrive within %g s" % settings.io_limit_s, "timed-out")
            )
        elif self.in_flight or self._paused:
            if self._hung_up():
                self.close()
            else:
                self.resume()  # the request's deadline may have passed
        elif self._expired(self.idle_since, now, settings.idle_limit_s):
            self.close()

    @staticmethod
    def _expired(since: Optional[float], now: float, limit: float) -> bool:
        return since is not None and now - since > limit

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self._events:
            self._loop.forget(self._socket.fileno())
        self._socket.close()
        self.outbox.clear()
        self._handler.connection_closed(self)


def _number(header: Dict[str, object]) -> Optional[int]:
    """Return a request's id, None when it is invalid."""
    number = header.get("id")
    return number if isinstance(number, int) and type(number) is int and 0 <= number <= 1 << 53 else None


def error_of(number: object, error: AgentError) -> Dict[str, object]:
    """Return the header of an error's answer to the request `number`; None = it concerns the connection."""
    error_dict = error.to_dict() if isinstance(error, Rejection) else {"code": error.code, "message": str(error)}
    return {"re": number, "error": error_dict}


_ACCEPTS_A_TURN = 16
_PAUSE_S = 0.5  # without accepting, when descriptors or memory ran out
_RESERVED = 4  # connections above the setting for root and the service's own user, so that an operator can connect


class ConnectionSet:
    """All open connections.

    `validate_request(connection, header, body bytes)` may reject a request before its body is read (Rejection), or make it
    wait for `resume` (Backpressure); its result goes with the request to `on_request(connection, header, body, result)`.
    `on_closed(connection)` reports a closed connection: its answers are no longer needed.

    Raises SettingsError for unknown users and groups in the settings.
    """

    def __init__(
        self,
        loop: EventLoop,
        listener: socket.socket,
        settings: Settings,
        validate_request: ValidateRequest,
        on_request: OnRequest,
        on_closed: OnClosed,
    ) -> None:
        self.loop, self.settings = loop, settings
        self.validate_request, self.on_request, self._on_closed = validate_request, on_request, on_closed
        self._access = AccessControl(settings)
        self._listener = listener
        self._accepting = True
        self._all: Dict[Connection, int] = {}  # -> bytes of the body that is being read
        self._buffered = 0  # sum of these bytes
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)
        self._tick_s = max(0.02, min(1.0, settings.io_limit_s / 4, settings.idle_limit_s / 4))
        self._timer = loop.later(self._tick_s, self._tick)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    @property
    def unsent(self) -> bool:
        """Whether any client has not read an answer yet."""
        return any(connection.outbox.size for connection in self._all)

    # --- accepting

    def _accept(self, ready: int) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor or memory left: retrying at once would only use the CPU
                self.loop.forget(self._listener.fileno())
                self.loop.later(_PAUSE_S, self._resume)
                return
            self._admit(sock)

    def _resume(self) -> None:
        if self._accepting:
            self.loop.watch(self._listener.fileno(), READ, self._accept)

    def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            peer = peer_of(sock)
        except OSError:
            sock.close()
            return
        rejection = self._rejection(peer)
        if rejection is None:
            self._all[Connection(self, sock, peer)] = 0
            return
        try:
            sock.send(encode(error_of(None, rejection)))
        except OSError:
            pass
        sock.close()

    def _rejection(self, peer: Peer) -> Optional[Rejection]:
        reason = self._access.denial_reason(peer)
        if reason:
            return Rejection(reason, "not-allowed")
        most = self.settings.connections + (_RESERVED if peer.uid in self._access.own else 0)
        if len(self._all) < most or self._close_idle():
            return None
        return Rejection("%d clients are connected, which is the limit (`connections` in %s)" % (most, NAME), "busy")

    def _close_idle(self) -> bool:
        """Close one connection to make room for another, and return whether there was one to close.

        Of the user with most connections: one without a request so far, else the one that has been idle for longest; clients
        reconnect.  Where none is idle: the one that has been sending a frame for longest.  So no user can block others by
        open connections alone.
        """
        users: Dict[int, List[Connection]] = {}
        for connection in self._all:
            users.setdefault(connection.uid, []).append(connection)
        for connections in sorted(users.values(), key=len, reverse=True):
            for connection in sorted(connections, key=lambda one: (one.has_requested, one.idle_since)):
                if connection.idle:
                    connection.close()
                    return True
        partial = [connection for connection in self._all if connection.partial_since is not None]
        if partial:
            slowest = min(partial, key=lambda one: one.partial_since or 0.0)
            slowest.reject_and_close(
                Rejection("too many clients are connected, and the rest of a frame did not arrive", "busy")
            )
            slowest.close()
        return bool(partial)

    def stop_accepting(self) -> None:
        """Accept no more connections; open ones stay."""
        if self._accepting:
            self._accepting = False
            self.loop.forget(self._listener.fileno())

    # --- limits and timeouts

    def resume(self) -> None:
        """Validate again all requests that wait at their headers."""
        for connection in list(self._all):
            connection.resume()

    def update_memory(self, connection: Connection) -> None:
        """Limit all unfinished bodies together to `queue_bytes`: the request with the largest one is rejected."""
        if connection not in self._all:
            return
        buffered = connection.reader.buffered
        self._buffered += buffered - self._all[connection]
        self._all[connection] = buffered
        if buffered and self._buffered > self.settings.queue_bytes:
            most = max(self._all, key=lambda one: self._all[one])
            self._buffered -= self._all[most]
            self._all[most] = 0
            most.reject_current(Rejection("requests that are being read hold too much memory; try again later", "busy"))

    def _tick(self) -> None:
        now = self.loop.now()
        for connection in list(self._all):
            connection.check_timeouts(now)
        self._timer = self.loop.later(self._tick_s, self._tick)

    def connection_closed(self, connection: Connection) -> None:
        """Remove a closed connection, and report it."""
        if connection in self._all:
            self._buffered -= self._all.pop(connection)
            self._on_closed(connection)

    def close(self, rejection: Optional[Rejection] = None) -> None:
        """Close all connections; those that are not idle get the rejection first.

        The listening socket stays open, for the program that serves next.
        """
        self.stop_accepting()
        self._timer.cancel()
        for connection in list(self._all):
            if rejection is not None and not connection.idle:
                connection.reject_and_close(rejection)
            connection.close()
