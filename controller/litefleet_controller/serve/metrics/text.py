"""Writes the figures in Prometheus' text format (0.0.4).  `METRICS` has each metric once, with its HELP text."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.service.metrics import Exposition

from ... import __version__
from ...rollout import RolloutState
from .bounds import Spread, label
from .fleet import FleetFigures, RolloutFigures
from .services import HEALTH, ServiceFigures

# By prefix.  Counts are of models on devices unless the text names something else.
METRICS: Mapping[str, Mapping[str, str]] = {
    "litefleet_fleet_": {
        "devices": "Devices that were reached at least once.",
        "inventory_devices": "Devices in the inventory; missing where it cannot be read.",
        "device_series_left_out": "Devices whose own series were asked for and left out: there are too many.",
        "device_models": "Models on devices, by condition in their latest rollout.",
        "verdicts": "Models on devices, by version and verdict in their latest rollout.",
        "confirmed_models": "Models on devices, by the version that they were last confirmed to run.",
        "device_findings": "Models on devices whose latest rollout has the finding.",
        "drifted_models": "Models on devices that changed since, by what showed it: environment, or the latest reconcile.",
        "latency_p50_seconds": "Median latency of the devices as last verified, one value for each device.",
        "latency_p99_seconds": "99th percentile of latency of the devices as last verified, one value for each device.",
        "accuracy_score": "Accuracy (0 to 1) of the devices as last measured, one value for each device.",
        "contact_age_seconds": "Time since the latest contact with each device.",
        "rollout_open": "1 while the latest rollout is not over.",
        "rollout_at_work": "1 while a controller carries out the latest rollout.",
        "rollout_wave": "Current wave of the latest rollout, from 1.",
        "rollout_waves": "Number of waves of the latest rollout.",
        "rollout_devices": "Devices of the latest rollout.",
        "rollout_failed_devices": "Devices of the latest rollout that its gates count as failed.",
        "rollout_rows": "Rows (models on devices) of the latest rollout, by state.",
        "rollout_state": "1 for the state of the latest rollout.",
        "rollout_gate_stopped": "1 for the gate that stopped the latest rollout.",
        "rollout_created_timestamp_seconds": "When the latest rollout was made.",
        "rollout_updated_timestamp_seconds": "When the latest rollout last changed as a whole.",
        "rollout_soak_until_timestamp_seconds": "Until when the current wave soaks; missing without a soak.",
        "services_health": "Devices with a service, by its health.",
        "services_drifted": "Devices whose service found changes at its latest drift check.",
        "services_models": "Models that services on devices serve.",
        "services_as_wanted": "Those of them whose current release is the active one.",
        "services_with_worker_deaths": "Those of them a worker of which ended unexpectedly since the service started.",
        "services_with_rollbacks": "Those of them of which the service reverted a release since it started.",
        "services_latency_p99_seconds": "99th percentile of each service's latest 1024 responses, one value for each device.",
        "notices": "Notices of the outbox, by receiver and state.",
    },
    "litefleet_serve_": {
        "info": "The version of the server, always 1.",
        "project_readable": "1 if configuration and inventory can be read.",
        "event_streams": "Open streams of events: browsers and programs that follow a rollout.",
        "jobs_running": "Jobs that run now.",
        "metrics_seconds": "Time that computing these metrics took.",
    },
    "process_": {
        "start_time_seconds": "When the server started.",
        "cpu_seconds_total": "CPU time of the server, user and system.",
        "resident_memory_bytes": "Resident memory of the server.",
        "open_fds": "Open files of the server.",
        "max_fds": "Files that it may open.",
    },
}
_GATES = ("canary", "wave", "total", "cluster", "regression", "success")
_STARTED = time.time()


@dataclass(frozen=True)
class ProjectFigures:
    """What configuration, inventory and the latest reconcile's report say."""

    devices: int
    drifted: Mapping[str, int]  # by model


@dataclass(frozen=True)
class ServerFigures:
    """What the server itself does."""

    streams: int
    jobs: int
    seconds: float  # that the figures took


def metrics_text(
    fleet: FleetFigures, services: ServiceFigures, project: ProjectFigures | None, server: ServerFigures
) -> str:
    """Return all metrics; `project` is None where it cannot be read."""
    out = Exposition("litefleet_fleet_", METRICS["litefleet_fleet_"])
    _fleet(out, fleet, project)
    if fleet.rollout is not None:
        _rollout(out, fleet.rollout)
    _services(out, services)
    for (receiver, state), count in fleet.notices.items():
        out.gauge("notices", count, receiver=receiver, state=state)
    return out.text() + _server(server, project is not None) + _process()


