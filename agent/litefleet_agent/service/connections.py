"""The service's callers together: each is checked, all are kept within bounds, and none waits for another."""

import select
import socket
from typing import Any, Callable, Dict, Iterator, List, Optional

from ..errors import AgentError
from ..protocol import MAX_BODY, ProtocolError, encode
from .event_loop import READ, WRITE, Loop
from .framing import Frame, FrameReader, NotYet, Outbox
from .listener import Allowed, Peer, listen, peer_of, socket_path
from .messages import Refusal
from .settings import NAME, Settings

__all__ = ["IN_FLIGHT", "MOST_HEADER", "Caller", "Callers", "House", "error_of", "listen", "socket_path"]


IN_FLIGHT = 8  # requests of one caller whose answers it has not taken
MOST_HEADER = 1 << 16  # bytes
_MOST_UNREAD = 64 << 20  # bytes of answers; then a caller's requests wait
_READ_SIZE = 1 << 18
_FRAMES_A_TURN = 8  # that the house has a note on; then the other callers have their turn


class House:
    """Where a caller is a guest: it hears its requests, and keeps all callers within bounds."""

    loop: Loop
    settings: Settings

    def screen(self, caller: "Caller", header: Dict[str, Any], body_size: int) -> Any:
        """Return what `on_request` is to know of a request whose body comes next.

        Raises Refusal when it is not to be read, NotYet when it is to wait for `Caller.resume`.
        """
        raise NotImplementedError

    def on_request(self, caller: "Caller", header: Dict[str, Any], body: bytes, note: Any) -> None:
        """Take a whole request, and what `screen` made of it."""
        raise NotImplementedError

    def weigh(self, caller: "Caller") -> None:
        """See how much this caller and the others hold."""
        raise NotImplementedError

    def left(self, caller: "Caller") -> None:
        """Forget a caller that is closed."""
        raise NotImplementedError


