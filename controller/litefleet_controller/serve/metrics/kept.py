"""The text of `/metrics`, computed at most once in some seconds, however many programs ask."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from ...common.errors import LitefleetError
from ...reports.fleet_metrics import device_metrics
from ...state import State
from ...state.tables import confirmed
from ..queries.roster import Roster
from .bounds import OTHER
from .fleet import FleetFigures, fleet_figures
from .services import Services
from .text import ProjectFigures, ServerFigures, left_out_text, metrics_text

KEEP_S = 5.0  # less than any usual interval between two scrapes
MOST_DEVICES = 500  # whose own series are served; `litefleet metrics` prints those of any number


@dataclass(frozen=True)
class Source:
    """What the metrics are computed from."""

    state: State
    fleet: str
    roster: Callable[[], Roster]  # the inventory's devices; raises LitefleetError where it cannot be read
    streams: int  # that follow rollouts now
    jobs: int  # that run now


class KeptMetrics:
    """The metrics of one server as they were last computed; used by any thread."""

    def __init__(self, keep_s: float = KEEP_S) -> None:
        self._keep_s = keep_s
        self._one = threading.Lock()
        self._services = Services()
        self._kept: dict[bool, tuple[float, str]] = {}

    def text(self, source: Source, has_devices: bool = False) -> str:
        """Return the metrics; with `has_devices`, also each device's own series, of 500 devices at most.  Raises: StateError."""
        with self._one:
            kept = self._kept.get(has_devices)
            if kept is None or time.monotonic() - kept[0] >= self._keep_s:
                kept = self._kept[has_devices] = (time.monotonic(), self._made(source, has_devices))
            return kept[1]

    def _made(self, source: Source, has_devices: bool) -> str:
        began = time.perf_counter()
        fleet = fleet_figures(source.state, source.fleet, time.time())
        services = self._services.figures(source.state)
        project = _project_figures(source, fleet)
        own = ""
        if has_devices:
            many = max(fleet.devices, services.devices) > MOST_DEVICES
            own = "" if many else device_metrics(source.state, source.fleet)
            own += left_out_text(fleet.devices if many else 0)
        took = time.perf_counter() - began
        return metrics_text(fleet, services, project, ServerFigures(source.streams, source.jobs, took)) + own


def _project_figures(source: Source, fleet: FleetFigures) -> ProjectFigures | None:
    """Return what the project's files say; None where they cannot be read."""
    try:
        roster = source.roster()
    except LitefleetError:
        return None
    drift = roster.drift
    found = {pair for pair, codes in drift.codes.items() if codes}
    if found:
        c = confirmed.c
        with source.state.reading() as connection:  # what was confirmed later has not drifted
            later = connection.execute(sa.select(c.device, c.model).where(c.at > drift.at))
            found -= {(device, model) for device, model in later}
    models = Counter(fleet.names.get(model, OTHER) for _, model in found)
    return ProjectFigures(len(roster.devices), models)
