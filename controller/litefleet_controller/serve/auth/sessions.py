"""Sessions of browsers, in memory: bounded in number and in time, and made by this server only."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .people import Person

IDLE_S = 8 * 3600.0  # without a request
LONGEST_S = 24 * 3600.0  # from the login on
MOST = 1000  # sessions of the server
MOST_OF_ONE = 20  # sessions of one person


@dataclass
class Session:
    """One browser's session.  `key` names the user's token, so that the session ends when the token is revoked."""

    person: Person
    key: str
    began: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Sessions:
    """All sessions of one server.  The cookie's value is stored as its hash only; the value is never chosen by a client."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._one = threading.Lock()
        self._sessions: dict[str, Session] = {}  # the longest unused first

    def begin(self, person: Person, key: str = "", instead_of: str = "") -> str:
        """Begin a session and return its cookie; the session of the cookie `instead_of` ends."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        with self._one:
            self._sessions.pop(_hash(instead_of), None)
            for old in [h for h, s in self._sessions.items() if self._is_over(s, now)]:
                del self._sessions[old]
            own = [h for h, s in self._sessions.items() if (s.person.name, s.person.way) == (person.name, person.way)]
            for old in own[: len(own) - MOST_OF_ONE + 1]:
                del self._sessions[old]
            while len(self._sessions) >= MOST:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_hash(cookie)] = Session(person, key, now, now)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie, which was used now; None where it is over or unknown."""
        digest, now = _hash(cookie), self._clock()
        with self._one:
            session = self._sessions.pop(digest, None)
            if session is None or self._is_over(session, now):
                return None
            session.seen = now
            self._sessions[digest] = session
            return session

    def end(self, cookie: str) -> None:
        """End the session of a cookie."""
        with self._one:
            self._sessions.pop(_hash(cookie), None)

    def __len__(self) -> int:
        return len(self._sessions)

    @staticmethod
    def _is_over(session: Session, now: float) -> bool:
        return now - session.seen > IDLE_S or now - session.began > LONGEST_S


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).hexdigest()
