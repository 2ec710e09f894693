"""Responses for errors: problem details (RFC 9457) for programs, a page with one sentence for people."""

from __future__ import annotations

import html
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from ..catalogue.language import current_lang
from ..catalogue.translate import translated

PROBLEM = "application/problem+json"
_MOST_LINES, _LONGEST = 20, 1000  # of an error's text: lines, and characters of one


def is_for_program(request: HTTPConnection) -> bool:
    """Return whether a program asks: under /api and /metrics, or where no page is accepted."""
    path = request.url.path
    return path.startswith(("/api/", "/metrics", "/healthz")) or "text/html" not in request.headers.get("accept", "")


def _bounded(text: str) -> str:
    """Return the first lines of an error: a fleet's inventory may have a problem in each of its lines."""
    lines = text.split("\n")
    more = [f"{len(lines) - _MOST_LINES} more problems: `litefleet check`"] if len(lines) > _MOST_LINES else []
    return "\n".join(line[:_LONGEST] for line in lines[:_MOST_LINES] + more)


def error_response(
    request: HTTPConnection, status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response for an error; 401 leads a person's browser to the login page."""
    added, sentence = dict(headers or {}), _bounded(sentence)
    if is_for_program(request):
        if status == 401:
            added["WWW-Authenticate"] = 'Bearer realm="litefleet"'
        content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
        return JSONResponse(content, status, added, PROBLEM)
    if status == 401 and request.scope["method"] == "GET":
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}" if wanted != "/" else "/login", 303, added)
    shown = html.escape(translated(sentence)).replace("\n", "<br>")
    return HTMLResponse(
        f'<!doctype html><html lang="{current_lang().tag}"><head><meta charset="utf-8"><title>litefleet: {status}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/dashboard.css"></head>'
        f'<body class="plain"><main><h1>{status}</h1><p>{shown}</p><p><a href="/">litefleet</a></p></main></body></html>',
        status,
        added,
    )
