"""The kept reports: the list by their files' names, one report in short, and the whole as HTML, JSON, CSV, JUnit, Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...common.text import sanitize
from ...config import Config
from ...devices.outcome import RunReport, to_json
from ...project.run_fleet import read_report, reports_folder
from ...reports.exports import to_csv, to_junit, to_markdown
from ...reports.html import to_html
from ...reports.values import shared_findings
from ..auth import Role, needs
from ..service import service_of
from .fleet import number_of
from .render import page, segment

_PAGE = 50
_NAME = re.compile(r"[\w.-]{1,120}")  # of a report's file, without .json
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"')
_MADE = {
    "json": (to_json, "application/json", "json"),
    "csv": (to_csv, "text/csv", "csv"),
    "junit": (to_junit, "application/xml", "xml"),
    "markdown": (to_markdown, "text/markdown", "md"),
}


@dataclass(frozen=True)
class KeptFile:
    """One kept report's file; `at` is seconds since the epoch."""

    name: str
    command: str
    at: float
    size: int


def kept_files(config: Config) -> list[KeptFile]:
    """Return the kept reports, the newest first; their files are not read."""
    found = []
    for path in sorted(reports_folder(config).glob("*.json"), reverse=True):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append(KeptFile(path.stem, path.stem.rpartition("-")[2], stat.st_mtime, stat.st_size))
    return found


@lru_cache(maxsize=4)
def _read(path: Path, at: float) -> RunReport:
    return read_report(path)


@needs(Role.VIEW)
def all_reports(request: Request) -> Response:
    """Show the kept reports."""
    every = kept_files(service_of(request).config())
    command = request.query_params.get("command", "")[:40]
    chosen = [one for one in every if not command or one.command == command]
    pages = max(1, -(-len(chosen) // _PAGE))
    at = min(number_of(request), pages)
    return page(
        request,
        "reports.html.j2",
        found=chosen[(at - 1) * _PAGE : at * _PAGE],
        commands=sorted({one.command for one in every})[:20],
        command=command,
        page=at,
        pages=pages,
        total=len(chosen),
    )


def _report(request: Request) -> tuple[str, RunReport]:
    name = request.path_params["name"]
    path = reports_folder(service_of(request).config()) / f"{name}.json"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise HTTPException(404, f"There is no kept report {sanitize(name, 80)}.")
    return name, _read(path, path.stat().st_mtime)


@needs(Role.VIEW)
def one_report(request: Request) -> Response:
    """Show one report in short."""
    name, report = _report(request)
    return page(request, "report.html.j2", name=name, report=report, groups=shared_findings(report))


@needs(Role.VIEW)
def file(request: Request) -> Response:
    """Return a whole report: as the page that `litefleet report --html` writes, or for programs."""
    name, report = _report(request)
    kind = request.path_params["kind"]
    if kind == "html":
        text = to_html(report)
        policy = _POLICY.search(text)
        assert policy is not None  # the page carries its own, with the hashes of its style and script
        allowed = "; ".join((policy[1].replace("&#39;", "'"), " ".join(("frame-ancestors", "'none'"))))
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": allowed})
    if kind not in _MADE:
        raise HTTPException(404, "A report is html, json, csv, junit or markdown.")
    make, media, ending = _MADE[kind]
    # RFC 6266: a copied report's name may have letters that no header holds.
    named = {"Content-Disposition": f"attachment; filename*=UTF-8''{segment(f'{name}.{ending}')}"}
    return Response(make(report), media_type=media, headers=named)
