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
from .event_loop import Loop
from .metrics import ModelFigures, ServiceFigures, metrics_text, write_textfile
from .model_service import ModelService
from .release_switch import Succession
from .settings import Settings
from .status_file import write_status
from .workers.pool import Generation

__all__ = ["Bulletin", "health_dict", "status_dict"]


SCHEMA = 1
_DEVICE = Tree("/")
_GRAVEST = ("failed", "starting", "degraded", "ok")


def status_dict(
    figures: ServiceFigures,
    models: Mapping[str, ModelService],
    callers: Optional[Sized],
    now: float,
    wall: float,
    tree: Tree = _DEVICE,
) -> Dict[str, Any]:
    """Return the whole status; `now` is of the monotonic clock, `wall` of the device's own, both in seconds."""
    reasons = [reason for name in sorted(models) for reason in _reasons(name, models[name], figures.of(name), now)]
    reasons += [_reason("degraded", "", "the environment has changed: %s" % f.seen, f) for f in figures.drift]
    told = {name: _model(models[name], figures.of(name), now, wall) for name in sorted(models)}
    return {
        "schema": SCHEMA,
        "at": round(wall, 3),
        "health": min((reason["health"] for reason in reasons), key=_GRAVEST.index) if reasons else "ok",
        "reasons": reasons,
        "pid": os.getpid(),
        "version": figures.version,
        "uptime_s": round(now - figures.started, 3),
        "rss_bytes": _rss(tree),
        "fds": len(tree.names("/proc/self/fd")),
        "callers": _count(callers),
        "models": told,
        "unknown_model": dict(figures.of("").errors),
        "drift": [f.to_dict() for f in figures.drift],
        "drift_looks": figures.drift_looks,
        "problems": [{"text": text, "times": times} for text, times in figures.problems.items()],
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
    said = "%s %s" % (model, text) if model else text
    reason: Dict[str, Any] = {"health": health, "model": model, "text": said[:1000]}
    if found is not None:
        reason["finding"] = found.to_dict()
    return reason


def _reasons(name: str, service: ModelService, figures: ModelFigures, now: float) -> List[Dict[str, Any]]:
    releases = service.releases
    if not releases.wanted:
        return [_reason("degraded", name, "has no current release")]
    if releases.active is None:
        return [_not_served(name, releases)]
    return _wrong_release(name, releases, figures) + _ill(name, service, figures, now)


def _not_served(name: str, releases: Succession) -> Dict[str, Any]:
    if releases.findings:
        first = releases.findings[0]
        return _reason("failed", name, "is not served: %s" % first.seen, first)
    return _reason("starting", name, "is not served yet: its release %s is being loaded" % releases.wanted[:12])


def _wrong_release(name: str, releases: Succession, figures: ModelFigures) -> List[Dict[str, Any]]:
    assert releases.active is not None
    if releases.findings:
        first = releases.findings[0]
        said = "still serves %s; what is wanted does not pass here: %s" % (releases.active.release[:12], first.seen)
        return [_reason("degraded", name, said, first)]
    if figures.taken_back:
        first_of_back = figures.back_findings[0] if figures.back_findings else None
        said = "went back from %s by itself" % figures.taken_back[:12]
        return [_reason("degraded", name, said + (": %s" % first_of_back.seen if first_of_back else ""), first_of_back)]
    return []


def _ill(name: str, service: ModelService, figures: ModelFigures, now: float) -> List[Dict[str, Any]]:
    reasons = []
    active = service.releases.active
    if now - service.last_good > service.patience_s:
        said = "has not computed anything right for %d s" % (now - service.last_good)
        reasons.append(_reason("degraded", name, said))
    if figures.probe_ok is False:
        first = figures.probe_findings[0] if figures.probe_findings else None
        said = "gave wrong outputs for a golden%s" % (": %s" % first.seen if first else "")
        reasons.append(_reason("degraded", name, said, first))
    if active is not None and not active.alive:
        reasons.append(_reason("degraded", name, "has no worker at this moment; one is being started"))
    return reasons


# --- figures


def _model(service: ModelService, figures: ModelFigures, now: float, wall: float) -> Dict[str, Any]:
    releases = service.releases
    active = releases.active
    asked = figures.ok + sum(figures.errors.values())
    return {
        "release": active.release if active is not None else "",
        "wanted": releases.wanted,
        "state": _state(releases),
        "since": _moment(releases.switched_at, now, wall) if active is not None else None,
        "workers": _workers(active),
        "incoming": releases.incoming.release if releases.incoming is not None else "",
        "before": releases.before.release if releases.before is not None else "",
        "facts": _facts(active),
        "queue": {
            "length": len(service.queue),
            "limit": service.queue.most,
            "rejected": figures.errors.get("busy", 0),
        },
        "requests": {"total": asked, "ok": figures.ok, "errors": dict(figures.errors)},
        "latency": figures.latency.to_dict(),
        "run": figures.run.to_dict(),
        "worker_deaths": figures.worker_deaths,
        "workers_worn": figures.workers_worn,
        "switches": figures.switches,
        "rollbacks": figures.rollbacks,
        "last_inference_at": _moment(service.last_good, now, wall),
        "probe": {
            "at": _moment(figures.probe_at, now, wall),
            "ok": figures.probe_ok,
            "runs": figures.probes,
            "failed": figures.probes_failed,
        },
        "findings": [f.to_dict() for f in releases.findings[:20]],
    }


def _state(releases: Succession) -> str:
    if releases.active is not None:
        return "switching" if releases.loading else "serving"
    if releases.hopeful:
        return "warming"
    return "failed" if releases.findings else "nothing"


def _moment(monotonic: float, now: float, wall: float) -> Optional[float]:
    """Return the wall time of a moment of the monotonic clock, None for never."""
    return round(wall - (now - monotonic), 3) if monotonic else None


def _workers(active: Optional[Generation]) -> List[Dict[str, Any]]:
    workers: Sequence[Any] = active.workers if active is not None else ()
    return [
        {"pid": w.pid, "state": w.state.value, "runs": w.runs, "loads": w.loads, "rss_bytes": w.rss_bytes()}
        for w in workers
    ]


def _facts(active: Optional[Generation]) -> Dict[str, Any]:
    known = ("load_ms", "runtime_version", "numpy_version", "threads_set_by", "power_mode", "batches")
    return {name: active.facts[name] for name in known if name in active.facts} if active is not None else {}


def _count(callers: Optional[Sized]) -> int:
    return len(callers) if callers is not None else 0


def _rss(tree: Tree) -> int:
    fields = tree.text("/proc/self/statm", 200).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 and fields[1].isdigit() else 0


class Bulletin:
    """Tells how the service is, over the socket and in files."""

    def __init__(
        self,
        loop: Loop,
        root: str,
        environ: Mapping[str, str],
        settings: Settings,
        figures: ServiceFigures,
        models: Mapping[str, ModelService],
    ) -> None:
        self._loop, self._root, self._environ, self._settings = loop, root, environ, settings
        self._figures, self._models = figures, models
        self._clock = Clock()
        self.callers: Optional[Sized] = None

    def status(self) -> Dict[str, Any]:
        """Return what `status` answers and status.json holds."""
        return status_dict(self._figures, self._models, self.callers, self._loop.now(), self._clock.wall())

    def write(self, ended: bool = False) -> None:
        """Write status.json and the textfile; `ended` says in them that the service was stopped."""
        status = dict(self.status(), **_ENDED) if ended else self.status()
        try:
            write_status(self._root, self._environ, status)
            if self._settings.textfile:
                write_textfile(self._settings.textfile, metrics_text(status))
        except OSError as error:
            self._figures.problem("status could not be written: %s" % (error.strerror or error))


_ENDED: Dict[str, Any] = {
    "health": "failed",
    "reasons": [{"health": "failed", "model": "", "text": "the service was stopped"}],
}
