"""Models and versions, and the catalogue of findings."""

from __future__ import annotations

from litefleet_agent.findings import CATALOGUE
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...catalogue.articles import Article, article, find_code
from ...catalogue.language import current_lang
from ...catalogue.translate import tr, translated_cell
from ...catalogue.words import words
from ...common.text import sanitize
from ...evaluate.figures import accuracy_of
from ...reports.charts.accuracy import accuracy_rows
from ...reports.values import human_moment
from ..auth import Role, needs
from ..queries.models import ReleaseLine, devices_with, devices_with_codes, inspected, model_list, model_page
from ..service import Service, service_of
from .render import page
from .reports import latest_of

_FILES = 8  # files of one model that are described
_DEVICES = 100


@needs(Role.VIEW)
def models(request: Request) -> Response:
    """Show all models."""
    service = service_of(request)
    config = service.config()
    with service.state() as state:
        found = model_list(state, config, config.fleet)
    return page(request, "models.html.j2", found=found)


@needs(Role.VIEW)
def one_model(request: Request) -> Response:
    """Show one model: releases, golden, accuracy, files."""
    service, name = service_of(request), request.path_params["name"]
    config = service.config()
    with service.state() as state:
        found = model_page(state, config, config.fleet, name)
    if found is None:
        raise HTTPException(404, f"There is no model {sanitize(name, 60)} in litefleet.yaml or among the releases.")
    accuracy, measured_at = _accuracy(service, name)
    return page(
        request,
        "model.html.j2",
        model=found,
        accuracy=accuracy,
        accuracy_of=measured_at,
        accuracy_head=[translated_cell(n) for n in ("metric", "samples", "score", "reference", "change")],
        inspections=_inspections(found.releases),
    )


def _inspections(releases: tuple[ReleaseLine, ...]) -> list[tuple[str, object]]:
    paths = {one.artifact: one.path for one in reversed(releases) if one.path is not None}
    found = [(artifact, inspected(path, artifact)) for artifact, path in list(paths.items())[-_FILES:]]
    return [(artifact, one) for artifact, one in reversed(found) if one is not None]


def _accuracy(service: Service, model: str) -> tuple[list[tuple[str, list[str]]], str]:
    """Return (device, cells) of the latest kept evaluation, and when it was made."""
    kept = latest_of(service.config(), "evaluate")
    if kept is None:
        return [], ""
    rows = [
        (outcome.device, accuracy_rows(found))
        for outcome in kept.report.outcomes
        if outcome.model == model and (found := accuracy_of(outcome)) is not None
    ]
    return rows[:_DEVICES], human_moment(kept.at)


@needs(Role.VIEW)
def findings(request: Request) -> Response:
    """Show the catalogue, with how many devices have each finding."""
    service, lang = service_of(request), current_lang()
    q = request.query_params.get("q", "")[:200]
    with service.state() as state:
        counts = devices_with_codes(state, service.config().fleet)
    every = [one for one in (article(code, lang) for code in sorted(CATALOGUE)) if _has(one, q)]
    blocks = [
        (title, [one for one in every if one.entry.code.startswith(block)])
        for block, title in words(lang).blocks.items()
    ]
    return page(request, "findings.html.j2", q=q, counts=counts, blocks=[(t, a) for t, a in blocks if a])


def _has(one: Article, q: str) -> bool:
    text = " ".join((one.entry.code, one.title, one.entry.slug, one.why, one.do, *one.details.symptoms)).casefold()
    return all(word in text for word in q.casefold().split())


@needs(Role.VIEW)
def one_finding(request: Request) -> Response:
    """Show what `litefleet explain` says of a finding, and the devices that have it."""
    service, asked = service_of(request), request.path_params["code"]
    code = find_code(asked)
    if not code:
        raise HTTPException(404, f"{sanitize(asked, 60)} is no finding.")
    with service.state() as state:
        found = devices_with(state, service.config().fleet, code)
    lang = current_lang()
    labels = {**words(lang).headings, "verdict": tr("verdict")}
    return page(request, "finding.html.j2", one=article(code, lang), labels=labels, devices=found)
