"""What a person chose for themselves: saved views of the overview, and the theme."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...common.errors import LitefleetError
from ...common.files import write_atomically
from ..auth import Person, Role, needs, person_of
from ..auth.routes import own_path
from ..service import Service, service_of
from .render import THEME_COOKIE, THEMES

_FILE = "serve-views.json"
_MOST = 50  # views of one person
_MOST_PEOPLE = 1000
_YEAR_S = 365 * 86400
_one = threading.Lock()
_FILTERS = ("q", "group", "model", "status", "version", "part", "drift", "sort")


class NotSaved(LitefleetError):
    """The file of views cannot be written."""


class View(BaseModel):
    """A named query of the overview."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=60)]
    query: Annotated[str, Field(max_length=1000)]


class _Document(BaseModel):
    people: Annotated[dict[str, list[View]], Field(max_length=_MOST_PEOPLE)] = Field(default_factory=dict)


def of(service: Service, person: Person) -> list[View]:
    """Return a person's saved views."""
    return _read(service.config().store / _FILE).people.get(person.name, [])


def _read(path: Path) -> _Document:
    """Return the file's content; nothing where it is missing or is none of ours: views are a convenience."""
    with contextlib.suppress(OSError, ValidationError):
        if path.stat().st_size < 8 << 20:
            return _Document.model_validate_json(path.read_bytes())
    return _Document()


def _change(service: Service, person: Person, name: str, query: str | None) -> None:
    path = service.config().store / _FILE
    with _one:
        document = _read(path)
        kept = [view for view in document.people.get(person.name, []) if view.name != name]
        if query is not None:
            kept = [*kept, View(name=name, query=query)][-_MOST:]
        people = {**document.people, person.name: kept}
        if len(people) <= _MOST_PEOPLE:
            try:
                write_atomically(path, json.dumps(_Document(people=people).model_dump()).encode())
            except OSError as error:
                raise NotSaved(
                    f"{path} cannot be written: {error.strerror}. Check free space and permissions."
                ) from error


@needs(Role.VIEW)
async def save(request: Request) -> Response:
    """Save the overview's query under a name."""
    form = await request.form(max_fields=10)
    name = str(form.get("name", "")).strip()[:60]
    pairs = [(k, v) for k, v in parse_qsl(str(form.get("query", ""))[:1000]) if k in _FILTERS]
    query = urlencode(pairs)[:1000]
    if name:
        await run_in_threadpool(_change, service_of(request), person_of(request), name, query)
    return RedirectResponse(f"/devices?{query}" if query else "/", 303)


@needs(Role.VIEW)
async def delete(request: Request) -> Response:
    """Delete a saved view."""
    form = await request.form(max_fields=10)
    await run_in_threadpool(_change, service_of(request), person_of(request), str(form.get("name", ""))[:60], None)
    return RedirectResponse("/", 303)


@needs(Role.VIEW)
def theme(request: Request) -> Response:
    """Choose the theme, and go back."""
    chosen = request.path_params["theme"]
    response = RedirectResponse(own_path(request.query_params.get("next", "")), 303)
    if chosen in THEMES:
        response.set_cookie(THEME_COOKIE, chosen, max_age=_YEAR_S, samesite="lax", httponly=True)
    return response
