"""What every response carries: a strict content security policy, and headers that keep browsers from guessing."""

from __future__ import annotations

import logging
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import error_response

NONCE = "litefleet.nonce"  # key of a request's scope
_LOG = logging.getLogger("litefleet.serve")
_FIXED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def nonce_of(request: HTTPConnection) -> str:
    """Return the nonce of this response's own <script> and <style> elements."""
    nonce: str = request.scope[NONCE]
    return nonce


def policy(nonce: str) -> str:
    """Return the content security policy: this server's files, and inline elements with the response's nonce."""
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


class SecurityHeaders:
    """Adds the headers to each response, and turns an error nobody expected into one sentence with a number for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        nonce = scope[NONCE] = secrets.token_urlsafe(16)
        started = False

        async def adding(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _FIXED.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", policy(nonce))
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, adding)
        except Exception:
            number = secrets.token_hex(4)
            _LOG.exception(
                "error %s in %s %s", number, scope["method"], scope["path"].encode("unicode_escape").decode()
            )
            if started:
                raise
            sentence = f"An internal error: the server's log has it under the number {number}."
            await error_response(Request(scope, receive), 500, sentence)(scope, receive, adding)