class Caller:
    """One connection; `reply` answers on it."""

    def __init__(self, house: House, connection: socket.socket, peer: Peer) -> None:
        self.pid, self.uid, self.gid = peer.pid, peer.uid, peer.gid
        self.closed = False
        self.reader = FrameReader(MOST_HEADER, MAX_BODY, self._decide)
        self.outbox = Outbox()
        self.in_flight = 0
        self.asked = False  # anything yet
        self.silent_since = house.loop.now()
        self._house, self._loop, self._socket = house, house.loop, connection
        self._ended = False  # it sends no more, and may still read
        self._leaving = False  # it is let go once it has the last answer
        self._empty = True  # no whole frame waits to be looked at
        self._parked = False  # its next request waits at its header
        self.parked_since: Optional[float] = None  # since when it does, asked again or not
        self._working = self._planned = self._broken = False
        self._events = 0
        self._frame_since: Optional[float] = None  # since when the rest of a frame is waited for
        self._unread_since: Optional[float] = None  # since when it has not taken the next answer
        self._arrange()

    # --- answers

    def reply(self, header: Dict[str, Any], body: bytes = b"") -> None:
        """Send an answer, or as much of it as is taken now; never raises, and calls nothing back before it returns."""
        if self.closed:
            return
        try:
            head = encode(header, len(body))
        except ProtocolError as error:
            head, body = encode(error_of(header.get("re"), Refusal(str(error), "too-large"))), b""
        self.outbox.put(head, body)
        self._write()
        self._plan()

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
            self.silent_since = now
            self._unread_since = None
        if not self.outbox.size:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now

    def _plan(self) -> None:
        """Have a look at what waits, soon; there is nothing to look at while it only has to send its next request."""
        idle = self._empty and not (self.outbox.size or self._ended or self._leaving or self._broken)
        if not (self._planned or self._working or (idle and self._events == READ)):
            self._planned = True
            self._loop.later(0, self._work)

    # --- requests

    def _ready(self, ready: int) -> None:
        if ready & WRITE:
            self._write()
        if ready & READ and not self._broken:
            self._read()
        self._work()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._broken = True
            return
        self.silent_since = self._loop.now()
        self._ended = not data
        self.reader.push(data)
        self._empty = False

    def _work(self) -> None:
        """Look at what has come, and arrange for what is next."""
        self._planned = False
        if self.closed or self._working:
            return
        self._working = True
        try:
            self._look()
        except NotYet:
            self._parked = True
            if self.parked_since is None:
                self.parked_since = self._loop.now()
        except ProtocolError as error:
            self.dismiss(Refusal("%s; see docs/service.md for what is sent" % error, "bad-request"))
        self._working = False
        self._house.weigh(self)
        self._arrange()

    def _look(self) -> None:
        for _ in range(_FRAMES_A_TURN):
            if not self._may_send:
                return
            frame = self.reader.take()
            if frame is None:
                self._empty = True
                return
            self._serve(frame)
            if frame.refused is None and frame.note is None:
                return  # nothing is known of what it costs: the others have their turn

    @property
    def _may_send(self) -> bool:
        full = self.in_flight >= IN_FLIGHT or self.outbox.size >= _MOST_UNREAD
        return not (full or self._parked or self._leaving or self._broken)

    def resume(self) -> None:
        """Ask again about a request that waits at its header."""
        if self._parked:
            self._parked = False
            self._plan()

    def _serve(self, frame: Frame) -> None:
        self._frame_since = self.parked_since = None
        self.asked = True
        self.in_flight += 1
        if frame.refused is not None:
            self.reply(error_of(_number(frame.header), frame.refused))
        else:
            self._house.on_request(self, frame.header, frame.body, frame.note)

    def _decide(self, header: Dict[str, Any], size: int) -> Any:
        most = self._house.settings.queue_bytes
        if _number(header) is None:
            raise Refusal("`id` must be a whole number from 0 to 2^53", "bad-request")
        if size > most:
            raise Refusal(
                "the body has %d bytes; at most %d are taken (`queue_bytes` in %s)" % (size, most, NAME), "too-large"
            )
        return self._house.screen(self, header, size)

    def shed(self, refusal: Refusal) -> None:
        """Refuse the request whose body is being read, and drop the rest of it."""
        self._serve(self.reader.refuse(refusal))

    # --- arrangements

    def _arrange(self) -> None:
        """Watch for what is waited for, or let the caller go."""
        if self._finished():
            self.close()
            return
        may_send = self._may_send
        reading = may_send and not self._ended and self._empty
        if may_send and not self._empty:
            self._plan()
        if not (reading and self.reader.begun):
            self._frame_since = None  # what this side does not read is not late
        elif self._frame_since is None:
            self._frame_since = self._loop.now()
        events = (READ if reading else 0) | (WRITE if self.outbox.size else 0)
        if events != self._events:
            self._events = events
            self._loop.watch(self._socket.fileno(), events, self._ready)

    def _finished(self) -> bool:
        done = not self.in_flight and not self.outbox.size
        if self._broken or (self._leaving and not self.outbox.size):
            return True
        return self._ended and (self._hung_up() or (self._empty and done))

    def _hung_up(self) -> bool:
        """Whether the other side has closed altogether, not only its sending half."""
        return bool(self._polled(0) & select.POLLHUP)

    def _polled(self, events: int) -> int:
        poll = select.poll()
        poll.register(self._socket.fileno(), events)
        return sum(told for _, told in poll.poll(0))

    @property
    def idle(self) -> bool:
        """Whether nothing is asked, being sent, or on its way: it can be let go without a word, and loses nothing."""
        waits = self.in_flight or self.outbox.size or self.reader.begun or self._leaving
        return not waits and not self._polled(select.POLLIN)

    @property
    def half_since(self) -> Optional[float]:
        """Since when the rest of a frame is waited for, None where something else is."""
        return None if self.in_flight or self.outbox.size or self._leaving else self._frame_since

    def dismiss(self, refusal: Refusal) -> None:
        """Tell why, and let the caller go."""
        if not self._leaving:
            self._leaving = True
            self.reply(error_of(None, refusal))

    def look_at_clock(self, now: float) -> None:
        """Let go who is late, silent for too long, or gone."""
        settings = self._house.settings
        if self._late(self._unread_since, now, settings.io_limit_s):
            self.close()
        elif self._late(self._frame_since, now, settings.io_limit_s):
            self.dismiss(Refusal("the rest of a frame did not come within %g s" % settings.io_limit_s, "timed-out"))
        elif self.in_flight or self._parked:
            if self._hung_up():
                self.close()
            else:
                self.resume()  # its time may be over
        elif self._late(self.silent_since, now, settings.idle_limit_s):
            self.close()

    @staticmethod
    def _late(since: Optional[float], now: float, limit: float) -> bool:
        return since is not None and now - since > limit

    def close(self) -> None:
        """End the connection; twice is once."""
        if self.closed:
            return
        self.closed = True
        if self._events:
            self._loop.forget(self._socket.fileno())
        self._socket.close()
        self.outbox.clear()
        self._house.left(self)


def _number(header: Dict[str, Any]) -> Optional[int]:
    """Return a request's id, None when it is none."""
    number = header.get("id")
    return number if type(number) is int and 0 <= number <= 1 << 53 else None


def error_of(number: Any, error: AgentError) -> Dict[str, Any]:
    """Return an error's answer to the request `number`; None = it is about the connection."""
    told = error.to_dict() if isinstance(error, Refusal) else {"code": error.code, "message": str(error)}
    return {"re": number, "error": told}


_ACCEPTS_A_TURN = 16
_PAUSE_S = 0.5  # without accepting, when descriptors or memory ran out
_RESERVED = (
    4  # connections beyond the setting for root and the service's own user: for an operator who looks what is wrong
)

OnRequest = Callable[[Caller, Dict[str, Any], bytes, Any], None]
Screen = Callable[[Caller, Dict[str, Any], int], Any]
OnGone = Callable[[Caller], None]


