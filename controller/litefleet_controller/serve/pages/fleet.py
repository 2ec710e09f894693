"""The overview of the fleet, and one device."""

from __future__ import annotations

from urllib.parse import urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...catalogue.articles import advice
from ...catalogue.translate import tr
from ...common.text import sanitize
from ...reports.charts.canvas import LEFT, RIGHT, Canvas
from ...reports.charts.scale import Axis, axis_from_zero
from ...reports.values import facts_lines, human_moment, human_ms
from ...rollout.conditions import CONDITIONS
from ..auth import Role, needs, person_of
from ..queries.device import LatencyPoint, device_page
from ..queries.fleet import NEW, SORTS, Filters, fleet_page
from ..service import service_of
from . import views
from .render import page

_LONGEST = 200  # characters of a filter's value
_PLOT = 130


def filters_of(request: Request) -> Filters:
    """Return what the URL asks for; what it cannot mean is left out."""
    query = request.query_params
    text = {name: query.get(name, "")[:_LONGEST] for name in ("q", "group", "model", "version", "part")}
    status, sort = query.get("status", ""), query.get("sort", "")
    return Filters(
        **text,
        status=status if status in (*CONDITIONS, NEW) else "",
        drift=query.get("drift") == "1",
        sort=sort if sort in SORTS else SORTS[0],
        page=number_of(request),
    )


def number_of(request: Request) -> int:
    """Return the page that the URL asks for, from 1."""
    text = request.query_params.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


@needs(Role.VIEW)
def overview(request: Request) -> Response:
    """Show all devices with their status, filtered and paged."""
    service, filters = service_of(request), filters_of(request)
    roster = service.roster()
    with service.state() as state:
        found = fleet_page(state, roster, filters)
        open_ones = [one for one in state.rollouts(roster.fleet, 5) if not one.state.over]
    names = {
        "inventory": tr("as in the inventory"),
        "device": tr("name"),
        "status": tr("worst first"),
        "contact": tr("longest silent first"),
    }
    return page(
        request,
        "fleet.html.j2",
        fleet=found,
        filters=filters,
        groups=roster.groups[:200],
        models=sorted({name for names_ in roster.models.values() for name in names_}),
        sorts=[(value, names[value]) for value in SORTS],
        open=open_ones,
        page=min(filters.page, found.pages),
        views=views.of(service, person_of(request)),
        query=urlencode([(k, v) for k, v in request.query_params.multi_items() if k not in ("page", "lang")])[:1000],
    )


@needs(Role.VIEW)
def one_device(request: Request) -> Response:
    """Show everything that is known of one device."""
    service, name = service_of(request), request.path_params["name"]
    roster = service.roster()
    with service.state() as state:
        found = device_page(state, roster, name)
    if found is None:
        raise HTTPException(404, f"{sanitize(name, 80)} is not in the inventory, and the state knows nothing of it")
    return page(
        request,
        "device.html.j2",
        device=found,
        listed=roster.by_name.get(name),
        advice={one.code: advice(one.code) for one in found.findings},
        facts=facts_lines(found.facts),
        charts=[latency_chart(model, points) for model, points in found.latency.items()][:20],
    )


def latency_chart(model: str, points: tuple[LatencyPoint, ...]) -> Markup:
    """Return a chart of p50 and p99 over time."""
    canvas = Canvas(_PLOT, tr("{model}: latency (ms)", model=sanitize(model, 60)), ("p50", "p99"))
    up = axis_from_zero([ms for point in points for ms in (point.p50, point.p99)], canvas.floor, canvas.top)
    first, last = points[0].at, points[-1].at
    across = Axis(first, max(last, first + 1), LEFT + 4, RIGHT - 4)
    canvas.upward(up)
    for kind, name in (("a", "p50"), ("b", "p99")):
        canvas.path([(across.at(p.at), up.at(getattr(p, name))) for p in points], kind)
        for p in points[-60:]:
            value = getattr(p, name)
            canvas.dot((across.at(p.at), up.at(value)), 3, kind, f"{human_moment(p.at)}: {name} {human_ms(value)}")
    canvas.text(LEFT, canvas.height - 6, human_moment(first), "name")
    if last > first:
        canvas.text(RIGHT, canvas.height - 6, human_moment(last), "name", "end")
    return canvas.done().inline()
