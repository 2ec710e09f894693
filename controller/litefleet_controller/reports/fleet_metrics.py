"""Writes the fleet's status from the state database as Prometheus metrics (text format 0.0.4).  Contacts no device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from litefleet_agent.service.metrics import Exposition

from ..common.checked import mapping_or_empty, number_or_none
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, Rollout, RolloutState
from ..state import Confirmed, KnownDevice, ServiceStatus, State

# Every metric with its HELP text; all names begin with litefleet_fleet_.
METRICS = {
    "devices": "Devices that were reached at least once.",
    "rollout_open": "1 while the latest rollout is not over.",
    "rollout_wave": "Current wave of the latest rollout, from 1.",
    "rollout_waves": "Number of waves of the latest rollout.",
    "service_seen_timestamp_seconds": "Time of the latest contact with the device's service.",
    "service_history_entries": "Entries of the service's history so far.",
    "service_status_timestamp_seconds": "Time at which the service wrote its status.",
    "service_drift_findings": "Changes of the device found by the service's latest drift check.",
    "service_as_wanted": "1 if the current release is the active one.",
    "service_requests_total": "Requests since the service started.",
    "service_answers_total": "Requests that were answered.",
    "service_worker_deaths_total": "Workers that ended unexpectedly.",
    "service_rollbacks_total": "Releases that the service reverted.",
    "device_last_seen_timestamp_seconds": "Time of the latest contact.",
    "device_release": "The release that was last confirmed, always 1.",
    "device_confirmed_timestamp_seconds": "Time of that confirmation.",
    "rollout_state": "1 for the state of the latest rollout.",
    "rollout_rows": "Rows (models on devices) of the latest rollout, by state.",
    "device_verdict": "The verdict in the latest rollout, always 1.",
    "findings": "Findings in the latest rollout.",
    "service_latency_p99_seconds": "99th percentile of the latest 1024 responses.",
    "service_health": "1 for the service's health, 0 for the others.",
}
_HEALTH = ("ok", "degraded", "starting", "failed")
_MOST_MODELS = 100  # of one device's service


def fleet_metrics(state: State, fleet: str) -> str:
    """Return all metrics of a fleet.  StateError when the state cannot be read."""
    out = Exposition("litefleet_fleet_", METRICS)
    latest, known = state.rollouts(fleet, 1), state.known()
    outcomes = state.outcomes(latest[0].id) if latest else ()
    out.gauge("devices", len(known))
    _devices(out, known, state.confirmed())
    if latest:
        _rollout(out, latest[0], state.rows(latest[0].id), outcomes)
    _of_devices(out, outcomes, state.services())
    return out.text()


def device_metrics(state: State, fleet: str) -> str:
    """Return each device's own series alone.  StateError when the state cannot be read."""
    out = Exposition("litefleet_fleet_", METRICS)
    latest = state.rollouts(fleet, 1)
    _devices(out, state.known(), state.confirmed())
    _of_devices(out, state.outcomes(latest[0].id) if latest else (), state.services())
    return out.text()


def _devices(out: Exposition, known: Mapping[str, KnownDevice], confirmed: Mapping[tuple[str, str], Confirmed]) -> None:
    for name, device in sorted(known.items()):
        out.gauge("device_last_seen_timestamp_seconds", device.seen_at, device=name)
    for (name, model), entry in sorted(confirmed.items()):
        labels = {"device": name, "model": model}
        out.gauge("device_release", 1, **labels, release=entry.release)
        out.gauge("device_confirmed_timestamp_seconds", entry.at, **labels)


def _rollout(out: Exposition, rollout: Rollout, rows: Sequence[DeviceRow], outcomes: Sequence[DeviceOutcome]) -> None:
    for state in RolloutState:
        labels = {"rollout": rollout.id, "kind": rollout.kind, "state": state.value}
        out.gauge("rollout_state", rollout.state is state, **labels)
    out.gauge("rollout_open", not rollout.state.over)
    out.gauge("rollout_wave", rollout.wave + 1, rollout=rollout.id)
    out.gauge("rollout_waves", len(rollout.waves), rollout=rollout.id)
    for row_state, count in sorted(Counter(str(row.state) for row in rows).items()):
        out.gauge("rollout_rows", count, rollout=rollout.id, state=row_state)
    found = Counter((f.code, f.severity.value) for o in outcomes for f in o.findings)
    for (code, severity), count in sorted(found.items()):
        out.gauge("findings", count, code=code, severity=severity)


def _of_devices(out: Exposition, outcomes: Sequence[DeviceOutcome], services: Mapping[str, ServiceStatus]) -> None:
    for outcome in outcomes:
        labels = {"device": outcome.device, "model": outcome.model, "verdict": str(outcome.verdict.value)}
        out.gauge("device_verdict", 1, **labels)
    for name, service in sorted(services.items()):
        _service(out, name, service)


def _service(out: Exposition, name: str, service: ServiceStatus) -> None:
    status = service.status
    out.gauge("service_seen_timestamp_seconds", service.seen_at, device=name)
    out.gauge("service_history_entries", service.number, device=name)
    out.gauge("service_status_timestamp_seconds", status.get("at"), device=name)
    for health in _HEALTH:
        if status:
            is_so = status.get("health") == health
            out.gauge("service_health", is_so, device=name, health=health)
    out.gauge("service_drift_findings", status.get("drift"), device=name)
    for model, reported in list(mapping_or_empty(status.get("models")).items())[:_MOST_MODELS]:
        _served(out, {"device": name, "model": str(model)}, mapping_or_empty(reported))


def _served(out: Exposition, labels: Mapping[str, str], reported: Mapping[str, Any]) -> None:
    release, requests, latency = (
        reported.get("release"),
        mapping_or_empty(reported.get("requests")),
        mapping_or_empty(reported.get("latency")),
    )
    as_wanted = bool(release) and release == reported.get("wanted")
    out.gauge("service_as_wanted", as_wanted, **labels)
    out.counter("service_requests_total", requests.get("total"), **labels)
    out.counter("service_answers_total", requests.get("ok"), **labels)
    out.counter("service_worker_deaths_total", reported.get("worker_deaths"), **labels)
    out.counter("service_rollbacks_total", reported.get("rollbacks"), **labels)
    milliseconds = number_or_none(latency.get("p99_ms"))
    if milliseconds is not None:
        out.gauge("service_latency_p99_seconds", milliseconds / 1e3, **labels)
