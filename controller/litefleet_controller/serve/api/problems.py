"""Problem details (RFC 9457) of the API: what was seen, why, and what to do, as the commands say it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response

from ...common.errors import FindingError, LitefleetError, UsageError
from ...common.text import sanitize
from ...devices.outcome import document
from ...operations.open_rollouts import StillOpen
from ...state.model import Conflict, FleetLocked, FleetLockLost, StateOlder
from ..actions.decide import KeyChanged
from ..errors import PROBLEM
from ..jobs import Busy, error_dict

_CONFLICTS = (StillOpen, FleetLocked, FleetLockLost, Conflict, StateOlder, Busy, KeyChanged)
_MOST_ERRORS = 20


class Wrong(BaseModel):
    """One part of a request that is not accepted."""

    where: str = Field(description='"query.limit", "body.models.0", "header.Idempotency-Key"')
    why: str


class Problem(BaseModel):
    """Why a request was not carried out."""

    type: str = Field(description='"about:blank", or the path of the finding that says more')
    title: str
    status: int
    detail: str = Field(description="one sentence: what was seen, why, what to do")
    exit_code: int | None = Field(default=None, description="the exit code of the command that does the same")
    problems: list[str] = Field(default=[], description="of a project's files, with file and line")
    findings: list[dict[str, Any]] = Field(default=[], description="findings of the catalogue, with their codes")
    errors: list[Wrong] = Field(default=[], description="parts of the request that are not accepted")


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, status: int, detail: str, errors: tuple[Wrong, ...] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors


def status_of(error: LitefleetError, usage: int = 422) -> int:
    """Return the status for an error of ours; `usage` for one that says that the request asks for something impossible."""
    if isinstance(error, _CONFLICTS):
        return 409
    if isinstance(error, UsageError):
        return usage
    return 502 if isinstance(error, FindingError) else 503


def of_error(error: LitefleetError, usage: int = 422) -> Response:
    """Return the response for an error of ours."""
    said = error_dict(error)
    findings = said.get("findings") or []
    kind = f"/findings/{findings[0]['code']}" if findings else "about:blank"
    problem = Problem(
        type=kind,
        title=HTTPStatus(status_of(error, usage)).phrase,
        status=status_of(error, usage),
        detail=said["message"],
        exit_code=error.exit_code,
        problems=said.get("problems", []),
        findings=findings,
    )
    return respond(problem)


def of_problem(error: ProblemError) -> Response:
    """Return the response for a request that is not accepted."""
    title = HTTPStatus(error.status).phrase
    return respond(
        Problem(type="about:blank", title=title, status=error.status, detail=error.detail, errors=list(error.errors))
    )


def of_validation(error: ValidationError, place: str) -> ProblemError:
    """Return the problem of a query or a body that its model does not accept."""
    found = tuple(
        Wrong(where=sanitize(".".join([place, *map(str, one["loc"])]), 120), why=sanitize(one["msg"], 300))
        for one in error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_ERRORS]
    )
    first = f"{found[0].where}: {found[0].why}" if found else place
    return ProblemError(422, f"The request is not accepted: {first}.", found)


def respond(problem: Problem) -> Response:
    """Return the response; members without a value are left out."""
    content = problem.model_dump(mode="json", exclude_defaults=True)
    return Response(document(content), problem.status, media_type=PROBLEM)
