"""`Auth`: recognises who sends a request."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from .attempts import Attempts, LoginLog
from .people import Person, Role, is_name
from .sessions import Session, Sessions
from .users import Users

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Proxy:
    """The reverse proxy that may name the user: its header, its addresses, and the role of names that the file lacks."""

    header: str = ""  # "": no proxy is trusted
    peers: tuple[Network, ...] = ()
    role: Role | None = None  # None: only names of the users' file

    def is_peer(self, address: str) -> bool:
        """Return whether a connection comes from the proxy."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self.peers)

    def addresses(self) -> list[str]:
        """Return the proxy's single addresses, through whose connections many people come."""
        return [str(network.network_address) for network in self.peers if network.num_addresses == 1]


@dataclass(frozen=True)
class Known:
    """Who sends a request.  Without a session, the person gave a token with the request itself."""

    person: Person
    session: Session | None = None
    cookie: str = ""
    is_new: bool = False  # the session began with this request: its cookie has to be sent


def bearer_of(connection: HTTPConnection) -> str | None:
    """Return the token that a request itself carries; None without one.

    A proxy that asks for a password passes the browser's `Authorization: Basic …` on: that is no token, and nobody's failure.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class OneTimeLink:
    """The secret of a link that opens the dashboard once, for the person who started it."""

    def __init__(self, person: Person | None) -> None:
        self._person = person
        self._one = threading.Lock()
        self.secret = secrets.token_urlsafe(32) if person is not None else ""

    def use(self, secret: str) -> Person | None:
        """Return the person for the right secret, the first time only."""
        with self._one:
            if not self.secret or not hmac.compare_digest(secret.encode("utf-8", "replace"), self.secret.encode()):
                return None
            self.secret = ""
            return self._person


@dataclass(frozen=True)
class Auth:
    """Recognises people by the one-time link, tokens, the proxy's header, and sessions."""

    users: Users
    link: OneTimeLink
    proxy: Proxy = Proxy()
    sessions: Sessions = field(default_factory=Sessions)
    attempts: Attempts = field(default_factory=Attempts)
    log: LoginLog = field(default_factory=LoginLog)
    cookie_name: str = "litefleet"

    def known(self, connection: HTTPConnection) -> Known | None:
        """Return who sends a request; None for nobody, and for a token or a header that is not accepted."""
        token = bearer_of(connection)
        if token is not None:
            found = self.users.of_token(token)
            return Known(found[0]) if found else None
        cookie = connection.cookies.get(self.cookie_name, "")
        session = self.sessions.find(cookie) if cookie else None
        named = self.named_by_proxy(connection)
        if named is not None:
            return self._of_proxy(named, session, cookie)
        if session is None or session.person.way == "proxy":
            return None
        if session.person.way == "link":
            return Known(session.person, session, cookie)
        person = self.users.of_key(session.key)
        if person is None:
            self.sessions.end(cookie)
            return None
        return Known(person, session, cookie)

    def refuse(self, address: str, way: str) -> None:
        """Count a failed login, and write it to the audit log; it blocks."""
        self.attempts.failed(address)
        self.log.refused(f"unknown at {address}", "login refused", {"address": address, "way": way})

    def named_by_proxy(self, connection: HTTPConnection) -> Person | None:
        """Return the person whom a trusted proxy names; the header of any other peer is ignored."""
        peer = connection.client.host if connection.client else ""
        if not self.proxy.header or not self.proxy.is_peer(peer):
            return None
        names = connection.headers.getlist(self.proxy.header)
        if len(names) != 1 or not is_name(names[0]):
            return None
        role = self.users.role_of(names[0]) or self.proxy.role
        return None if role is None else Person(names[0], role, "proxy")

    def _of_proxy(self, person: Person, session: Session | None, cookie: str) -> Known:
        if session is not None and (session.person.way, session.person.name) == ("proxy", person.name):
            return Known(person, session, cookie)
        cookie = self.sessions.begin(person, instead_of=cookie)
        return Known(person, self.sessions.find(cookie), cookie, is_new=True)

    def address_of(self, connection: HTTPConnection) -> str:
        """Return the address of the browser: the connection's, or what a trusted proxy says last about it."""
        peer = connection.client.host if connection.client else ""
        if not self.proxy.is_peer(peer):
            return peer
        chain = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
        others = [address.strip() for address in chain if address.strip() and not self.proxy.is_peer(address.strip())]
        return others[-1][:64] if others else peer

    def is_forwarded_tls(self, connection: HTTPConnection) -> bool:
        """Return whether the browser's own connection is encrypted: to this server, or to a trusted proxy."""
        peer = connection.client.host if connection.client else ""
        forwarded = connection.headers.get("x-forwarded-proto", "").strip().lower() == "https"
        return connection.url.scheme == "https" or (forwarded and self.proxy.is_peer(peer))

    def cookie_header(self, connection: HTTPConnection, cookie: str) -> str:
        """Return the Set-Cookie header's value for a session; "" ends it in the browser."""
        secure = "; Secure" if self.is_forwarded_tls(connection) else ""
        ends = "" if cookie else "; Max-Age=0"
        return f"{self.cookie_name}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}"
