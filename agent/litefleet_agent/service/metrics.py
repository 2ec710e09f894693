"""The service's status as Prometheus metrics: over the socket, or as a file for node_exporter's textfile collector."""

import math
import re
import time
from bisect import bisect_left
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from ..findings import Finding
from ..releases.atomic import write_atomic

__all__ = [
    "BUCKETS_S",
    "CONTENT_TYPE",
    "Exposition",
    "Histogram",
    "ModelCounters",
    "ServiceCounters",
    "metrics_text",
    "write_textfile",
]


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_MOST_LABEL = 300  # characters of one value


class Exposition:
    """Collects samples and writes them, each family once, with HELP and TYPE."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: Dict[str, Tuple[str, str, List[str]]] = {}

    def gauge(self, name: str, text: str, value: Any, **labels: str) -> None:
        """Add a value that goes up and down; None, NaN and what is no number are left out."""
        self._add("gauge", name, text, value, labels)

    def counter(self, name: str, text: str, value: Any, **labels: str) -> None:
        """Add a count since the start; `name` ends in _total."""
        self._add("counter", name, text, value, labels)

    def histogram(
        self, name: str, text: str, buckets: Sequence[Sequence[float]], count: Any, total: Any, **labels: str
    ) -> None:
        """Add durations: [[bound, cumulated count], ...], their number and their sum."""
        lines = self._family("histogram", name, text)
        for bound, below in buckets:
            lines.append(_sample("%s_bucket" % name, dict(labels, le=_number(bound) or "0"), below))
        lines.append(_sample("%s_bucket" % name, dict(labels, le="+Inf"), count))
        lines.append(_sample("%s_sum" % name, labels, total))
        lines.append(_sample("%s_count" % name, labels, count))

    def _add(self, kind: str, name: str, text: str, value: Any, labels: Mapping[str, str]) -> None:
        if _number(value) is not None:
            self._family(kind, name, text).append(_sample(name, labels, value))

    def _family(self, kind: str, name: str, text: str) -> List[str]:
        if not _NAME.match(name):
            raise ValueError("no name of a metric: %r" % name)
        return self._families.setdefault(name, (kind, text, []))[2]

    def text(self) -> str:
        """Return everything as one text."""
        parts = []
        for name, (kind, help_text, lines) in self._families.items():
            full = self._prefix + name
            escaped = help_text.replace("\\", "\\\\").replace("\n", "\\n")
            parts.append("# HELP %s %s\n# TYPE %s %s\n" % (full, escaped, full, kind))
            parts.extend("%s%s\n" % (self._prefix, line) for line in lines)
        return "".join(parts)


def _number(value: Any) -> Optional[str]:
    """Return a number as the format writes it, None for what is not one."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else None
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return None


def _sample(name: str, labels: Mapping[str, str], value: Any) -> str:
    written = ",".join('%s="%s"' % (key, _escape(text)) for key, text in labels.items())
    return "%s%s %s" % (name, "{%s}" % written if written else "", _number(value) or "0")


def _escape(text: str) -> str:
    cut = "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:_MOST_LABEL])  # terminals show it too
    return cut.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
        histogram = model[key]
        out.histogram(key + "_seconds", text, histogram["buckets"], histogram["count"], histogram["sum_s"], model=name)
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
    write_atomic(path, [text.encode("utf-8")], 0o644, durable=False, exact_mode=True)


BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WINDOW = 1024  # latest answers that the percentiles are of
_MOST_MODELS = 256
_MOST_CODES = 32
_MOST_PROBLEMS = 20
# Refusals that are given only after the model was found: others carry whatever name a caller made up.
_OF_A_MODEL = ("not-ready", "busy", "bad-input", "too-large")


