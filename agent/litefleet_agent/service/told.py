"""What a session tells of the resident service, from the files that it leaves; the service itself is not asked."""

from typing import Any, Dict

from .history import newest
from .statusfile import read_status

__all__ = ["told"]

_FIGURES = ("release", "wanted", "state", "worker_deaths", "switches", "rollbacks", "last_inference_at")
_MOST_MODELS = 100
_MOST_REASONS = 10


def told(root: str) -> Dict[str, Any]:
    """Return {history: {id, newest}, service: a short status, {} where none was written}."""
    identity, number = newest(root)
    return {"history": {"id": identity, "newest": number}, "service": _short(read_status(root))}


def _short(status: Dict[str, Any]) -> Dict[str, Any]:
    """Return of a status what a controller keeps: health, reasons, and a few figures of each model."""
    if status.get("schema") != 1:
        return {}
    models = status.get("models")
    reasons = status.get("reasons")
    return {
        "schema": 1,
        "at": status.get("at"),
        "health": status.get("health"),
        "uptime_s": status.get("uptime_s"),
        "reasons": [str(r.get("text"))[:500] for r in reasons if isinstance(r, dict)][:_MOST_REASONS]
        if isinstance(reasons, list)
        else [],
        "drift": len(status["drift"]) if isinstance(status.get("drift"), list) else 0,
        "models": {
            str(name)[:128]: _model(model)
            for name, model in sorted(models.items())[:_MOST_MODELS]
            if isinstance(model, dict)
        }
        if isinstance(models, dict)
        else {},
    }


def _model(model: Dict[str, Any]) -> Dict[str, Any]:
    short = {name: model.get(name) for name in _FIGURES}
    requests, latency = model.get("requests"), model.get("latency")
    if isinstance(requests, dict):
        short["requests"] = {"total": requests.get("total"), "ok": requests.get("ok")}
    if isinstance(latency, dict):
        short["latency"] = {name: latency.get(name) for name in ("p50_ms", "p90_ms", "p99_ms")}
    return short
