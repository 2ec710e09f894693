"""/login and /logout."""

from __future__ import annotations

import html
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ...catalogue.language import current_lang
from ...catalogue.translate import tr
from ..service import service_of
from .people import Person
from .requests import form_fields, known_of


async def login(request: Request) -> Response:
    """Show the form; begin a session for a link's secret or a token."""
    auth = service_of(request).auth
    if request.method == "POST":
        form = form_fields(await request.body())
        token, goal = form.get("token", "").strip(), own_path(form.get("next", ""))
        found = await run_in_threadpool(auth.users.of_token, token)
        if found:
            return await run_in_threadpool(_begin, request, *found, goal)
        await run_in_threadpool(auth.refuse, auth.address_of(request), "token")
        return _page(goal, tr("This token is unknown."), 401)
    goal = own_path(request.query_params.get("next", ""))
    secret = request.query_params.get("link", "")
    if secret and request.method == "GET" and "prefetch" not in request.headers.get("sec-purpose", ""):
        person = auth.link.use(secret)
        if person is not None:
            return await run_in_threadpool(_begin, request, person, "", goal)
        used = tr("This link was used already, or is another server's. Start `litefleet serve` again for a new one.")
        return _page(goal, used, 401)
    return RedirectResponse(goal, 303) if known_of(request) else _page(goal)


async def logout(request: Request) -> Response:
    """End the session."""
    auth, known = service_of(request).auth, known_of(request)
    if known is not None:
        auth.sessions.end(known.cookie)
        await run_in_threadpool(auth.log.note, known.person.actor, "logged out", {"way": known.person.way})
    return RedirectResponse("/login", 303, {"Set-Cookie": auth.cookie_header(request, "")})


def _begin(request: Request, person: Person, key: str, goal: str) -> Response:
    """Begin a session under a new cookie, whatever cookie the browser sent, and go to a page."""
    auth = service_of(request).auth
    address = auth.address_of(request)
    auth.attempts.succeeded(address)
    auth.log.note(person.actor, "logged in", {"address": address, "way": person.way, "role": person.role.value})
    cookie = auth.sessions.begin(person, key, instead_of=request.cookies.get(auth.cookie_name, ""))
    return RedirectResponse(goal, 303, {"Set-Cookie": auth.cookie_header(request, cookie)})


def own_path(text: str) -> str:
    """Return where a login leads: a path of this server with its query, else "/"."""
    if not text.startswith("/") or text[1:2] in ("/", "\\") or not text.isprintable() or "\\" in text:
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc or parts.path == "/login" else text


def _page(goal: str, problem: str = "", status: int = 200) -> Response:
    shown = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    label, button = html.escape(tr("Token")), html.escape(tr("Log in"))
    return HTMLResponse(
        f'<!doctype html><html lang="{current_lang().tag}"><head><meta charset="utf-8"><title>litefleet</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/dashboard.css"></head>'
        '<body class="plain"><main><h1>litefleet</h1>'
        f'{shown}<form method="post" action="/login"><input type="hidden" name="next" value="{html.escape(goal)}">'
        f'<p><label>{label} <input type="password" name="token" autocomplete="current-password" required autofocus>'
        f"</label></p><p><button>{button}</button></p></form></main></body></html>",
        status,
    )


routes: list[BaseRoute] = [Route("/login", login, methods=["GET", "POST"]), Route("/logout", logout, methods=["POST"])]
