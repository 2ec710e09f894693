"""The pages of the dashboard: fleet, devices, rollouts, models, findings, reports, and the actions on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from . import catalogue, decide, fleet, reports, rollouts, views


class _Files(StaticFiles):
    """Files that a browser keeps and asks for again by their ETag: an upgrade shows at once."""

    def file_response(self, *args: Any, **values: Any) -> Response:
        """Return a file, or 304."""
        response = super().file_response(*args, **values)
        response.headers["Cache-Control"] = "no-cache"
        return response


routes: list[BaseRoute] = [
    Mount("/static", _Files(directory=Path(__file__).parent / "static")),
    Route("/", fleet.overview),
    Route("/devices", fleet.overview),
    Route("/devices/{name:path}/accept-key", decide.accept_key, methods=["GET", "POST"]),
    Route("/devices/{name:path}/forget", decide.forget, methods=["GET", "POST"]),
    Route("/devices/{name:path}", fleet.one_device),
    Route("/rollouts", rollouts.all_rollouts),
    Route("/rollouts/{ident}/events", rollouts.events),
    Route("/rollouts/{ident}/{verb}", decide.on_rollout, methods=["GET", "POST"]),
    Route("/rollouts/{ident}", rollouts.one_rollout),
    Route("/models", catalogue.models),
    Route("/models/{name:path}", catalogue.one_model),
    Route("/findings", catalogue.findings),
    Route("/findings/{code}", catalogue.one_finding),
    Route("/reports", reports.all_reports),
    Route("/reports/{name}", reports.one_report),
    Route("/reports/{name}/{kind}", reports.file),
    Route("/views", views.save, methods=["POST"]),
    Route("/views/delete", views.delete, methods=["POST"]),
    Route("/theme/{theme}", views.theme),
]
