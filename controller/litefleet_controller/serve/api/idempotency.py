"""Idempotency-Key: a request that is sent again, even after the server's restart, is answered and not carried out twice.

The key is noted before the request acts, its answer afterwards.  A key belongs to a person.  What was refused (4xx) changed
nothing: its key is free again.  A request whose answer was never noted may have acted: it gets 409, and a person looks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from ..journal import Journal
from .problems import ProblemError, Wrong

HEADER = "Idempotency-Key"
PATTERN = r"^[!-~]{1,200}$"
_KEPT_HEADERS = ("location", "content-type")


def once(journal: Journal, person: str, request: Request, body: bytes, act: Callable[[], Response]) -> Response:
    """Return what `act` answers, or what it answered before to the same request with the same key.

    Raises: ProblemError for a key of another request, and for one whose answer is not known (yet).
    """
    key = request.headers.get(HEADER)
    if key is None:
        return act()
    if not re.fullmatch(PATTERN, key):
        wrong = Wrong(where=f"header.{HEADER}", why="1 to 200 printable ASCII characters without spaces")
        raise ProblemError(422, f"{HEADER}: {wrong.why}.", (wrong,))
    known = journal.begin(person, key, _digest(request, body))
    if known is not None and known.digest != _digest(request, body):
        raise ProblemError(422, f"{HEADER} {key[:80]} was sent with another request: use a new key for each request.")
    if known is not None and not known.status:
        raise ProblemError(
            409,
            f"The request with {HEADER} {key[:80]} was begun, and its answer is not known: it is under way, or the server "
            "ended during it. Look at /api/v1/jobs and /api/v1/rollouts before you send it again with a new key.",
        )
    if known is not None:
        return Response(known.body, known.status, {**json.loads(known.headers), "Idempotency-Replayed": "true"})
    response = act()
    if response.status_code >= 400:
        journal.forget(person, key)
    else:
        kept = {name: value for name, value in response.headers.items() if name in _KEPT_HEADERS}
        journal.answered(person, key, response.status_code, json.dumps(kept), bytes(response.body))
    return response


def _digest(request: Request, body: bytes) -> str:
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(asked + body).hexdigest()
