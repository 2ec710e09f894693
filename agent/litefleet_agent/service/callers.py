"""The service's callers together: each is checked, all are kept within bounds, and none waits for another."""

import socket
from typing import Any, Callable, Dict, Iterator, List, Optional

from ..protocol import encode
from .caller import IN_FLIGHT, MOST_HEADER, Caller, House, error_of
from .listening import listen, socket_path
from .loop import READ, Loop
from .peers import Allowed, Peer, peer_of
from .settings import NAME, Settings
from .values import Refusal

__all__ = ["IN_FLIGHT", "MOST_HEADER", "Caller", "Callers", "listen", "socket_path"]

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