class Histogram:
    """Durations in fixed buckets for ever, and the latest 1024 of them one by one."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)  # each for itself, not cumulated; the last has no bound
        self.sum_s = 0.0
        self._latest: Deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds
        self._latest.append(seconds)

    def to_dict(self) -> Dict[str, Any]:
        """Return {count, sum_s, buckets: [[bound in s, cumulated count], ...], p50_ms, p90_ms, p99_ms}."""
        summary: Dict[str, Any] = {"count": sum(self.counts), "sum_s": round(self.sum_s, 6), "buckets": []}
        below = 0
        for bound, count in zip(BUCKETS_S, self.counts):  # noqa: B905 - 3.7
            below += count
            summary["buckets"].append([bound, below])
        ordered = sorted(self._latest)
        for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
            seconds = ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
            summary[name] = None if seconds is None else round(seconds * 1e3, 3)
        return summary


class ModelCounters:
    """What was counted of one model since the service started."""

    def __init__(self) -> None:
        self.ok = 0
        self.errors: Dict[str, int] = {}
        self.latency = Histogram()  # of answers: from acceptance to answer
        self.run = Histogram()  # of answers: in the worker alone
        self.switches = self.rollbacks = self.worker_deaths = self.workers_recycled = 0
        self.probes = self.probes_failed = 0
        self.probe_ok: Optional[bool] = None
        self.probe_at = 0.0  # monotonic
        self.probe_findings: List[Finding] = []
        self.reverted_release = ""  # the release that was, until the next switch
        self.revert_findings: List[Finding] = []  # why

    def count_error(self, code: str) -> None:
        """Count a request that got no answer; codes beyond a bound count as "other"."""
        name = code if code in self.errors or len(self.errors) < _MOST_CODES else "other"
        self.errors[name] = self.errors.get(name, 0) + 1


class ServiceCounters:
    """What was counted since the service started; `now` is of the monotonic clock, in seconds."""

    def __init__(self, version: str, now: float) -> None:
        self.version, self.started = version, now
        self.models: Dict[str, ModelCounters] = {}  # "" = requests that named no model that is here
        self.drift: List[Finding] = []
        self.drift_checks = 0
        self.problems: Dict[str, int] = {}  # sentence -> times, the latest last

    def of(self, model: str) -> ModelCounters:
        """Return one model's figures."""
        if model not in self.models and len(self.models) >= _MOST_MODELS:
            model = ""
        return self.models.setdefault(model, ModelCounters())

    def switched(self, model: str, release: str) -> None:
        """A release took over."""
        counters = self.of(model)
        counters.switches += 1
        counters.reverted_release = ""

    def reverted(self, model: str, release: str, findings: Sequence[Finding] = ()) -> None:
        """This release was taken back."""
        counters = self.of(model)
        counters.rollbacks += 1
        counters.reverted_release, counters.revert_findings = release, list(findings)[:20]

    def worker_died(self, model: str) -> None:
        """A worker of the model ended by itself, or had to be ended."""
        self.of(model).worker_deaths += 1

    def worker_recycled(self, model: str) -> None:
        """A worker of the model had grown too large, and was replaced."""
        self.of(model).workers_recycled += 1

    def probed(self, model: str, ok: bool, findings: Sequence[Finding]) -> None:
        """A golden was run just now."""
        counters = self.of(model)
        counters.probes += 1
        counters.probes_failed += not ok
        counters.probe_ok, counters.probe_at, counters.probe_findings = ok, time.monotonic(), list(findings)[:20]

    def answered(self, model: str, code: str, wait_s: float, run_s: float) -> None:
        """A request that was taken in got its answer, code "ok", or an error."""
        counters = self.of(model)
        if code != "ok":
            counters.count_error(code)
            return
        counters.ok += 1
        counters.latency.add(wait_s + run_s)
        counters.run.add(run_s)

    def rejected(self, model: str, code: str) -> None:
        """A request was not taken in; `model` is what the caller wrote."""
        known = model in self.models or code in _OF_A_MODEL
        self.of(model if known else "").count_error(code)

    def set_drift(self, findings: Sequence[Finding]) -> bool:
        """Keep what the latest look at the device found, and say whether it differs from the one before."""
        changed = [(f.code, f.observed) for f in findings] != [(f.code, f.observed) for f in self.drift]
        self.drift = list(findings)[:100]
        self.drift_checks += 1
        return changed

    def problem(self, text: str) -> None:
        """Keep a sentence on what the service itself could not do."""
        times = self.problems.pop(text[:500], 0)
        self.problems[text[:500]] = times + 1
        if len(self.problems) > _MOST_PROBLEMS:
            del self.problems[next(iter(self.problems))]
