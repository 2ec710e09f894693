"""status.json: the service's status for readers that do not ask over the socket.

$RUNTIME_DIRECTORY/status.json (0644, in memory) is written every time.  <root>/status.json (0600) is for a controller's
session, which does not know that folder: it is written when health changes and every five minutes, to spare the flash, and
names the other one.  Neither is synced: a lost one is made anew in seconds.
"""

import json
import os
import stat
import time
from typing import Any, Dict, Mapping

from ..releases.atomic import write_atomic
from .history import newest

__all__ = ["NAME", "read_status", "service_status", "write_status"]


NAME = "status.json"
_ROOT_EVERY_S = 300.0
_MOST = 4 << 20  # bytes


def write_status(root: str, environ: Mapping[str, str], status: Mapping[str, Any]) -> None:
    """Write the status to its two places; OSError when one of them can't be written."""
    folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if folder:
        write_atomic(os.path.join(folder, NAME), [_encode(status)], 0o644, durable=False, exact_mode=True)
    path = os.path.join(root, NAME)
    if not folder or _outdated(path, status):
        data = _encode(dict(status, live=os.path.join(folder, NAME) if folder else ""))
        write_atomic(path, [data], durable=False)


def _outdated(path: str, status: Mapping[str, Any]) -> bool:
    try:
        age = time.time() - os.stat(path).st_mtime
    except OSError:
        return True
    if not 0 <= age < _ROOT_EVERY_S:
        return True
    old = _read(path)
    return [old.get(name) for name in ("pid", "health")] != [status.get(name) for name in ("pid", "health")]


def read_status(root: str) -> Dict[str, Any]:
    """Return what the service last told of itself, {} for nothing or what can't be read."""
    status = _read(os.path.join(root, NAME))
    live = status.get("live")
    if isinstance(live, str) and live.startswith("/"):
        return _read(live) or status
    return status


def _read(path: str) -> Dict[str, Any]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            data = file.read(_MOST) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        value = json.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _encode(status: Mapping[str, Any]) -> bytes:
    return json.dumps(status, sort_keys=True).encode("utf-8") + b"\n"


_MODEL_FIELDS = ("release", "wanted", "state", "worker_deaths", "switches", "rollbacks", "last_inference_at")
_MOST_MODELS = 100
_MOST_REASONS = 10


def service_status(root: str) -> Dict[str, Any]:
    """Return {history: {id, newest}, service: a short status, {} where none was written}."""
    identity, number = newest(root)
    return {"history": {"id": identity, "newest": number}, "service": _short_status(read_status(root))}


def _short_status(status: Dict[str, Any]) -> Dict[str, Any]:
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
    short = {name: model.get(name) for name in _MODEL_FIELDS}
    requests, latency = model.get("requests"), model.get("latency")
    if isinstance(requests, dict):
        short["requests"] = {"total": requests.get("total"), "ok": requests.get("ok")}
    if isinstance(latency, dict):
        short["latency"] = {name: latency.get(name) for name in ("p50_ms", "p90_ms", "p99_ms")}
    return short
