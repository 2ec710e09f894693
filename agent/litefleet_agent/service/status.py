"""What `status` and `health` answer: the service in figures and sentences, JSON throughout (`schema` 1).

`health` is "ok"; "degraded": something is wrong, and every wanted model is served; "starting": a model is being loaded for
the first time; "failed": a wanted model is not served.  `reasons` say why it is not "ok".
"""

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Sized

from ..facts.sensors import sensors
from ..facts.tree import Tree
from ..findings import Finding
from ..releases.clock import Clock
from .event_loop import EventLoop
from .metrics import ModelCounters, ServiceCounters, metrics_text, write_textfile
from .model_service import ModelService
from .release_switch import ReleaseSwitch
from .settings import Settings
from .status_file import write_status
from .workers.pool import WorkerPool

__all__ = ["StatusPublisher", "health_dict", "status_dict"]


SCHEMA = 1
_DEVICE = Tree("/")
_GRAVEST = ("failed", "starting", "degraded", "ok")


def status_dict(
    counters: ServiceCounters,
    models: Mapping[str, ModelService],
    connections: Optional[Sized],
    now: float,
    wall: float,
    tree: Tree = _DEVICE,
) -> Dict[str, Any]:
    """Return the whole status; `now` is of the monotonic clock, `wall` of the device's own, both in seconds."""
    reasons = [reason for name in sorted(models) for reason in _reasons(name, models[name], counters.of(name), now)]
    reasons += [_reason("degraded", "", "the environment has changed: %s" % f.observed, f) for f in counters.drift]
    model_dicts = {name: _model(models[name], counters.of(name), now, wall) for name in sorted(models)}
    return {
        "schema": SCHEMA,
        "at": round(wall, 3),
        "health": min((reason["health"] for reason in reasons), key=_GRAVEST.index) if reasons else "ok",
        "reasons": reasons,
        "pid": os.getpid(),
        "version": counters.version,
        "uptime_s": round(now - counters.started, 3),
        "rss_bytes": _rss(tree),
        "fds": len(tree.names("/proc/self/fd")),
        "callers": _count(connections),
        "models": model_dicts,
        "unknown_model": dict(counters.of("").errors),
        "drift": [f.to_dict() for f in counters.drift],
        "drift_looks": counters.drift_checks,
        "problems": [{"text": text, "times": times} for text, times in counters.problems.items()],
        "device": sensors(tree),
    }


