"""One device: its models, facts, findings, time line and latency over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...operations.device_records import TimelineEntry, timeline_of
from ...state import ServiceStatus, State
from ...state.tables import confirmed, devices, findings, latest_rows, measurements, outcomes, rollouts
from .fleet import FleetLine, lines_of
from .roster import Roster

_POINTS = 400  # of one model's latency
_MOVES = 200
_LARGEST_MS = 1e12
_NAMES = {"latency_ms.p50": "p50", "latency_ms.p99": "p99"}


@dataclass(frozen=True)
class LatencyPoint:
    """What one rollout measured on the device: milliseconds at an epoch time."""

    at: float
    p50: float
    p99: float


@dataclass(frozen=True)
class SeenFinding:
    """One finding of the device's latest rollouts."""

    model: str
    code: str
    seen: str


@dataclass(frozen=True)
class DevicePage:
    """Everything that the state knows of one device."""

    name: str
    is_listed: bool  # in the inventory
    lines: tuple[FleetLine, ...]
    facts: Mapping[str, Any]
    host_key: str
    seen_at: float
    service: ServiceStatus | None
    findings: tuple[SeenFinding, ...]
    latency: Mapping[str, tuple[LatencyPoint, ...]]  # by model, the oldest first
    timeline: tuple[TimelineEntry, ...]  # the newest first


def device_page(state: State, roster: Roster, name: str) -> DevicePage | None:
    """Return a device; None where neither the inventory nor the state knows it.  Raises: StateError."""
    with state.reading() as connection:
        known = connection.execute(sa.select(devices).where(devices.c.device == name)).first()
        rows = sa.select(latest_rows.c.model).where(latest_rows.c.fleet == roster.fleet, latest_rows.c.device == name)
        runs = sa.select(confirmed.c.model).where(confirmed.c.device == name)
        past = {model for (model,) in [*connection.execute(rows), *connection.execute(runs)]}
        seen = _findings(connection, roster.fleet, name)
        latency = _latency(connection, roster.fleet, name)
    listed = roster.models.get(name, ())
    if not listed and known is None and not past:
        return None
    models = [*listed, *sorted(past - set(listed))]
    timeline = timeline_of(state, name, state.moves_of(roster.fleet, name, _MOVES), _MOVES)
    return DevicePage(
        name,
        name in roster.by_name,
        lines_of(state, roster, [(name, model) for model in models]),
        known.facts if known else {},
        known.host_key if known else "",
        known.seen_at if known else 0.0,
        state.service(name),
        seen,
        latency,
        tuple(reversed(timeline)),
    )


def _findings(connection: sa.Connection, fleet: str, name: str) -> tuple[SeenFinding, ...]:
    last, f = latest_rows.c, findings.c
    same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
    chosen = (
        sa.select(f.model, f.code, f.seen)
        .join(latest_rows, same)
        .where(last.fleet == fleet, last.device == name)
        .order_by(f.model, f.position)
        .limit(200)
    )
    return tuple(SeenFinding(*row) for row in connection.execute(chosen))


def _latency(connection: sa.Connection, fleet: str, name: str) -> dict[str, tuple[LatencyPoint, ...]]:
    """Return what rollouts measured; one that found the release in place repeats the earlier figures, which count once."""
    ours = sa.select(rollouts.c.id).where(rollouts.c.fleet == fleet).order_by(rollouts.c.ordinal.desc()).limit(_POINTS)
    m, o = measurements.c, outcomes.c
    same = (m.rollout == o.rollout) & (m.device == o.device) & (m.model == o.model)
    chosen = (
        sa.select(o.model, o.at, o.rollout, m.name, m.value)
        .join(measurements, same)
        .where(o.device == name, o.rollout.in_(ours), m.name.in_(list(_NAMES)))
        .order_by(o.at)
    )
    taken: dict[tuple[str, float, str], dict[str, float]] = {}
    for model, at, rollout, key, value in connection.execute(chosen):
        if value is not None and 0 < value < _LARGEST_MS:
            taken.setdefault((model, at, rollout), {})[_NAMES[key]] = value
    found: dict[str, list[LatencyPoint]] = {}
    for (model, at, _), values in taken.items():
        points = found.setdefault(model, [])
        if len(values) == 2 and not (points and (points[-1].p50, points[-1].p99) == (values["p50"], values["p99"])):
            points.append(LatencyPoint(at, values["p50"], values["p99"]))
    return {model: tuple(points[-_POINTS:]) for model, points in found.items() if points}
