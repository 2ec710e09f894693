"""What the services on the devices reported, counted over the fleet; each report is read once, and again when it is newer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...common.checked import mapping_or_empty, number_or_none
from ...state import State
from ...state.tables import device_services
from .bounds import LATENCY_S, MOST_MODELS, Spread, most_frequent

HEALTH = ("ok", "degraded", "starting", "failed", "unknown")
_MOST_MODELS = 100  # of one device's service
_LONGEST = 1 << 20  # characters of a report that is read


class _Served(NamedTuple):
    model: str
    as_wanted: bool
    died: bool
    reverted: bool
    p99_s: float | None


class _Report(NamedTuple):
    seen_at: float
    health: str
    drift: bool
    served: tuple[_Served, ...]


@dataclass
class ServiceFigures:
    """The services in counts; models are labels' values, bounded in number."""

    devices: int = 0
    health: Counter[str] = field(default_factory=Counter)
    drifted: int = 0
    models: Counter[str] = field(default_factory=Counter)
    as_wanted: Counter[str] = field(default_factory=Counter)
    died: Counter[str] = field(default_factory=Counter)
    reverted: Counter[str] = field(default_factory=Counter)
    latency: dict[str, Spread] = field(default_factory=dict)


class Services:
    """The latest report of each device's service; one thread at a time may use it."""

    def __init__(self) -> None:
        self._reports: dict[str, _Report] = {}

    def figures(self, state: State) -> ServiceFigures:
        """Return the figures as they are stored now.  Raises: StateError."""
        self._read(state)
        found = ServiceFigures(len(self._reports))
        counts = Counter(served.model for report in self._reports.values() for served in report.served)
        names = most_frequent(counts, MOST_MODELS)
        for report in self._reports.values():
            found.health[report.health] += 1
            found.drifted += report.drift
            for served in report.served:
                _count(found, names[served.model], served)
        return found

    def _read(self, state: State) -> None:
        """Read the reports that are new, and forget the devices that are gone."""
        s = device_services.c
        with state.reading() as connection:
            stored = {device: seen_at for device, seen_at in connection.execute(sa.select(s.device, s.seen_at))}
            self._reports = {d: kept for d, kept in self._reports.items() if stored.get(d) == kept.seen_at}
            missing = [device for device in stored if device not in self._reports]
            status = sa.type_coerce(s.status, sa.Text)  # read here: a report that is no JSON concerns one device only
            chosen = sa.select(s.device, s.seen_at, status)
            for first in range(0, len(missing), 500):
                for device, seen_at, text in connection.execute(
                    chosen.where(s.device.in_(missing[first : first + 500]))
                ):
                    self._reports[device] = _report(seen_at, text)


def _report(seen_at: float, text: str) -> _Report:
    try:
        status = mapping_or_empty(json.loads(text)) if len(text) <= _LONGEST else {}
    except (ValueError, RecursionError):
        status = {}
    health = status.get("health")
    models = list(mapping_or_empty(status.get("models")).items())[:_MOST_MODELS]
    return _Report(
        seen_at,
        health if health in HEALTH else "unknown",
        (number_or_none(status.get("drift")) or 0) > 0,
        tuple(_served(str(name), mapping_or_empty(reported)) for name, reported in models),
    )


def _served(model: str, reported: Mapping[str, Any]) -> _Served:
    release = reported.get("release")
    died, reverted = (number_or_none(reported.get(name)) or 0 for name in ("worker_deaths", "rollbacks"))
    p99_ms = number_or_none(mapping_or_empty(reported.get("latency")).get("p99_ms"))
    as_wanted = bool(release) and release == reported.get("wanted")
    return _Served(model, as_wanted, died > 0, reverted > 0, None if p99_ms is None else max(0.0, p99_ms / 1e3))


def _count(found: ServiceFigures, name: str, served: _Served) -> None:
    found.models[name] += 1
    found.as_wanted[name] += served.as_wanted
    found.died[name] += served.died
    found.reverted[name] += served.reverted
    if served.p99_s is not None:
        found.latency.setdefault(name, Spread(LATENCY_S)).add(served.p99_s)
