"""The HTTP API, /api/v1: the same as the commands do, with the same documents.

`operation.py` is what each operation has in common; `reading.py` and `changing.py` are the operations; `events.py` streams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..auth import Role
from ..auth.requests import ROLE
from . import changing, reading, schemas
from .events import events
from .openapi import openapi
from .operation import OPERATIONS, PREFIX, Call, Operation, Reply, endpoint_of, operation

__all__ = ["changing", "reading", "routes"]


@operation("GET", "/openapi.json", Role.VIEW, schemas.Document)
def description(call: Call) -> Reply:
    """Return this API's OpenAPI 3.1 document."""
    return Reply(openapi())


def _made() -> list[BaseRoute]:
    """Return a route for each path, so that a wrong method gets 405 with all that are allowed."""
    by_path: dict[str, list[Operation]] = {}
    for one in OPERATIONS:
        by_path.setdefault(one.path, []).append(one)
    found: list[BaseRoute] = []
    for path, ones in by_path.items():
        found.append(Route(PREFIX + path, _by_method(ones), methods=[one.method for one in ones]))
    found.append(Route(f"{PREFIX}/rollouts/{{rollout}}/events", events))
    return found


def _by_method(ones: list[Operation]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that calls the operation of a request's method."""
    endpoints = {one.method: endpoint_of(one) for one in ones}

    async def endpoint(request: Request) -> Response:
        answer: Response = await endpoints["GET" if request.method == "HEAD" else request.method](request)
        return answer

    setattr(endpoint, ROLE, {one.method: one.role for one in ones})
    return endpoint


routes: list[BaseRoute] = _made()
