"""Lets no request through whose sender is unknown, or that another site's page may have sent."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import error_response
from .auth import Auth, Known
from .requests import KNOWN

_SAFE = ("GET", "HEAD", "OPTIONS")
_PUBLIC = ("/login", "/healthz")
_PUBLIC_FOLDER = "/static/"
_FORM = "application/x-www-form-urlencoded"


class Identify:
    """Finds who sends each request; what is not public needs a person, and what changes something the session's CSRF token."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app, self._auth = app, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        known = self._auth.known(request)
        scope[KNOWN] = known
        if known is None and not _is_public(scope["path"]):
            await error_response(request, 401, "Log in first.")(scope, receive, send)
            return
        if scope["method"] not in _SAFE:
            problem, receive = await _forgery(request, known, receive)
            if problem:
                await error_response(request, 403, problem)(scope, receive, send)
                return
        await self._app(scope, receive, self._sending(request, known, send))

    def _sending(self, request: HTTPConnection, known: Known | None, send: Send) -> Send:
        """Return a `send` that adds the cookie of a session which began with this request."""
        if known is None or not known.is_new:
            return send

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = self._auth.cookie_header(request, known.cookie)
                MutableHeaders(scope=message).append("set-cookie", header)
            await send(message)

        return adding


def _is_public(path: str) -> bool:
    return path in _PUBLIC or path.startswith(_PUBLIC_FOLDER)


async def _forgery(request: Request, known: Known | None, receive: Receive) -> tuple[str, Receive]:
    """Return why a changing request may come from another site's page, "" if it cannot, and how its body is read again."""
    if not is_own_origin(request):
        return "This request comes from another site's page.", receive
    if known is None or known.session is None:  # a token in the request itself: no other site's page knows it
        return "", receive
    given = request.headers.get("x-csrf-token", "")
    if not given and request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        body = await request.body()
        receive = _again(body, receive)
        given = parse_qs(body.decode("latin-1"), max_num_fields=1000).get("csrf", [""])[0]
    if hmac.compare_digest(given.encode("utf-8", "replace"), known.session.csrf.encode()):
        return "", receive
    return "This form is out of date. Load the page again, then send it again.", receive


def is_own_origin(request: HTTPConnection) -> bool:
    """Return whether the page that sent a request is this server's, as far as the browser says."""
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given
