"""What endpoints ask about a request's person."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from .people import Person, Role

if TYPE_CHECKING:
    from .auth import Known

KNOWN = "litefleet.known"  # key of a request's scope

ROLE = "needed_role"  # attribute of an endpoint: the role that `needs` asks for; an endpoint of several methods has a mapping
_MOST_FIELDS = 1000  # of a form

Endpoint = Callable[[Request], Awaitable[Response]]


def known_of(request: HTTPConnection) -> Known | None:
    """Return who sends a request, with the session; None on the pages that need no login."""
    known: Known | None = request.scope.get(KNOWN)
    return known


def person_of(request: HTTPConnection) -> Person:
    """Return who sends a request.  Raises: HTTPException 401 where nobody is logged in."""
    known = known_of(request)
    if known is None:
        raise HTTPException(401, "Log in first.")
    return known.person


def csrf_token(request: HTTPConnection) -> str:
    """Return what a form's field `csrf`, or the header X-CSRF-Token, has to contain; "" where no session needs it."""
    known = known_of(request)
    return known.session.csrf if known is not None and known.session is not None else ""


def form_fields(body: bytes) -> dict[str, str]:
    """Return the first value of each field of a form; nothing where it has more than 1000 fields."""
    try:
        found = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def needs(role: Role) -> Callable[[Callable[[Request], Any]], Endpoint]:
    """Let only people of a role, or of a higher one, call an endpoint; others get 401 or 403, and the audit log an entry.

    A plain function is called in a thread, as Starlette does.
    """

    def decorated(endpoint: Callable[[Request], Any]) -> Endpoint:
        @functools.wraps(endpoint)
        async def checked(request: Request) -> Response:
            person = person_of(request)
            if not person.role.includes(role):
                raise HTTPException(403, f"{person.name} has the role {person.role}, and this needs {role}.")
            if inspect.iscoroutinefunction(endpoint):
                response: Response = await endpoint(request)
                return response
            return await run_in_threadpool(endpoint, request)

        setattr(checked, ROLE, role)
        return checked

    return decorated