def left_out_text(devices: int) -> str:
    """Return the metric that says how many devices' own series were asked for and left out; 0: none."""
    out = Exposition("litefleet_fleet_", METRICS["litefleet_fleet_"])
    out.gauge("device_series_left_out", devices)
    return out.text()


def _fleet(out: Exposition, fleet: FleetFigures, project: ProjectFigures | None) -> None:
    out.gauge("devices", fleet.devices)
    out.gauge("inventory_devices", project.devices if project else None)
    for (model, condition), count in fleet.conditions.items():
        out.gauge("device_models", count, model=model, condition=condition)
    for (model, version, verdict), count in fleet.verdicts.items():
        out.gauge("verdicts", count, model=model, version=version, verdict=verdict)
    for (model, version), count in fleet.confirmed.items():
        out.gauge("confirmed_models", count, model=model, version=version)
    for (code, severity), count in fleet.findings.items():
        out.gauge("device_findings", count, code=code, severity=severity)
    _by_model(out, "drifted_models", {m: fleet.changed.get(m, 0) for m in _each(fleet.names)}, found_by="environment")
    if project is not None:
        found = {model: project.drifted.get(model, 0) for model in _each(fleet.names)}
        _by_model(out, "drifted_models", found, found_by="reconcile")
    for (name, model), spread in sorted(fleet.spreads.items()):
        out.histogram(name, spread.summary(), model=model)
    out.histogram("contact_age_seconds", fleet.ages.summary())


def _each(names: Mapping[str, str]) -> list[str]:
    return sorted(set(names.values()))


def _by_model(out: Exposition, name: str, counts: Mapping[str, int], **labels: str) -> None:
    for model, count in sorted(counts.items()):
        out.gauge(name, count, model=model, **labels)


def _rollout(out: Exposition, found: RolloutFigures) -> None:
    rollout = found.rollout
    ident = label(rollout.id)
    out.gauge("rollout_open", not rollout.state.over)
    out.gauge("rollout_at_work", found.at_work)
    out.gauge("rollout_wave", rollout.wave + 1, rollout=ident)
    out.gauge("rollout_waves", len(rollout.waves), rollout=ident)
    out.gauge("rollout_devices", found.devices, rollout=ident)
    out.gauge("rollout_failed_devices", found.failed, rollout=ident)
    for row_state, count in found.rows.items():
        out.gauge("rollout_rows", count, rollout=ident, state=label(row_state))
    for state in RolloutState:
        out.gauge("rollout_state", rollout.state is state, rollout=ident, kind=rollout.kind, state=state.value)
    stopped = rollout.reason.partition(":")[0] if rollout.state in (RolloutState.PAUSED, RolloutState.ABORTED) else ""
    for gate in _GATES:
        out.gauge("rollout_gate_stopped", gate == stopped, rollout=ident, gate=gate)
    out.gauge("rollout_created_timestamp_seconds", rollout.created_at, rollout=ident)
    out.gauge("rollout_updated_timestamp_seconds", rollout.updated_at, rollout=ident)
    out.gauge("rollout_soak_until_timestamp_seconds", rollout.soak_until or None, rollout=ident)


def _services(out: Exposition, found: ServiceFigures) -> None:
    for health in HEALTH:
        out.gauge("services_health", found.health[health], health=health)
    out.gauge("services_drifted", found.drifted)
    counted: Iterable[tuple[str, Mapping[str, int]]] = (
        ("services_models", found.models),
        ("services_as_wanted", found.as_wanted),
        ("services_with_worker_deaths", found.died),
        ("services_with_rollbacks", found.reverted),
    )
    for name, counts in counted:
        _by_model(out, name, counts)
    latency: Mapping[str, Spread] = found.latency
    for model, spread in sorted(latency.items()):
        out.histogram("services_latency_p99_seconds", spread.summary(), model=model)


def _server(server: ServerFigures, is_readable: bool) -> str:
    out = Exposition("litefleet_serve_", METRICS["litefleet_serve_"])
    out.gauge("info", 1, version=__version__)
    out.gauge("project_readable", is_readable)
    out.gauge("event_streams", server.streams)
    out.gauge("jobs_running", server.jobs)
    out.gauge("metrics_seconds", round(server.seconds, 6))
    return out.text()


def _process() -> str:
    """Return the facts of this process under Prometheus' usual names; those of /proc only where there is one."""
    out = Exposition("process_", METRICS["process_"])
    used = os.times()
    out.gauge("start_time_seconds", round(_STARTED, 3))
    out.counter("cpu_seconds_total", round(used.user + used.system, 3))
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        out.gauge("resident_memory_bytes", pages * resource.getpagesize())
        out.gauge("open_fds", len(list(Path("/proc/self/fd").iterdir())))
    out.gauge("max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return out.text()
