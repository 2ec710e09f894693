"""The fleet as the state database knows it, as Prometheus metrics.  Pure but for `fleet_metrics`, which reads the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from litefleet_agent.service.metrics import Exposition

from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, Rollout, RolloutState
from ..state import Confirmed, KnownDevice, ServiceStatus, State
from .values import number

__all__ = ["fleet_metrics"]

_HEALTH = ("ok", "degraded", "starting", "failed")
_MOST_MODELS = 100  # of one device's service


def fleet_metrics(state: State, fleet: str) -> str:
    """Return everything in text format 0.0.4; StateError when the state can't be read."""
    out = Exposition("litefleet_fleet_")
    latest = state.rollouts(fleet, 1)
    _devices(out, state.known(), state.confirmed())
    if latest:
        _rollout(out, latest[0], state.rows(latest[0].id), state.outcomes(latest[0].id))
    for name, service in sorted(state.services().items()):
        _service(out, name, service)
    return out.text()


def _devices(out: Exposition, known: Mapping[str, KnownDevice], confirmed: Mapping[tuple[str, str], Confirmed]) -> None:
    out.gauge("devices", "Devices that were ever reached.", len(known))
    for name, device in sorted(known.items()):
        out.gauge("device_last_seen_timestamp_seconds", "Last contact.", device.seen_at, device=name)
    for (name, model), entry in sorted(confirmed.items()):
        labels = {"device": name, "model": model}
        out.gauge("device_release", "What was last confirmed, always 1.", 1, **labels, release=entry.release)
        out.gauge("device_confirmed_timestamp_seconds", "When it was confirmed.", entry.at, **labels)


def _rollout(out: Exposition, rollout: Rollout, rows: Sequence[DeviceRow], outcomes: Sequence[DeviceOutcome]) -> None:
    for state in RolloutState:
        labels = {"rollout": rollout.id, "kind": rollout.kind, "state": state.value}
        out.gauge("rollout_state", "1 for the state of the latest rollout.", rollout.state is state, **labels)
    out.gauge("rollout_open", "Whether the latest rollout is not over yet.", not rollout.state.over)
    out.gauge("rollout_wave", "Its wave, from 1.", rollout.wave + 1, rollout=rollout.id)
    out.gauge("rollout_waves", "How many waves it has.", len(rollout.waves), rollout=rollout.id)
    for row_state, count in sorted(Counter(str(row.state) for row in rows).items()):
        out.gauge("rollout_rows", "Models on devices, by state.", count, rollout=rollout.id, state=row_state)
    for outcome in outcomes:
        labels = {"device": outcome.device, "model": outcome.model, "verdict": str(outcome.verdict.value)}
        out.gauge("device_verdict", "The verdict in the latest rollout, always 1.", 1, **labels)
    found = Counter((f.code, f.severity.value) for o in outcomes for f in o.findings)
    for (code, severity), count in sorted(found.items()):
        out.gauge("findings", "Findings in the latest rollout.", count, code=code, severity=severity)


def _service(out: Exposition, name: str, service: ServiceStatus) -> None:
    status = service.status
    out.gauge("service_seen_timestamp_seconds", "When it was last heard of.", service.seen_at, device=name)
    out.gauge("service_history_entries", "Entries of its history so far.", service.number, device=name)
    out.gauge("service_status_timestamp_seconds", "When it wrote that status itself.", status.get("at"), device=name)
    for health in _HEALTH:
        if status:
            is_so = status.get("health") == health
            out.gauge("service_health", "1 for a service's health.", is_so, device=name, health=health)
    out.gauge("service_drift_findings", "What it found changed on its device.", status.get("drift"), device=name)
    for model, reported in list(_mapping(status.get("models")).items())[:_MOST_MODELS]:
        _served(out, {"device": name, "model": str(model)}, _mapping(reported))


def _served(out: Exposition, labels: Mapping[str, str], reported: Mapping[str, Any]) -> None:
    release, requests, latency = (
        reported.get("release"),
        _mapping(reported.get("requests")),
        _mapping(reported.get("latency")),
    )
    as_wanted = bool(release) and release == reported.get("wanted")
    out.gauge("service_as_wanted", "Whether the current release is what is served.", as_wanted, **labels)
    out.counter("service_requests_total", "Since the service started.", requests.get("total"), **labels)
    out.counter("service_answers_total", "Requests that got an answer.", requests.get("ok"), **labels)
    out.counter(
        "service_worker_deaths_total", "Workers that ended by themselves.", reported.get("worker_deaths"), **labels
    )
    out.counter("service_rollbacks_total", "Releases that it took back.", reported.get("rollbacks"), **labels)
    milliseconds = number(latency.get("p99_ms"))
    if milliseconds is not None:
        text = "99th percentile of the latest 1024 answers."
        out.gauge("service_latency_p99_seconds", text, milliseconds / 1e3, **labels)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
