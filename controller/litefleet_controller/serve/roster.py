"""The roster of a server's project, kept until its files change."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from ..operations.device_records import LatestDrift, latest_drift
from ..project.project import Project
from ..project.run_fleet import reports_folder
from .queries.roster import Roster


class _Kept(NamedTuple):
    project: Project
    stamp: object
    roster: Roster


class KeptRoster:
    """The roster of the project that was asked for last."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._kept: _Kept | None = None

    def of(self, project: Project) -> Roster:
        """Return the roster as inventory and kept reports are now; made anew only when one of them changed."""
        latest = max(reports_folder(project.config).glob("*-reconcile.json"), default=None, key=lambda path: path.name)
        stamp = _stamp(latest)
        with self._one:
            if self._kept is None or self._kept.project is not project or self._kept.stamp != stamp:
                drift = latest_drift(project.config) if latest else LatestDrift()
                self._kept = _Kept(project, stamp, Roster.of(project, drift))
            return self._kept.roster


def _stamp(path: Path | None) -> object:
    try:
        return (path.name, path.stat().st_mtime_ns) if path else None
    except OSError:
        return None
