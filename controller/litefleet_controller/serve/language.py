"""The language of one request: `?lang=`, else the cookie that it left, else the browser's."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..catalogue.language import Lang, speaking

COOKIE = "litefleet-lang"
_YEAR_S = 365 * 86400
_MOST = 20  # languages of an Accept-Language header that are looked at


def lang_of_request(request: HTTPConnection) -> Lang:
    """Return the language that a request asks for; English where it names none of ours."""
    for asked in (request.query_params.get("lang"), request.cookies.get(COOKIE)):
        if asked in list(Lang):
            return Lang(asked)
    accepted: list[tuple[float, Lang]] = []
    for part in request.headers.get("accept-language", "").split(",")[:_MOST]:
        tag, _, rest = part.partition(";")
        name = tag.strip().lower().partition("-")[0]
        if name in list(Lang):
            accepted.append((_weight(rest), Lang(name)))
    return max(accepted, key=lambda found: found[0], default=(0.0, Lang.EN))[1]


def _weight(text: str) -> float:
    """Return the weight of "q=0.8", 1 without one."""
    name, _, value = text.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


class Speaking:
    """Serves each request in its language."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        lang = lang_of_request(request)
        asked = request.query_params.get("lang") == lang

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Accept-Language, Cookie")
                if asked:
                    headers.append("set-cookie", f"{COOKIE}={lang}; Path=/; Max-Age={_YEAR_S}; SameSite=Lax")
            await send(message)

        with speaking(lang):
            await self._app(scope, receive, adding)
