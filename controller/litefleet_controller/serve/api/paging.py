"""Pages of lists: `limit` and `cursor` in the query, the next page's address in the Link header (RFC 8288)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from .problems import ProblemError

_T = TypeVar("_T")


class Query(BaseModel):
    """A query; parameters that it does not name are refused."""

    model_config = ConfigDict(extra="forbid")


class Paged(Query):
    """The query of a list."""

    limit: int = Field(default=100, ge=1, le=1000, description="entries of a page, at most")
    cursor: str = Field(
        default="",
        max_length=600,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="where a page begins: from the Link header before",
    )


def page(
    request: Request, query: Paged, items: Sequence[_T], key: Callable[[_T], str]
) -> tuple[Sequence[_T], dict[str, str]]:
    """Return a page of a list, and the Link header for the next one; `key` names an entry for as long as it exists.

    Raises: ProblemError 404 for a cursor that names no entry (any more).
    """
    begin = 0
    if query.cursor:
        after = last_of(query)
        begin = next((place + 1 for place, item in enumerate(items) if key(item) == after), 0)
        if not begin:
            raise gone()
    found = items[begin : begin + query.limit]
    return found, next_page(request, key(found[-1])) if begin + query.limit < len(items) else {}


def gone() -> ProblemError:
    """Return the problem with a cursor whose entry is no longer there."""
    return ProblemError(404, "The cursor names no entry of this list any more: begin again without a cursor.")


def last_of(query: Paged) -> str:
    """Return the key of the last entry of the page before; "" for the first page.

    Raises: ProblemError 404 for a cursor that no page has given.
    """
    if not query.cursor:
        return ""
    try:
        last = base64.urlsafe_b64decode(query.cursor + "=" * (-len(query.cursor) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise gone() from error
    if not last:
        raise gone()
    return last


def next_page(request: Request, last: str) -> dict[str, str]:
    """Return the Link header for the page after the entry with the key `last`."""
    given = {name: value for name, value in request.query_params.items() if name != "cursor"}
    address = f"{request.url.path}?{urlencode({**given, 'cursor': _encoded(last)})}"
    return {"Link": f'<{address}>; rel="next"'}


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
