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
from ...common.errors import UsageError
from ...common.text import sanitize
from ...operations.model_records import evaluations_before, model_records, model_story, release_ids, releases_named
from ...reports.charts.accuracy import accuracy_rows, share
from ..auth import Role, needs
from ..queries.findings import devices_with, devices_with_codes
from ..service import service_of
from .fleet import number_of
from .render import page

_DEVICES = 100
_RELEASES = 50  # of one page


@needs(Role.VIEW)
def models(request: Request) -> Response:
    """Show all models."""
    service = service_of(request)
    with service.state() as state:
        found = model_records(state, service.config())
    return page(request, "models.html.j2", found=found)


@needs(Role.VIEW)
def one_model(request: Request) -> Response:
    """Show one model: releases, golden, accuracy, files."""
    service, name = service_of(request), request.path_params["name"]
    try:
        with service.state() as state:
            found = model_story(state, service.config(), name)
            ids = release_ids(state, name)
            pages = max(1, -(-len(ids) // _RELEASES))
            number = min(number_of(request), pages)
            shown = releases_named(state, ids[(number - 1) * _RELEASES : number * _RELEASES])
    except UsageError as error:
        raise HTTPException(
            404, f"There is no model {sanitize(name, 60)} in litefleet.yaml or among the releases."
        ) from error
    before = request.query_params.get("before", "")[:200]
    evaluations, older = evaluations_before(service.config(), name, before)
    latest = evaluations[0] if evaluations else None
    return page(
        request,
        "model.html.j2",
        model=found,
        releases=shown,
        total=len(ids),
        number=number,
        pages=pages,
        evaluations=evaluations,
        before=before,
        older=older,
        accuracy=[(score.device, accuracy_rows(score.accuracy)) for score in latest.scores[:_DEVICES]]
        if latest
        else [],
        accuracy_head=[translated_cell(n) for n in ("metric", "samples", "score", "reference", "change")],
        power=found.releases[0].power if found.releases else None,
        share=share,
    )


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
