"""One operation of the API: a typed function, from which its route, its checks and its part of the OpenAPI document are made.

    @operation("GET", "/devices/{name}", Role.VIEW, Story)
    def one_device(call: Call, name: str, query: Last) -> Reply: ...

The function runs in a thread.  Its parameters `query` and `body` are pydantic models; the others are parts of the path.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from ...common.errors import LitefleetError
from ...common.text import sanitize
from ...devices.outcome import document
from ..auth import Person, Role, needs, person_of
from ..service import Service, service_of
from . import idempotency
from .problems import ProblemError, of_error, of_problem, of_validation

PREFIX = "/api/v1"
JSON = "application/json"
_VOLATILE = ("now",)  # members that differ in each answer, and say nothing of the resource


@dataclass(frozen=True)
class Call:
    """One request."""

    request: Request
    service: Service
    person: Person


@dataclass(frozen=True)
class Reply:
    """What a function answers; `content` is the JSON document, a text if it is one already."""

    content: Mapping[str, Any] | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[..., Reply]


@dataclass(frozen=True)
class Operation:
    """An operation as its decorator declares it."""

    method: str
    path: str  # below PREFIX
    role: Role
    answer: Any  # the type of the document: a pydantic model or a dataclass
    handler: Handler
    status: int
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    parts: tuple[str, ...]  # of the path
    usage: int  # the status for UsageError

    @property
    def changes(self) -> bool:
        """Whether it may change something, so that an Idempotency-Key counts."""
        return self.method not in ("GET", "HEAD")

    async def endpoint(self, request: Request) -> Response:
        """Answer one request of a person with the role."""
        try:
            body = await _body(request) if self.changes else b""
            return await run_in_threadpool(self._answered, request, body)
        except ProblemError as error:
            return of_problem(error)

    def _answered(self, request: Request, body: bytes) -> Response:
        call = Call(request, service_of(request), person_of(request))
        values: dict[str, Any] = {part: request.path_params[part] for part in self.parts}
        values["query"] = _query(self.query, request)
        values["body"] = _checked_body(self.body, request, body)
        given = {name: value for name, value in values.items() if value is not None}

        def act() -> Response:
            try:
                return self._response(request, self.handler(call, **given))
            except LitefleetError as error:
                return of_error(error, self.usage)
            except ProblemError as error:
                return of_problem(error)

        return (
            idempotency.once(call.service.jobs.journal, call.person.name, request, body, act) if self.changes else act()
        )

    def _response(self, request: Request, reply: Reply) -> Response:
        text, tag = _document(reply.content)
        headers = dict(reply.headers)
        if not self.changes:
            headers["ETag"] = tag
            headers["Cache-Control"] = "private, no-cache"
            if _matches(request.headers.get("if-none-match", ""), tag):
                return Response(status_code=304, headers=headers)
        return Response(text, reply.status, headers, JSON)


OPERATIONS: list[Operation] = []


def operation(
    method: str, path: str, role: Role, answer: Any, status: int = 200, usage: int = 422
) -> Callable[[Handler], Handler]:
    """Declare a function as the operation of a method and a path, for people of a role."""

    def declared(handler: Handler) -> Handler:
        hints = get_type_hints(handler)
        parts = tuple(name for name in inspect.signature(handler).parameters if name not in ("call", "query", "body"))
        OPERATIONS.append(
            Operation(method, path, role, answer, handler, status, hints.get("query"), hints.get("body"), parts, usage)
        )
        return handler

    return declared


def endpoint_of(one: Operation) -> Callable[[Request], Any]:
    """Return the endpoint of an operation, which checks the person's role first."""

    async def endpoint(request: Request) -> Response:
        return await one.endpoint(request)

    return needs(one.role)(endpoint)


async def _body(request: Request) -> bytes:
    """Read the body.  Raises: ProblemError for one that is too large."""
    most, found = service_of(request).settings.most_body, b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > most:
            raise ProblemError(413, f"The body is larger than {most} bytes.")
    return found


def _checked_body(model: type[BaseModel] | None, request: Request, body: bytes) -> BaseModel | None:
    if model is None:
        if body.strip() not in (b"", b"{}"):
            raise ProblemError(422, "The request takes no body.")
        return None
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise ProblemError(415, f"The body has to be JSON: send it with `Content-Type: {JSON}`.")
    _refuse_repeated(body)
    try:
        return model.model_validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        raise of_validation(error, "body") from None


def _refuse_repeated(body: bytes) -> None:
    """Raise ProblemError 400 for a JSON object that names a member twice: programs differ in which one counts."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ProblemError(400, f"The body names {sanitize(twice, 60)} twice: write each member once.")
        return found

    with suppress(ValueError, RecursionError):  # what is no JSON, the model refuses with its place
        json.loads(body, object_pairs_hook=members)


def _query(model: type[BaseModel] | None, request: Request) -> BaseModel | None:
    given = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    if model is None:
        if given:
            raise ProblemError(422, f"The request takes no query: {given[0][0][:60]} is unknown.")
        return None
    if len(dict(given)) < len(given):
        raise ProblemError(422, "A parameter of the query is given twice.")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise of_validation(error, "query") from None


def _document(content: Mapping[str, Any] | str) -> tuple[str, str]:
    """Return an answer's text and its ETag, which the volatile members do not change; large documents are encoded once."""
    if isinstance(content, str):
        return content, _etag(content)
    volatile = {name: content[name] for name in _VOLATILE if name in content}
    text = document({name: value for name, value in content.items() if name not in volatile})
    first = "".join(f"\n  {json.dumps(name)}: {json.dumps(value)}," for name, value in volatile.items())
    return "{" + first + text[1:] if len(text) > len("{}\n") else document(content), _etag(text)


def _etag(text: str) -> str:
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def _matches(header: str, tag: str) -> bool:
    """Return whether If-None-Match names a tag; weak comparison (RFC 9110, 8.8.3.2)."""
    named = [part.strip().removeprefix("W/") for part in header[:4000].split(",")]
    return tag.removeprefix("W/") in named or header.strip() == "*"
