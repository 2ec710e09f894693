"""A rollout's events as a stream: every transition of a device since the one that the client saw last, none lost.

One reader looks at the state for all clients of a rollout; each client reads only what is new for it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from ...common.errors import LitefleetError, UsageError
from ...common.text import json_ready
from ...operations.find import find_rollout
from ...reports.status_text import rollouts_dict
from ...rollout import Rollout
from ..auth import Role, needs
from ..live import Update, as_event, event_response, number_after
from ..service import Service, service_of
from .problems import ProblemError, of_problem

_MOST = 500  # transitions that are read at once


class _News(NamedTuple):
    rollout: Rollout
    moves: list[tuple[int, dict[str, Any]]]


@needs(Role.VIEW)
async def events(request: Request) -> Response:
    """Stream the events of a rollout until it is over, the client leaves, or ten minutes have passed."""
    service, ident = service_of(request), request.path_params["rollout"]
    last = request.headers.get("last-event-id", "")
    after = number_after(last)
    if last and not after and last != "0":
        return of_problem(ProblemError(422, "Last-Event-ID is not the ID of an event: a number."))
    try:
        found = await run_in_threadpool(_rollout, service, ident)
    except UsageError as error:
        return of_problem(ProblemError(404, str(error)))

    def stamp() -> object:
        with service.state() as state:
            one = state.rollout(found.id)
            return (state.last_move(found.id), one.updated_at if one else 0.0, one.state if one else "")

    updates = service.live.follow(f"events {found.id}", stamp, lambda: str(stamp()))
    return event_response(_events(service, found.id, after, updates))


async def _events(
    service: Service, ident: str, after: int, updates: AsyncGenerator[Update, None]
) -> AsyncGenerator[bytes, None]:
    shown = ""
    async with aclosing(updates):
        async for update in updates:
            if update.problem:
                yield _event("problem", {"detail": update.problem})
                continue
            if not update.data:
                yield as_event(update)
                continue
            more = True
            while more:
                try:
                    news = await run_in_threadpool(_news, service, ident, after)
                except LitefleetError as error:  # the client connects again, and continues after its last event
                    yield _event("problem", {"detail": str(error)})
                    return
                for number, move in news.moves:
                    after = number
                    yield _event("move", move, number)
                more = len(news.moves) == _MOST
            own = rollouts_dict([news.rollout])["rollouts"][0]
            if (text := json.dumps(own, sort_keys=True, default=str)) != shown:
                shown = text
                yield _event("rollout", own)
            if news.rollout.state.over:
                yield _event("end", {"id": news.rollout.id, "state": news.rollout.state.value})
                return


def _rollout(service: Service, ident: str) -> Rollout:
    with service.state() as state:
        return find_rollout(state, service.config().fleet, "" if ident == "latest" else ident)


def _news(service: Service, ident: str, after: int) -> _News:
    with service.state() as state:
        rollout = _rollout(service, ident)  # first: what it says is over has all its moves stored
        moves = state.moves_since(ident, after, _MOST)
    return _News(rollout, [(number, {"number": number, **vars(move)}) for number, move in moves])


def _event(name: str, data: dict[str, Any], number: int | None = None) -> bytes:
    ident = "" if number is None else f"id: {number}\n"
    return f"{ident}event: {name}\ndata: {json.dumps(json_ready(data), allow_nan=False)}\n\n".encode()
