"""The roster of a server's project, kept until its files change."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from ..operations.device_records import LatestDrift, latest_drift
from ..project.project import Project
from ..project.run_fleet import reports_folder
from .queries.roster import Roster
from .service import Service


class _Kept(NamedTuple):
    project: Project
    stamp: object
    roster: Roster


_one = threading.Lock()
_kept: dict[int, _Kept] = {}  # by the service: a process has one, tests have several


def roster_of(service: Service) -> Roster:
    """Return the roster as inventory and kept reports are now; made anew only when one of them changed."""
    project = service.project()
    latest = max(reports_folder(project.config).glob("*-reconcile.json"), default=None, key=lambda path: path.name)
    stamp = _stamp(latest)
    with _one:
        kept = _kept.get(id(service))
        if kept is None or kept.project is not project or kept.stamp != stamp:
            drift = latest_drift(project.config) if latest else LatestDrift()
            kept = _Kept(project, stamp, Roster.of(project, drift))
            _kept.clear()
            _kept[id(service)] = kept
        return kept.roster


def _stamp(path: Path | None) -> object:
    try:
        return (path.name, path.stat().st_mtime_ns) if path else None
    except OSError:
        return None
