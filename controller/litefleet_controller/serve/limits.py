"""Rejects requests for other host names, and addresses, headers and bodies that are too large."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import error_response

MOST_HEADERS = 16 << 10  # bytes of a request's address and headers
_LOOPBACK = ("localhost",)


class HostCheck:
    """Serves requests for this server's names only: a page of another name must not reach it through DNS rebinding.

    An IP address as the name is always served: a name that is rebound is no address.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {name.lower().rstrip(".") for name in (*hosts, *_LOOPBACK, socket.gethostname())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            names = [value for key, value in scope["headers"] if key == b"host"]
            if len(names) != 1 or not self._serves(names[0].decode("latin-1")):
                request = Request(scope, receive)
                sentence = "This server does not serve that host name. Its operator can add it with --hostname."
                await error_response(request, 421, sentence)(scope, receive, send)
                return
            # h11 bounds what is incomplete only: what comes in one piece may be larger.
            size = sum(len(key) + len(value) + 4 for key, value in scope["headers"])
            if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_HEADERS:
                sentence = f"The request's address and headers are larger than {MOST_HEADERS} bytes."
                await error_response(Request(scope, receive), 431, sentence)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _serves(self, host: str) -> bool:
        name = host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port and an address's brackets, in small letters; "" for nonsense."""
    name, colon, port = host.strip().rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host.strip(), "0"
    if not port.isdecimal() or "/" in name or "@" in name:
        return ""
    return name.removeprefix("[").removesuffix("]").lower().rstrip(".")


class BodyLimit:
    """Rejects a body of more than `most` bytes, by what its length says, else when that many have come."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > self._most:
            await self._reject(scope, receive, send)
            return
        came, started = 0, False

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise _TooLarge
            return message

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, noting)
        except _TooLarge:
            if not started:
                await self._reject(scope, receive, send)

    async def _reject(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = f"The request is larger than {self._most} bytes, the most that this server reads."
        response = error_response(Request(scope, receive), 413, sentence, {"Connection": "close"})
        await response(scope, receive, send)


class _TooLarge(Exception):
    """More bytes have come than are read."""
