"""The service's status as Prometheus metrics: over the socket, or as a file for node_exporter's textfile collector."""

from typing import Any, Mapping

from .exposition import Exposition
from .statusfile import replace_file

__all__ = ["metrics_text", "write_textfile"]

_HEALTH = ("ok", "degraded", "starting", "failed")
_STATES = ("serving", "switching", "warming", "failed", "nothing")


def metrics_text(status: Mapping[str, Any]) -> str:
    """Return a status (`status_dict`) in text format 0.0.4."""
    out = Exposition("litefleet_")
    _service(out, status)
    for name, model in status["models"].items():
        _model(out, name, model)
        _counts(out, name, model)
    for code, count in sorted(status["unknown_model"].items()):
        out.counter("requests_total", _REQUESTS, count, model="", code=code)
    _device(out, status["device"])
    return out.text()


_REQUESTS = "Requests by outcome: ok, or an error code."


def _service(out: Exposition, status: Mapping[str, Any]) -> None:
    for health in _HEALTH:
        out.gauge("health", "1 for the service's health, 0 for the others.", status["health"] == health, health=health)
    out.gauge("info", "Which agent runs, always 1.", 1, version=status["version"])
    out.gauge("uptime_seconds", "Since the service started.", status["uptime_s"])
    out.gauge("resident_bytes", "Memory of the daemon, without workers.", status["rss_bytes"])
    out.gauge("open_fds", "Open files of the daemon.", status["fds"])
    out.gauge("callers", "Connections of callers.", status["callers"])
    out.gauge("drift_findings", "What the latest look found changed on the device.", len(status["drift"]))
    out.counter("drift_looks_total", "Looks for drift.", status["drift_looks"])
    problems = sum(problem["times"] for problem in status["problems"])
    out.gauge("problems", "Things that the service itself could not do, as far as they are kept.", problems)


def _model(out: Exposition, name: str, model: Mapping[str, Any]) -> None:
    for state in _STATES:
        out.gauge("model_state", "1 for the model's state.", model["state"] == state, model=name, state=state)
    if model["release"]:
        out.gauge("model_release", "The release that is served, always 1.", 1, model=name, release=model["release"])
    as_wanted = bool(model["release"]) and model["release"] == model["wanted"]
    out.gauge("model_as_wanted", "Whether the current release is what is served.", as_wanted, model=name)
    out.gauge("model_since_timestamp_seconds", "When it took over.", model["since"], model=name)
    out.gauge("last_inference_timestamp_seconds", "When one last worked.", model["last_inference_at"], model=name)
    out.gauge("last_probe_timestamp_seconds", "When a golden was last run.", model["probe"]["at"], model=name)
    out.gauge("last_probe_ok", "Whether that golden came out right.", model["probe"]["ok"], model=name)
    out.gauge("load_seconds", "How long loading took.", _seconds(model["facts"].get("load_ms")), model=name)
    out.gauge("queue_length", "Requests that wait.", model["queue"]["length"], model=name)
    out.gauge("queue_limit", "Requests that may wait.", model["queue"]["limit"], model=name)
    out.gauge("workers", "Worker processes.", len(model["workers"]), model=name)
    resident = sum(worker["rss_bytes"] or 0 for worker in model["workers"])
    out.gauge("workers_resident_bytes", "Memory of the workers together.", resident, model=name)


def _counts(out: Exposition, name: str, model: Mapping[str, Any]) -> None:
    out.counter("requests_total", _REQUESTS, model["requests"]["ok"], model=name, code="ok")
    for code, count in sorted(model["requests"]["errors"].items()):
        out.counter("requests_total", _REQUESTS, count, model=name, code=code)
    for key, text in (
        ("latency", "From a request's acceptance to its answer."),
        ("run", "In the worker alone, of a whole batch."),
    ):
        told = model[key]
        out.histogram(key + "_seconds", text, told["buckets"], told["count"], told["sum_s"], model=name)
    out.counter("worker_deaths_total", "Workers that ended by themselves.", model["worker_deaths"], model=name)
    out.counter("workers_worn_total", "Workers replaced because they had grown.", model["workers_worn"], model=name)
    out.counter("switches_total", "Releases that took over.", model["switches"], model=name)
    out.counter("rollbacks_total", "Releases that the service took back.", model["rollbacks"], model=name)
    out.counter("probes_total", "Goldens run between requests.", model["probe"]["runs"], model=name)
    out.counter("probes_failed_total", "Those that came out wrong.", model["probe"]["failed"], model=name)


def _device(out: Exposition, device: Mapping[str, Any]) -> None:
    for zone in device.get("temperatures", []):
        labels = {"zone": zone["zone"], "type": zone["type"]}
        out.gauge("temperature_celsius", "Of a thermal zone.", zone["celsius"], **labels)
    for cpu, rate in device.get("cpu_hz", {}).items():
        out.gauge("cpu_frequency_hertz", "Clock rate at this moment.", rate, cpu=cpu)
    out.gauge("memory_available_bytes", "Of the device.", device.get("memory_available_bytes"))
    out.gauge("memory_total_bytes", "Of the device.", device.get("memory_total_bytes"))
    out.gauge("load1", "Processes that wanted to run, over the last minute.", device.get("load1"))


def _seconds(value: Any) -> Any:
    return value / 1e3 if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def write_textfile(path: str, text: str) -> None:
    """Write metrics where node_exporter looks for *.prom files (mode 0644); OSError when it can't be written."""
    replace_file(path, text.encode("utf-8"), 0o644)
