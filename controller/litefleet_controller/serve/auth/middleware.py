"""Lets no request through whose sender is unknown, or that another site's page may have sent."""

from __future__ import annotations

import hmac
import logging
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...common.errors import LitefleetError
from ..errors import error_response
from .auth import Auth, Known, bearer_of
from .requests import KNOWN, form_fields

_LOG = logging.getLogger("litefleet.serve")
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
        try:
            known, refusal = await self._identified(request)
        except LitefleetError as error:
            _LOG.warning("nobody can log in: %s", error)  # the sentence names files, so that only the log has it
            known, refusal = None, error_response(request, 503, "The file of users is unusable: see the server's log.")
        scope[KNOWN] = known
        if refusal is None and scope["method"] not in _SAFE:
            problem, receive = await _forgery(request, known, receive)
            if problem:
                who = known.person.actor if known else f"unknown at {self._auth.address_of(request)}"
                what = {"path": scope["path"][:200], "method": scope["method"], "why": problem}
                await run_in_threadpool(self._auth.log.refused, who, "request refused", what)
                refusal = error_response(request, 403, problem)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, self._sending(request, known, send))

    async def _identified(self, request: Request) -> tuple[Known | None, Response | None]:
        """Return who sends a request, and the response where it goes no further."""
        auth, has_token = self._auth, bearer_of(request) is not None
        address = auth.address_of(request)
        if has_token or (request.scope["path"], request.method) == ("/login", "POST"):
            wait_s = auth.attempts.wait_s(address)
            if wait_s > 0:
                after = {"Retry-After": str(int(wait_s) + 1)}
                return None, error_response(request, 429, "Too many logins have failed. Wait, then try again.", after)
        known = auth.known(request)
        if known is None and has_token:
            await run_in_threadpool(auth.refuse, address, "token")
        elif known is not None and known.is_new:
            what = {"address": address, "way": known.person.way, "role": known.person.role.value}
            await run_in_threadpool(auth.log.note, known.person.actor, "logged in", what)
        if known is None and not _is_public(request.scope["path"]):
            return None, error_response(request, 401, "Log in first.")
        return known, None

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
    # A token in the request itself is known to no other site's page; the same is true of what the login form sends.
    if known is None or known.session is None or request.scope["path"] == "/login":
        return "", receive
    given = request.headers.get("x-csrf-token", "")
    if not given and request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        body = await request.body()
        receive = _again(body, receive)
        given = form_fields(body).get("csrf", "")
    if hmac.compare_digest(given.encode("utf-8", "replace"), known.session.csrf.encode()):
        return "", receive
    return "This form is out of date. Load the page again, then send it again.", receive


def is_own_origin(request: HTTPConnection) -> bool:
    """Return whether the page that sent a request is this server's, as far as the browser says."""
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    try:
        return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    except ValueError:  # as "http://["
        return False


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given
