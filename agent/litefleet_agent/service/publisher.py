"""Collects the service's status from its models and counters, and publishes it in files."""

import os
from typing import List, Mapping, Optional, Sized, Tuple

from ..facts.sensors import sensors
from ..findings import Finding
from ..formats.files import Tree
from ..releases.lease import Clock
from .event_loop import EventLoop
from .metrics import ModelCounters, ServiceCounters, metrics_text, write_textfile
from .model_service import ModelService
from .release_switch import ReleaseSwitch
from .settings import Settings
from .status import (
    GRAVEST_FIRST,
    ModelStatus,
    ProbeStatus,
    QueueStatus,
    Reason,
    RequestCounts,
    ServiceStatus,
    WorkerStatus,
)
from .status_file import write_status
from .workers.pool import WorkerPool

_DEVICE = Tree("/")


class StatusPublisher:
    """Returns the status to requests and writes it to status.json and the metrics textfile."""

    def __init__(
        self,
        loop: EventLoop,
        root: str,
        environ: Mapping[str, str],
        settings: Settings,
        counters: ServiceCounters,
        models: Mapping[str, ModelService],
        connections: Sized,
    ) -> None:
        self._loop, self._root, self._environ, self._settings = loop, root, environ, settings
        self._counters, self._models, self._connections = counters, models, connections
        self._clock = Clock()

    def status(self) -> ServiceStatus:
        """Return the status now."""
        return collect_status(self._counters, self._models, self._connections, self._loop.now(), self._clock.wall())

    def write(self, stopped: bool = False) -> None:
        """Write status.json and the textfile; `stopped` reports a service that was stopped.

        A file that cannot be written becomes one of the status's problems.
        """
        status = self.status().stopped() if stopped else self.status()
        try:
            write_status(self._root, self._environ, status.to_dict())
            if self._settings.textfile:
                write_textfile(self._settings.textfile, metrics_text(status))
        except OSError as error:
            self._counters.problem("cannot write the status: %s" % (error.strerror or error))


def collect_status(
    counters: ServiceCounters,
    models: Mapping[str, ModelService],
    connections: Sized,
    now: float,
    wall: float,
    tree: Tree = _DEVICE,
) -> ServiceStatus:
    """Return the whole status; `now` is on the monotonic clock, `wall` on the device's own, both in seconds.

    `tree` is where /proc and /sys are read.
    """
    reasons = [reason for name in sorted(models) for reason in _reasons(name, models[name], counters.of(name), now)]
    reasons += [Reason("degraded", "", "the environment has changed: %s" % f.observed, f) for f in counters.drift]
    return ServiceStatus(
        at=round(wall, 3),
        health=min((reason.health for reason in reasons), key=GRAVEST_FIRST.index) if reasons else "ok",
        reasons=tuple(reasons),
        pid=os.getpid(),
        version=counters.version,
        uptime_s=round(now - counters.started, 3),
        rss_bytes=_rss(tree),
        fds=len(tree.names("/proc/self/fd")),
        connections=len(connections),
        models={name: _model_status(models[name], counters.of(name), now, wall) for name in sorted(models)},
        unknown_model=dict(counters.of("").errors),
        drift=tuple(counters.drift),
        drift_checks=counters.drift_checks,
        problems=dict(counters.problems),
        device=sensors(tree),
    )


# --- reasons


def _of_model(health: str, model: str, text: str, cause: Optional[Finding] = None) -> Reason:
    return Reason(health, model, "%s %s" % (model, text), cause)


def _reasons(name: str, service: ModelService, counters: ModelCounters, now: float) -> List[Reason]:
    releases = service.releases
    if not releases.wanted:
        return [_of_model("degraded", name, "has no current release")]
    if releases.active is None:
        return [_not_served(name, releases)]
    return _wrong_release(name, releases, releases.active, counters) + _unhealthy(name, service, counters, now)


def _not_served(name: str, releases: ReleaseSwitch) -> Reason:
    if releases.findings:
        first = releases.findings[0]
        return _of_model("failed", name, "is not served: %s" % first.observed, first)
    return _of_model("starting", name, "is not served yet: its release %s is being loaded" % releases.wanted[:12])


def _wrong_release(name: str, releases: ReleaseSwitch, active: WorkerPool, counters: ModelCounters) -> List[Reason]:
    if releases.findings:
        first = releases.findings[0]
        text = "still serves %s; the wanted release does not pass here: %s" % (active.release[:12], first.observed)
        return [_of_model("degraded", name, text, first)]
    if counters.reverted_release:
        cause = counters.revert_findings[0] if counters.revert_findings else None
        text = "was reverted from %s by the service" % counters.reverted_release[:12]
        return [_of_model("degraded", name, text + (": %s" % cause.observed if cause else ""), cause)]
    return []


def _unhealthy(name: str, service: ModelService, counters: ModelCounters, now: float) -> List[Reason]:
    reasons = []
    active = service.releases.active
    if now - service.last_good > service.max_silence_s:
        reasons.append(_of_model("degraded", name, "has run no correct inference for %d s" % (now - service.last_good)))
    if counters.probe_ok is False:
        first = counters.probe_findings[0] if counters.probe_findings else None
        text = "gave wrong outputs for a golden%s" % (": %s" % first.observed if first else "")
        reasons.append(_of_model("degraded", name, text, first))
    if active is not None and not active.alive:
        reasons.append(_of_model("degraded", name, "has no worker at this moment; one is being started"))
    return reasons


# --- figures


def _model_status(service: ModelService, counters: ModelCounters, now: float, wall: float) -> ModelStatus:
    releases = service.releases
    active, incoming, fallback = releases.active, releases.incoming, releases.fallback
    errors = dict(counters.errors)
    return ModelStatus(
        release=active.release if active is not None else "",
        wanted=releases.wanted,
        state=_state(releases),
        since=_moment(releases.switched_at, now, wall) if active is not None else None,
        workers=_workers(active),
        incoming=incoming.release if incoming is not None else "",
        before=fallback.release if fallback is not None else "",
        facts=active.facts if active is not None else None,
        queue=QueueStatus(len(service.queue), service.queue.most, errors.get("busy", 0)),
        requests=RequestCounts(counters.ok + sum(errors.values()), counters.ok, errors),
        latency=counters.latency.summary(),
        run=counters.run.summary(),
        worker_deaths=counters.worker_deaths,
        workers_recycled=counters.workers_recycled,
        switches=counters.switches,
        rollbacks=counters.rollbacks,
        last_inference_at=_moment(service.last_good, now, wall),
        probe=ProbeStatus(
            _moment(counters.probe_at, now, wall), counters.probe_ok, counters.probes, counters.probes_failed
        ),
        findings=tuple(releases.findings),
    )


def _state(releases: ReleaseSwitch) -> str:
    if releases.active is not None:
        return "switching" if releases.loading else "serving"
    if releases.warming_up:
        return "warming"
    return "failed" if releases.findings else "nothing"


def _moment(monotonic: float, now: float, wall: float) -> Optional[float]:
    """Return the wall time of a moment on the monotonic clock, None for 0 (never)."""
    return round(wall - (now - monotonic), 3) if monotonic else None


def _workers(active: Optional[WorkerPool]) -> Tuple[WorkerStatus, ...]:
    if active is None:
        return ()
    return tuple(WorkerStatus(w.pid, w.state.value, w.runs, w.loads, w.rss_bytes()) for w in active.workers)


def _rss(tree: Tree) -> int:
    """Return this process's resident memory in bytes, 0 where the kernel does not report it."""
    fields = tree.text("/proc/self/statm", 200).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 and fields[1].isdigit() else 0
