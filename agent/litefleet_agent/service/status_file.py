"""status.json: writes the service's status for readers that do not ask over the socket, and reads it for a session.

$RUNTIME_DIRECTORY/status.json (0644, in memory) is written every time.  <root>/status.json (0600) is for a controller's
session, which does not know that folder: it is written when the health changes and every five minutes, to spare the flash,
and names the other file.  Neither is synced: the service writes a lost one again in seconds.
"""

import json
import os
import stat
import time
from typing import Dict, Mapping

from ..releases.atomic import write_atomic
from .history import newest

NAME = "status.json"
_ROOT_EVERY_S = 300.0
_MOST = 4 << 20  # bytes


def write_status(root: str, environ: Mapping[str, str], status: Mapping[str, object]) -> None:
    """Write the status (JSON form) to its two places.  Raises OSError when one cannot be written."""
    folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if folder:
        write_atomic(os.path.join(folder, NAME), [_encode(status)], 0o644, durable=False, exact_mode=True)
    path = os.path.join(root, NAME)
    if not folder or _outdated(path, status):
        data = _encode(dict(status, live=os.path.join(folder, NAME) if folder else ""))
        write_atomic(path, [data], durable=False)


def _outdated(path: str, status: Mapping[str, object]) -> bool:
    try:
        age = time.time() - os.stat(path).st_mtime
    except OSError:
        return True
    if not 0 <= age < _ROOT_EVERY_S:
        return True
    old = _read(path)
    return [old.get(name) for name in ("pid", "health")] != [status.get(name) for name in ("pid", "health")]


def read_status(root: str) -> Dict[str, object]:
    """Return the status that the service wrote last, {} when none exists or it cannot be read."""
    status = _read(os.path.join(root, NAME))
    live = status.get("live")
    if isinstance(live, str) and live.startswith("/"):
        return _read(live) or status
    return status


def _read(path: str) -> Dict[str, object]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            data = file.read(_MOST) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        value = json.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _encode(status: Mapping[str, object]) -> bytes:
    return json.dumps(status, sort_keys=True).encode("utf-8") + b"\n"


_MODEL_FIELDS = ("release", "wanted", "state", "worker_deaths", "switches", "rollbacks", "last_inference_at")
_MOST_MODELS = 100
_MOST_REASONS = 10


def service_status(root: str) -> Dict[str, object]:
    """Return {history: {id, newest}, service: the short status, {} where none exists}."""
    identity, number = newest(root)
    return {"history": {"id": identity, "newest": number}, "service": _short_status(read_status(root))}


def _short_status(status: Mapping[str, object]) -> Dict[str, object]:
    """Return the part of a status that a controller keeps: health, reasons, and some figures of each model."""
    if status.get("schema") != 1:
        return {}
    models, reasons, drift = status.get("models"), status.get("reasons"), status.get("drift")
    texts = [str(r.get("text"))[:500] for r in reasons if isinstance(r, dict)] if isinstance(reasons, list) else []
    by_name = sorted(models.items())[:_MOST_MODELS] if isinstance(models, dict) else []
    return {
        "schema": 1,
        "at": status.get("at"),
        "health": status.get("health"),
        "uptime_s": status.get("uptime_s"),
        "reasons": texts[:_MOST_REASONS],
        "drift": len(drift) if isinstance(drift, list) else 0,
        "models": {str(name)[:128]: _short_model(model) for name, model in by_name if isinstance(model, dict)},
    }


def _short_model(model: Mapping[str, object]) -> Dict[str, object]:
    short = {name: model.get(name) for name in _MODEL_FIELDS}
    requests, latency = model.get("requests"), model.get("latency")
    if isinstance(requests, dict):
        short["requests"] = {"total": requests.get("total"), "ok": requests.get("ok")}
    if isinstance(latency, dict):
        short["latency"] = {name: latency.get(name) for name in ("p50_ms", "p90_ms", "p99_ms")}
    return short
