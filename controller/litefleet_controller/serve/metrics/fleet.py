"""What the database counts of a fleet for `/metrics`: grouped there, so that a large fleet costs little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...rollout import DeviceState, Rollout
from ...rollout.conditions import CONDITIONS, STATES_OF
from ...state import State
from ...state.records import rollout_from
from ...state.tables import (
    confirmed,
    device_services,
    devices,
    findings,
    latest_rows,
    measurements,
    notices,
    releases,
    rollout_rows,
    rollouts,
)
from .bounds import (
    ACCURACY,
    AGE_S,
    LATENCY_S,
    MOST_CODES,
    MOST_MODELS,
    MOST_RECEIVERS,
    MOST_VERSIONS,
    Spread,
    most_frequent,
    place_of,
    summed,
)

_MS = 1e3
# What the agent measured, by its name in the database: the histogram, its buckets, and how many units are one of its own.
_MEASURED = {
    "latency_ms.p50": ("latency_p50_seconds", LATENCY_S, _MS),
    "latency_ms.p99": ("latency_p99_seconds", LATENCY_S, _MS),
    "accuracy.value": ("accuracy_score", ACCURACY, 1.0),
}
_CONDITION = {state.value: name for name in CONDITIONS for state in STATES_OF[name]}


@dataclass(frozen=True)
class RolloutFigures:
    """The latest rollout: its rows by state, and its devices that gates count as failed."""

    rollout: Rollout
    rows: Mapping[str, int]
    devices: int
    failed: int  # devices
    at_work: bool  # a controller carries it out


@dataclass(frozen=True)
class FleetFigures:
    """One fleet in counts.  Models, versions, codes and receivers are labels' values, bounded in number."""

    devices: int
    conditions: Mapping[tuple[str, str], int]  # by (model, condition)
    verdicts: Mapping[tuple[str, str, str], int]  # by (model, version, verdict)
    confirmed: Mapping[tuple[str, str], int]  # by (model, version)
    findings: Mapping[tuple[str, str], int]  # by (code, severity)
    changed: Mapping[str, int]  # by model: devices whose environment is another one than at the confirmation
    spreads: Mapping[tuple[str, str], Spread]  # by (histogram, model)
    ages: Spread  # since the latest contact with each device, in seconds
    notices: Mapping[tuple[str, str], int]  # by (receiver, state)
    rollout: RolloutFigures | None
    names: Mapping[str, str]  # label's values of the models


def fleet_figures(state: State, fleet: str, now: float) -> FleetFigures:
    """Return the figures of a fleet; `now` is in seconds since the epoch.  Raises: StateError."""
    with state.reading() as connection:
        count = _Counting(connection, fleet)
        latest = _latest(connection, fleet)
        found = FleetFigures(
            int(connection.execute(sa.select(sa.func.count()).select_from(devices)).scalar() or 0),
            count.conditions(),
            count.verdicts(),
            count.confirmed(),
            count.findings(),
            count.changed(),
            count.spreads(),
            _ages(connection, now),
            _notices(connection, fleet),
            None,
            count.names,
        )
    if latest is None:
        return found
    rollout, rows, size, failed = latest
    at_work = not rollout.state.over and state.holder(fleet) is not None
    return FleetFigures(**{**vars(found), "rollout": RolloutFigures(rollout, rows, size, failed, at_work)})


