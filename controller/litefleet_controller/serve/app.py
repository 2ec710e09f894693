"""`make_app`: the routes of pages and API, and what surrounds every request."""

from __future__ import annotations

import logging
from http import HTTPStatus

from litefleet_agent.service.metrics import CONTENT_TYPE
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ..common.errors import LitefleetError, UsageError
from . import api, pages
from .auth import Role, needs
from .auth import routes as login
from .auth.middleware import Identify
from .auth.requests import known_of
from .errors import error_response
from .language import Speaking
from .limits import BodyLimit, HostCheck
from .metrics import Source
from .notices import telling
from .security import SecurityHeaders
from .service import Service, service_of

_LOG = logging.getLogger("litefleet.serve")


def make_app(service: Service) -> Starlette:
    """Return the application for one project."""
    app = Starlette(
        routes=[Route("/healthz", health), Route("/metrics", metrics), *login.routes, *api.routes, *pages.routes],
        middleware=[
            Middleware(Speaking),
            Middleware(SecurityHeaders),
            Middleware(HostCheck, hosts=(service.settings.host, *service.settings.hosts)),
            Middleware(BodyLimit, most=service.settings.most_body),
            Middleware(Identify, auth=service.auth),
        ],
        exception_handlers={HTTPException: _http_error, LitefleetError: _own_error},
        lifespan=lambda app: telling(service.config, service.project),
    )
    app.state.service = service
    return app


def health(request: Request) -> Response:
    """Return 200 while the state can be read, else 503; why not is for people who are logged in, and for the log."""
    service = service_of(request)
    try:
        with service.state() as state:
            state.rollouts(service.config().fleet, 1)
    except LitefleetError as error:
        _LOG.warning("the state cannot be read: %s", error)  # the sentence names files and servers
        known = known_of(request)
        return PlainTextResponse(f"{error if known else 'The state cannot be read: see the log of the server.'}\n", 503)
    return PlainTextResponse("ok\n")


@needs(Role.VIEW)
def metrics(request: Request) -> Response:
    """Return the fleet's metrics for Prometheus; `?devices=yes` adds each device's own series, of 500 devices at most."""
    asked = request.query_params.get("devices", "no")
    if asked not in ("yes", "no"):
        raise UsageError("devices= takes yes or no: with yes, each device's own series are added")
    service = service_of(request)
    with service.state() as state:
        source = Source(state, service.config().fleet, service.roster, service.live.subscribers, service.jobs.running)
        text = service.metrics.text(source, asked == "yes")
    return Response(text, media_type=CONTENT_TYPE)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = known_of(request)
    if error.status_code == 403 and known is not None:
        what = {"path": request.url.path[:200], "method": request.method, "why": error.detail}
        service_of(request).auth.log.refused(known.person.actor, "request refused", what)
    return error_response(request, error.status_code, _said(request, error), error.headers)


def _said(request: Request, error: HTTPException) -> str:
    """Return the sentence about an error; the framework's own have a title only."""
    if error.detail != HTTPStatus(error.status_code).phrase:
        return error.detail
    if error.status_code == 404 and request.url.path.startswith("/api/"):
        return "There is no such address of the API: GET /api/v1/openapi.json lists all of them."
    return {404: "There is no such page.", 405: "Nothing is done at this address with that method."}.get(
        error.status_code, error.detail
    )


def _own_error(request: Request, error: Exception) -> Response:
    """Return an error of ours, whose text contains the remedy: 422 for what was asked, 503 for what cannot be used now."""
    return error_response(request, 422 if isinstance(error, UsageError) else 503, str(error))