def health_dict(status: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the short form of a status: {schema, at, health, reasons: [sentence], models: {name: {release, state}}}."""
    return {
        "schema": status["schema"],
        "at": status["at"],
        "health": status["health"],
        "reasons": [reason["text"] for reason in status["reasons"]][:20],
        "models": {name: {"release": m["release"], "state": m["state"]} for name, m in status["models"].items()},
    }


# --- why it is not well


def _reason(health: str, model: str, text: str, found: Optional[Finding] = None) -> Dict[str, Any]:
    message = "%s %s" % (model, text) if model else text
    reason: Dict[str, Any] = {"health": health, "model": model, "text": message[:1000]}
    if found is not None:
        reason["finding"] = found.to_dict()
    return reason


def _reasons(name: str, service: ModelService, counters: ModelCounters, now: float) -> List[Dict[str, Any]]:
    releases = service.releases
    if not releases.wanted:
        return [_reason("degraded", name, "has no current release")]
    if releases.active is None:
        return [_not_served(name, releases)]
    return _wrong_release(name, releases, counters) + _unhealthy(name, service, counters, now)


def _not_served(name: str, releases: ReleaseSwitch) -> Dict[str, Any]:
    if releases.findings:
        first = releases.findings[0]
        return _reason("failed", name, "is not served: %s" % first.observed, first)
    return _reason("starting", name, "is not served yet: its release %s is being loaded" % releases.wanted[:12])


def _wrong_release(name: str, releases: ReleaseSwitch, counters: ModelCounters) -> List[Dict[str, Any]]:
    assert releases.active is not None
    if releases.findings:
        first = releases.findings[0]
        message = "still serves %s; what is wanted does not pass here: %s" % (
            releases.active.release[:12],
            first.observed,
        )
        return [_reason("degraded", name, message, first)]
    if counters.reverted_release:
        cause = counters.revert_findings[0] if counters.revert_findings else None
        message = "went back from %s by itself" % counters.reverted_release[:12]
        return [_reason("degraded", name, message + (": %s" % cause.observed if cause else ""), cause)]
    return []


def _unhealthy(name: str, service: ModelService, counters: ModelCounters, now: float) -> List[Dict[str, Any]]:
    reasons = []
    active = service.releases.active
    if now - service.last_good > service.max_silence_s:
        message = "has not computed anything right for %d s" % (now - service.last_good)
        reasons.append(_reason("degraded", name, message))
    if counters.probe_ok is False:
        first = counters.probe_findings[0] if counters.probe_findings else None
        message = "gave wrong outputs for a golden%s" % (": %s" % first.observed if first else "")
        reasons.append(_reason("degraded", name, message, first))
    if active is not None and not active.alive:
        reasons.append(_reason("degraded", name, "has no worker at this moment; one is being started"))
    return reasons


# --- figures


def _model(service: ModelService, counters: ModelCounters, now: float, wall: float) -> Dict[str, Any]:
    releases = service.releases
    active = releases.active
    total = counters.ok + sum(counters.errors.values())
    return {
        "release": active.release if active is not None else "",
        "wanted": releases.wanted,
        "state": _state(releases),
        "since": _moment(releases.switched_at, now, wall) if active is not None else None,
        "workers": _workers(active),
        "incoming": releases.incoming.release if releases.incoming is not None else "",
        "before": releases.fallback.release if releases.fallback is not None else "",
        "facts": _facts(active),
        "queue": {
            "length": len(service.queue),
            "limit": service.queue.most,
            "rejected": counters.errors.get("busy", 0),
        },
        "requests": {"total": total, "ok": counters.ok, "errors": dict(counters.errors)},
        "latency": counters.latency.to_dict(),
        "run": counters.run.to_dict(),
        "worker_deaths": counters.worker_deaths,
        "workers_worn": counters.workers_recycled,
        "switches": counters.switches,
        "rollbacks": counters.rollbacks,
        "last_inference_at": _moment(service.last_good, now, wall),
        "probe": {
            "at": _moment(counters.probe_at, now, wall),
            "ok": counters.probe_ok,
            "runs": counters.probes,
            "failed": counters.probes_failed,
        },
        "findings": [f.to_dict() for f in releases.findings[:20]],
    }


def _state(releases: ReleaseSwitch) -> str:
    if releases.active is not None:
        return "switching" if releases.loading else "serving"
    if releases.warming_up:
        return "warming"
    return "failed" if releases.findings else "nothing"


def _moment(monotonic: float, now: float, wall: float) -> Optional[float]:
    """Return the wall time of a moment of the monotonic clock, None for never."""
    return round(wall - (now - monotonic), 3) if monotonic else None


def _workers(active: Optional[WorkerPool]) -> List[Dict[str, Any]]:
    workers: Sequence[Any] = active.workers if active is not None else ()
    return [
        {"pid": w.pid, "state": w.state.value, "runs": w.runs, "loads": w.loads, "rss_bytes": w.rss_bytes()}
        for w in workers
    ]


def _facts(active: Optional[WorkerPool]) -> Dict[str, Any]:
    known = ("load_ms", "runtime_version", "numpy_version", "threads_set_by", "power_mode", "batches")
    return {name: active.facts[name] for name in known if name in active.facts} if active is not None else {}


def _count(connections: Optional[Sized]) -> int:
    return len(connections) if connections is not None else 0


def _rss(tree: Tree) -> int:
    fields = tree.text("/proc/self/statm", 200).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 and fields[1].isdigit() else 0


class StatusPublisher:
    """Tells how the service is, over the socket and in files."""

    def __init__(
        self,
        loop: EventLoop,
        root: str,
        environ: Mapping[str, str],
        settings: Settings,
        counters: ServiceCounters,
        models: Mapping[str, ModelService],
    ) -> None:
        self._loop, self._root, self._environ, self._settings = loop, root, environ, settings
        self._counters, self._models = counters, models
        self._clock = Clock()
        self.connections: Optional[Sized] = None

    def status(self) -> Dict[str, Any]:
        """Return what `status` answers and status.json holds."""
        return status_dict(self._counters, self._models, self.connections, self._loop.now(), self._clock.wall())

    def write(self, ended: bool = False) -> None:
        """Write status.json and the textfile; `ended` says in them that the service was stopped."""
        status = dict(self.status(), **_ENDED) if ended else self.status()
        try:
            write_status(self._root, self._environ, status)
            if self._settings.textfile:
                write_textfile(self._settings.textfile, metrics_text(status))
        except OSError as error:
            self._counters.problem("status could not be written: %s" % (error.strerror or error))


_ENDED: Dict[str, Any] = {
    "health": "failed",
    "reasons": [{"health": "failed", "model": "", "text": "the service was stopped"}],
}
