"""The list of rollouts, and one rollout that moves by itself: a stream says that it changed, the page fetches what moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ...catalogue.articles import advice
from ...catalogue.translate import tr, translated_cell
from ...common.text import sanitize
from ...operations.device_records import audit_text
from ...reports.rollout_summary import CONDITIONS
from ...rollout import Rollout
from ...rollout.policy import GateLimit, Policy
from ..auth import Role, needs, person_of
from ..live import Update
from ..queries.rollouts import RolloutPage, rollout_list, rollout_page, rollout_rows_page, stamp_of
from ..service import Service, service_of
from .actions import actions_for
from .fleet import number_of
from .render import page

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
    with service.state() as state:
        stamp = stamp_of(state, ident)
    only_live = request.query_params.get("part") == "live"
    if only_live and request.headers.get("x-stamp") == quote(stamp, safe=""):
        return Response(status_code=204)
    view = found_rollout(service, ident)
    status = request.query_params.get("status", "")
    status = status if status in CONDITIONS else ""
    with service.state() as state:
        rows = rollout_rows_page(state, ident, status, page=number_of(request))
    said = said_of(view)
    codes = {cluster.code for cluster in (*view.failed[:20], *view.blocked[:20])}
    shown = page(
        request,
        "rollout_live.html.j2" if only_live else "rollout.html.j2",
        view=view,
        rows=rows,
        status=status,
        said=said,
        stamp=stamp,
        is_busy=bool(view.holder),
        jobs=[],
        actions=actions_for(view, person_of(request)),
        advice={code: advice(code) for code in codes},
        gates=gate_lines(view.rollout.policy),
        texts=[audit_text(entry) for entry in view.acted],
        kinds=KINDS,
    )
    shown.headers["X-Stamp"] = quote(stamp, safe="")
    shown.headers["X-Said"] = quote(said, safe="")
    shown.headers["X-Over"] = "1" if view.rollout.state.over and not view.holder else "0"
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
    """Send an event whenever the rollout has changed, until it is over."""
    service, ident = service_of(request), request.path_params["ident"]
    await run_in_threadpool(found_rollout, service, ident)

    def look() -> str:
        stamp, over = _look(service, ident)
        return f"{'over' if over else 'open'} {stamp}"

    updates = service.live.follow(f"page of {ident}", look, look)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_changes(updates), media_type="text/event-stream", headers=headers)


async def _changes(updates: AsyncGenerator[Update, None]) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    async with aclosing(updates):
        async for update in updates:
            if update.problem:
                return  # the database is away: the browser connects again
            yield "event: changed\ndata: 1\n\n" if update.data else ": still here\n\n"
            if update.data.startswith("over"):
                yield "event: end\ndata: 1\n\n"
                return


def _look(service: Service, ident: str) -> tuple[str, bool]:
    with service.state() as state:
        stamp = stamp_of(state, ident)
        found: Rollout | None = state.rollout(ident)
    return stamp, found is None or found.state.over