class _Counting:
    """Counts each device's row in its latest rollout, and what was confirmed."""

    def __init__(self, connection: sa.Connection, fleet: str) -> None:
        self._connection, self._fleet = connection, fleet
        last, row = latest_rows.c, rollout_rows.c
        same = (row.rollout == last.rollout) & (row.device == last.device) & (row.model == last.model)
        keys = (row.model, row.release, row.state, row.verdict)
        chosen = sa.select(*keys, sa.func.count()).select_from(latest_rows.join(rollout_rows, same))
        self._rows: list[Any] = list(connection.execute(chosen.where(last.fleet == fleet).group_by(*keys)))
        c = confirmed.c
        chosen = sa.select(c.model, c.release, sa.func.count()).group_by(c.model, c.release)
        self._confirmed: list[Any] = list(connection.execute(chosen))
        models: Counter[str] = Counter()
        for model, *_, count in [*self._rows, *self._confirmed]:
            models[model] += count
        self.names = most_frequent(models, MOST_MODELS)
        self._versions = self._version_labels()

    def _version_labels(self) -> dict[tuple[str, str], str]:
        """Return the label's value by (model, release): the version, of the most frequent ones of a model."""
        counts: dict[str, Counter[str]] = {}
        used = {(model, release): release[:12] for model, release, *_ in [*self._rows, *self._confirmed]}
        ids = {release for _, release in used if release}
        named = sa.select(releases.c.id, releases.c.version).where(releases.c.version != "")
        by_release = {release: version for release, version in self._connection.execute(named) if release in ids}
        used = {(model, release): by_release.get(release, short) for (model, release), short in used.items()}
        for model, release, *_, count in [*self._rows, *self._confirmed]:
            counts.setdefault(model, Counter())[used[model, release]] += count
        labels = {model: most_frequent(found, MOST_VERSIONS) for model, found in counts.items()}
        return {(model, release): labels[model][version] for (model, release), version in used.items()}

    def conditions(self) -> dict[tuple[str, str], int]:
        """Return models on devices by (model, condition)."""
        return summed(
            ((self.names[model], _CONDITION.get(state, "pending")), count) for model, _, state, _, count in self._rows
        )

    def verdicts(self) -> dict[tuple[str, str, str], int]:
        """Return models on devices by (model, version, verdict), those that have a verdict."""
        return summed(
            ((self.names[model], self._versions[model, release], verdict), count)
            for model, release, state, verdict, count in self._rows
            if verdict and state != DeviceState.ROLLED_BACK
        )

    def confirmed(self) -> dict[tuple[str, str], int]:
        """Return devices by (model, version) that they were last confirmed to run."""
        return summed(((self.names[m], self._versions[m, release]), count) for m, release, count in self._confirmed)

    def findings(self) -> dict[tuple[str, str], int]:
        """Return models on devices by (code, severity) of a finding in their latest rollout."""
        f, last = findings.c, latest_rows.c
        same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
        chosen = sa.select(f.code, f.severity, sa.func.count()).select_from(findings.join(latest_rows, same))
        found = self._connection.execute(chosen.where(last.fleet == self._fleet).group_by(f.code, f.severity)).all()
        codes = most_frequent(summed((code, count) for code, _, count in found), MOST_CODES)
        return summed(((codes[code], severity), count) for code, severity, count in found)

    def changed(self) -> dict[str, int]:
        """Return devices by model whose environment changed since their release was confirmed."""
        c, known = confirmed.c, devices.c
        joined = confirmed.join(devices, known.device == c.device)
        differs = (c.fingerprint != "") & (known.fingerprint != "") & (c.fingerprint != known.fingerprint)
        chosen = sa.select(c.model, sa.func.count()).select_from(joined).where(differs).group_by(c.model)
        return summed((self.names[model], count) for model, count in self._connection.execute(chosen))

    def spreads(self) -> dict[tuple[str, str], Spread]:
        """Return by (histogram, model) what the agents measured in the devices' latest rollouts."""
        found: dict[tuple[str, str], Spread] = {}
        for stored, (name, bounds, units) in _MEASURED.items():
            for model, place, count, total in self._measured(stored, [bound * units for bound in bounds]):
                spread = found.setdefault((name, self.names[model]), Spread(bounds))
                spread.add_many(place, count, total / units)
        return found

    def _measured(self, stored: str, bounds: list[float]) -> list[Any]:
        m, last = measurements.c, latest_rows.c
        same = (m.rollout == last.rollout) & (m.device == last.device) & (m.model == last.model) & (m.name == stored)
        place = place_of(m.value, bounds).label("place")
        chosen = sa.select(m.model, place, sa.func.count(), sa.func.sum(m.value))
        chosen = chosen.select_from(latest_rows.join(measurements, same))
        chosen = chosen.where(last.fleet == self._fleet, m.value.is_not(None)).group_by(m.model, place)
        return list(self._connection.execute(chosen))


def _ages(connection: sa.Connection, now: float) -> Spread:
    """Return the times since the latest contact with each device, or with its service."""
    contacts = sa.union_all(*(sa.select(t.c.device, t.c.seen_at) for t in (devices, device_services))).subquery()
    latest = sa.select(sa.func.max(contacts.c.seen_at).label("at")).group_by(contacts.c.device).subquery()
    age = now - latest.c.at
    place = place_of(age, AGE_S).label("place")
    spread = Spread(AGE_S)
    for number, count, total in connection.execute(sa.select(place, sa.func.count(), sa.func.sum(age)).group_by(place)):
        spread.add_many(number, count, max(0.0, total))
    return spread


def _notices(connection: sa.Connection, fleet: str) -> dict[tuple[str, str], int]:
    n = notices.c
    counted = sa.select(n.receiver, n.state, sa.func.count()).where(n.fleet == fleet).group_by(n.receiver, n.state)
    found = connection.execute(counted).all()
    names = most_frequent(summed((name, count) for name, _, count in found), MOST_RECEIVERS)
    return summed(((names[receiver], state), count) for receiver, state, count in found)


def _latest(connection: sa.Connection, fleet: str) -> tuple[Rollout, dict[str, int], int, int] | None:
    """Return the latest rollout, its rows by state, its devices, and how many of these have failed for its gates."""
    chosen = sa.select(rollouts).where(rollouts.c.fleet == fleet).order_by(rollouts.c.ordinal.desc()).limit(1)
    stored = connection.execute(chosen).first()
    if stored is None:
        return None
    row = rollout_rows.c
    rollout = rollout_from(stored)
    mine = row.rollout == rollout.id
    counted = sa.select(row.state, sa.func.count()).where(mine).group_by(row.state)
    rows = summed((state, count) for state, count in connection.execute(counted))
    distinct = sa.select(sa.func.count(row.device.distinct())).where(mine)
    failed = distinct.where(row.state == DeviceState.FAILED.value, row.forgiven.is_(False))
    size, lost = (int(connection.execute(query).scalar() or 0) for query in (distinct, failed))
    return rollout, rows, size, lost