class Callers(House):
    """Everyone who is connected.

    `screen(caller, header, body bytes)` may refuse a request before its body is read, or have it wait (NotYet) for `resume`;
    what it returns goes with the request to `on_request(caller, header, body, screened)`; `on_gone(caller)` tells that nobody
    waits for a caller's answers any more.  SettingsError for unknown users.
    """

    def __init__(
        self,
        loop: Loop,
        listening: socket.socket,
        settings: Settings,
        screen: Screen,
        on_request: OnRequest,
        on_gone: OnGone,
    ) -> None:
        self.loop, self.settings = loop, settings
        self._screen, self._on_request, self._on_gone = screen, on_request, on_gone
        self._allowed = Allowed(settings)
        self._listening = listening
        self._accepting = True
        self._all: Dict[Caller, int] = {}  # -> bytes of the body that is being read
        self._held = 0  # all of these together
        listening.setblocking(False)
        loop.watch(listening.fileno(), READ, self._accept)
        self._tick_s = max(0.02, min(1.0, settings.io_limit_s / 4, settings.idle_limit_s / 4))
        self._timer = loop.later(self._tick_s, self._tick)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Caller]:
        return iter(list(self._all))

    @property
    def unsent(self) -> bool:
        """Whether any answer has not been taken yet."""
        return any(caller.outbox.size for caller in self._all)

    # --- accepting

    def _accept(self, ready: int) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor or memory left: asking again at once would only burn the CPU
                self.loop.forget(self._listening.fileno())
                self.loop.later(_PAUSE_S, self._resume)
                return
            self._admit(connection)

    def _resume(self) -> None:
        if self._accepting:
            self.loop.watch(self._listening.fileno(), READ, self._accept)

    def _admit(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            peer = peer_of(connection)
        except OSError:
            connection.close()
            return
        refusal = self._refusal(peer)
        if refusal is None:
            self._all[Caller(self, connection, peer)] = 0
            return
        try:
            connection.send(encode(error_of(None, refusal)))
        except OSError:
            pass
        connection.close()

    def _refusal(self, peer: Peer) -> Optional[Refusal]:
        why = self._allowed.why_not(peer)
        if why:
            return Refusal(why, "not-allowed")
        most = self.settings.connections + (_RESERVED if peer.uid in self._allowed.own else 0)
        if len(self._all) < most or self._make_room():
            return None
        return Refusal("%d callers are connected, and more are not taken (`connections` in %s)" % (most, NAME), "busy")

    def _make_room(self) -> bool:
        """Let go, of the user with most connections, one that never asked, or else has been idle for longest.

        A client connects again.  Where nobody is idle, it is who has been sending a frame for longest.  So nobody keeps others
        out by connecting, but only by asking.
        """
        users: Dict[int, List[Caller]] = {}
        for caller in self._all:
            users.setdefault(caller.uid, []).append(caller)
        for callers in sorted(users.values(), key=len, reverse=True):
            for caller in sorted(callers, key=lambda one: (one.asked, one.silent_since)):
                if caller.idle:
                    caller.close()
                    return True
        half = [caller for caller in self._all if caller.half_since is not None]
        if half:
            slowest = min(half, key=lambda one: one.half_since or 0.0)
            slowest.dismiss(Refusal("too many callers are connected, and the rest of a frame did not come", "busy"))
            slowest.close()
        return bool(half)

    def stop_accepting(self) -> None:
        """Take no more connections; those that are there stay."""
        if self._accepting:
            self._accepting = False
            self.loop.forget(self._listening.fileno())

    # --- looking after them

    def screen(self, caller: Caller, header: Dict[str, Any], body_size: int) -> Any:
        """Have a request looked at before its body is read; Refusal."""
        return self._screen(caller, header, body_size)

    def on_request(self, caller: Caller, header: Dict[str, Any], body: bytes, note: Any) -> None:
        """Pass a whole request on."""
        self._on_request(caller, header, body, note)

    def resume(self) -> None:
        """Ask again about the requests that wait at their headers."""
        for caller in list(self._all):
            caller.resume()

    def weigh(self, caller: Caller) -> None:
        """Keep all unfinished bodies together within `queue_bytes`: whoever holds most is refused first."""
        if caller not in self._all:
            return
        held = caller.reader.held
        self._held += held - self._all[caller]
        self._all[caller] = held
        if held and self._held > self.settings.queue_bytes:
            most = max(self._all, key=lambda one: self._all[one])
            self._held -= self._all[most]
            self._all[most] = 0
            most.shed(Refusal("requests that are being read hold too much memory; try again later", "busy"))

    def _tick(self) -> None:
        now = self.loop.now()
        for caller in list(self._all):
            caller.look_at_clock(now)
        self._timer = self.loop.later(self._tick_s, self._tick)

    def left(self, caller: Caller) -> None:
        """Forget a caller that is closed, and tell it."""
        if caller in self._all:
            self._held -= self._all.pop(caller)
            self._on_gone(caller)

    def close(self, refusal: Optional[Refusal] = None) -> None:
        """Let everyone go, and tell `refusal` those who wait for something or are sending.

        The listening socket stays open, for whoever serves next.
        """
        self.stop_accepting()
        self._timer.cancel()
        for caller in list(self._all):
            if refusal is not None and not caller.idle:
                caller.dismiss(refusal)
            caller.close()
