"""The list of rollouts, and one rollout that moves by itself: a stream says that it changed, the page fetches what moves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...catalogue.articles import advice
from ...catalogue.translate import tr, translated, translated_cell
from ...common.text import sanitize
from ...rollout.conditions import CONDITIONS
from ...rollout.policy import GateLimit, Policy
from ..auth import Role, needs, person_of
from ..jobs import Job
from ..journal import JournalError
from ..live import event_stream, number_after
from ..queries.rollouts import RolloutPage, rollout_list, rollout_page, rollout_rows_page, stamp_of
from ..service import Service, service_of
from .actions import actions_for
from .fleet import number_of
from .render import page

_LOG = logging.getLogger("litefleet.serve")
_SHOWN_S = 3600.0  # for which a failed job is shown
_JOBS = 20  # latest jobs that are looked at
KINDS: Mapping[str, str] = {
    "done": "good",
    "failed": "bad",
    "working": "busy",
    "offline": "warn",
    "blocked": "warn",
    "pending": "dim",
    "rolled back": "dim",
    "skipped": "dim",
}


@needs(Role.VIEW)
def all_rollouts(request: Request) -> Response:
    """Show the rollouts, the newest first."""
    service = service_of(request)
    with service.state() as state:
        found = rollout_list(state, service.config().fleet, number_of(request))
    return page(request, "rollouts.html.j2", found=found)


def found_rollout(service: Service, ident: str) -> RolloutPage:
    """Return a rollout of this fleet.  Raises: HTTPException 404."""
    with service.state() as state:
        found = rollout_page(state, service.config().fleet, ident)
    if found is None:
        raise HTTPException(404, f"There is no rollout {sanitize(ident, 60)} of this fleet.")
    return found


@needs(Role.VIEW)
def one_rollout(request: Request) -> Response:
    """Show one rollout; with `part=live` only what moves, and 204 where nothing has since `X-Stamp`."""
    service, ident = service_of(request), request.path_params["ident"]
    stamp = stamp_now(service, ident)
    only_live = request.query_params.get("part") == "live"
    if only_live and request.headers.get("x-stamp") == quote(stamp, safe=""):
        return Response(status_code=204)
    view = found_rollout(service, ident)
    status = request.query_params.get("status", "")
    status = status if status in CONDITIONS else ""
    with service.state() as state:
        rows = rollout_rows_page(state, ident, status, page=number_of(request))
    said, jobs = said_of(view), jobs_of(service, ident)
    codes = {cluster.code for cluster in (*view.failed[:20], *view.blocked[:20])}
    shown = page(
        request,
        "rollout_live.html.j2" if only_live else "rollout.html.j2",
        view=view,
        rows=rows,
        status=status,
        said=said,
        stamp=stamp,
        is_busy=bool(view.holder) or any(not job.over for job in jobs),
        jobs=[(job.state, job_text(job)) for job in jobs],
        actions=actions_for(view, person_of(request)),
        advice={code: advice(code) for code in codes},
        gates=gate_lines(view.rollout.policy),
        kinds=KINDS,
    )
    shown.headers["X-Stamp"] = quote(stamp, safe="")
    shown.headers["X-Said"] = quote(said, safe="")
    shown.headers["X-Over"] = (
        "1" if view.rollout.state.over and not view.holder and all(job.over for job in jobs) else "0"
    )
    return shown


def said_of(view: RolloutPage) -> str:
    """Return the sentence that a screen reader hears when something has changed."""
    rollout = view.rollout
    parts = [f"{count:,} {translated_cell(name)}" for name, count in view.counts.items()]
    values = {"state": translated_cell(rollout.state.value), "counts": ", ".join(parts) or tr("no devices")}
    if rollout.state.over or not rollout.waves:
        return tr("{state}; {counts}", **values)
    return tr("{state}, wave {wave} of {waves}; {counts}", wave=rollout.wave + 1, waves=len(rollout.waves), **values)


def gate_lines(policy: Policy) -> list[str]:
    """Return a line for each gate that can stop the rollout."""
    gates = policy.gates
    named: list[tuple[str, GateLimit]] = [
        (tr("first wave"), gates.canary),
        (tr("each wave"), gates.wave),
        (tr("all devices"), gates.total),
        (tr("one cause on one CPU part"), gates.cluster),
    ]
    lines = [_gate(name, limit) for name, limit in named]
    if gates.regression.count is not None:
        count, then = gates.regression.count, translated_cell(gates.regression.then)
        devices = tr("1 device") if count == 1 else tr("{count} devices", count=count)
        lines.append(tr("slower or larger than before: {devices} → {then}", devices=devices, then=then))
    return [line for line in lines if line]


def _gate(name: str, limit: GateLimit) -> str:
    limits = []
    if limit.count is not None:
        limits.append(tr("1 failed device") if limit.count == 1 else tr("{count} failed devices", count=limit.count))
    if limit.share is not None:
        limits.append(tr("more than {share} % failed devices", share=f"{limit.share * 100:.4g}"))
    return f"{name}: {', '.join(limits)} → {translated_cell(limit.then)}" if limits else ""


@needs(Role.VIEW)
async def events(request: Request) -> Response:
    """Send an event whenever the rollout has changed; the page then fetches what moves, in its reader's language."""
    service, ident = service_of(request), request.path_params["ident"]
    await run_in_threadpool(found_rollout, service, ident)

    def stamp() -> str:
        return stamp_now(service, ident)

    after = number_after(request.headers.get("last-event-id", ""))
    return event_stream(service.live.follow(f"page:{ident}", stamp, stamp, after), "changed")


def stamp_now(service: Service, ident: str) -> str:
    """Return what differs whenever something that the page shows has changed."""
    with service.state() as state:
        stored = stamp_of(state, ident)
    return f"{stored}|{[(job.id, job.state) for job in jobs_of(service, ident)]}"


def jobs_of(service: Service, ident: str) -> list[Job]:
    """Return the jobs of this server on a rollout that are under way, or failed within the last hour."""
    since = time.time() - _SHOWN_S
    try:
        latest = service.jobs.all()[:_JOBS]
    except JournalError as error:  # the disk is full, or read-only: the rollout itself can be read
        _LOG.warning("%s", error)
        return []
    mine = [job for job in latest if job.asked.get("rollout") == ident]
    return [job for job in mine if not job.over or (job.state in ("failed", "lost") and job.ended_at > since)]


def job_text(job: Job) -> str:
    """Return the sentence about a job."""
    if job.error is not None:
        return translated(str(job.error.get("message", "")))
    return tr("{action} by {who}", action=translated_cell(job.kind), who=sanitize(job.by, 80))
