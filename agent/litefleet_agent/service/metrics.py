"""Counts what the service does, and writes its status as Prometheus metrics (text format 0.0.4).

The text is served over the socket and written as a file for node_exporter's textfile collector.
"""

import math
import time
from bisect import bisect_left
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from ..findings import Finding
from ..releases.atomic import write_atomic
from .status import DurationSummary, ModelStatus, ServiceStatus

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WINDOW = 1024  # latest durations, of which the percentiles are computed
_MOST_MODELS = 256
_MOST_CODES = 32
_MOST_PROBLEMS = 20
# Errors that are sent only after the model was found; with others the model's name is any text of the client.
_OF_A_MODEL = ("not-ready", "busy", "bad-input", "too-large")


class Histogram:
    """Counts durations in fixed buckets, and keeps the latest 1024 for percentiles."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)  # per bucket, not cumulated; the last has no upper bound
        self.sum_s = 0.0
        self._latest: Deque[float] = deque(maxlen=_WINDOW)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds
        self._latest.append(seconds)

    def summary(self) -> DurationSummary:
        """Return the buckets, sum, count and percentiles so far."""
        buckets, below = [], 0
        for bound, count in zip(BUCKETS_S, self.counts):  # noqa: B905 - 3.7
            below += count
            buckets.append((bound, below))
        ordered = sorted(self._latest)
        p50, p90, p99 = (_percentile_ms(ordered, share) for share in (0.5, 0.9, 0.99))
        return DurationSummary(sum(self.counts), round(self.sum_s, 6), tuple(buckets), p50, p90, p99)


def _percentile_ms(ordered: Sequence[float], share: float) -> Optional[float]:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3, 3)


class ModelCounters:
    """The counters of one model since the service started."""

    def __init__(self) -> None:
        self.ok = 0
        self.errors: Dict[str, int] = {}
        self.latency = Histogram()  # from acceptance to answer
        self.run = Histogram()  # in the worker alone
        self.switches = self.rollbacks = self.worker_deaths = self.workers_recycled = 0
        self.probes = self.probes_failed = 0
        self.probe_ok: Optional[bool] = None
        self.probe_at = 0.0  # monotonic
        self.probe_findings: List[Finding] = []
        self.reverted_release = ""  # the release that the service reverted, until the next switch
        self.revert_findings: List[Finding] = []  # the causes of that

    def count_error(self, code: str) -> None:
        """Count a request that got an error; after 32 different codes, new ones count as "other"."""
        name = code if code in self.errors or len(self.errors) < _MOST_CODES else "other"
        self.errors[name] = self.errors.get(name, 0) + 1


class ServiceCounters:
    """The counters of the service since it started; `now` is on the monotonic clock, in seconds."""

    def __init__(self, version: str, now: float) -> None:
        self.version, self.started = version, now
        self.models: Dict[str, ModelCounters] = {}  # "" = requests for no known model
        self.drift: List[Finding] = []
        self.drift_checks = 0
        self.problems: Dict[str, int] = {}  # sentence -> count, the latest last

    def of(self, model: str) -> ModelCounters:
        """Return the counters of one model; after 256 models, those of "" for further names."""
        if model not in self.models and len(self.models) >= _MOST_MODELS:
            model = ""
        return self.models.setdefault(model, ModelCounters())

    def switched(self, model: str, release: str) -> None:
        """Count a release that became active."""
        counters = self.of(model)
        counters.switches += 1
        counters.reverted_release = ""

    def reverted(self, model: str, release: str, findings: Sequence[Finding] = ()) -> None:
        """Count a release that the service reverted, with the findings that caused it."""
        counters = self.of(model)
        counters.rollbacks += 1
        counters.reverted_release, counters.revert_findings = release, list(findings)[:20]

    def worker_died(self, model: str) -> None:
        """Count a worker of the model that crashed or was killed."""
        self.of(model).worker_deaths += 1

    def worker_recycled(self, model: str) -> None:
        """Count a worker of the model that was replaced because its memory had grown."""
        self.of(model).workers_recycled += 1

    def probed(self, model: str, ok: bool, findings: Sequence[Finding]) -> None:
        """Record the result of a golden run."""
        counters = self.of(model)
        counters.probes += 1
        counters.probes_failed += not ok
        counters.probe_ok, counters.probe_at, counters.probe_findings = ok, time.monotonic(), list(findings)[:20]

    def answered(self, model: str, code: str, wait_s: float, run_s: float) -> None:
        """Count the answer to an accepted request: code "ok", or its error code."""
        counters = self.of(model)
        if code != "ok":
            counters.count_error(code)
            return
        counters.ok += 1
        counters.latency.add(wait_s + run_s)
        counters.run.add(run_s)

    def rejected(self, model: str, code: str) -> None:
        """Count a rejected request; `model` is the name that the client sent."""
        known = model in self.models or code in _OF_A_MODEL
        self.of(model if known else "").count_error(code)

    def set_drift(self, findings: Sequence[Finding]) -> bool:
        """Record the findings of a drift check and return whether they differ from the previous check's."""
        changed = [(f.code, f.observed) for f in findings] != [(f.code, f.observed) for f in self.drift]
        self.drift = list(findings)[:100]
        self.drift_checks += 1
        return changed

    def problem(self, text: str) -> None:
        """Record an operation of the service itself that failed, as a sentence; the latest 20 are kept."""
        times = self.problems.pop(text[:500], 0)
        self.problems[text[:500]] = times + 1
        if len(self.problems) > _MOST_PROBLEMS:
            del self.problems[next(iter(self.problems))]


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST_LABEL = 300  # characters of one value


class Exposition:
    """Collects samples and writes each metric family once, with HELP and TYPE."""

    def __init__(self, prefix: str, texts: Mapping[str, str]) -> None:
        """Prefix every name; `texts` has the HELP text of each metric, and only these can be added (else KeyError)."""
        self._prefix, self._texts = prefix, texts
        self._families: Dict[str, Tuple[str, List[str]]] = {}

    def gauge(self, name: str, value: object, **labels: str) -> None:
        """Add a value that can rise and fall; None, NaN, infinity and values that are not numbers are left out."""
        self._add("gauge", name, value, labels)

    def counter(self, name: str, value: object, **labels: str) -> None:
        """Add a count since the start of the service; `name` ends in _total."""
        self._add("counter", name, value, labels)

    def histogram(self, name: str, durations: DurationSummary, **labels: str) -> None:
        """Add durations in seconds, as buckets, sum and count."""
        lines = self._family("histogram", name)
        for bound, below in durations.buckets:
            lines.append(_sample("%s_bucket" % name, dict(labels, le=_number(bound) or "0"), below))
        lines.append(_sample("%s_bucket" % name, dict(labels, le="+Inf"), durations.total))
        lines.append(_sample("%s_sum" % name, labels, durations.sum_s))
        lines.append(_sample("%s_count" % name, labels, durations.total))

    def _add(self, kind: str, name: str, value: object, labels: Mapping[str, str]) -> None:
        if _number(value) is not None:
            self._family(kind, name).append(_sample(name, labels, value))

    def _family(self, kind: str, name: str) -> List[str]:
        self._texts[name]  # before the first sample, so that an undeclared name never gets into the text
        return self._families.setdefault(name, (kind, []))[1]

    def text(self) -> str:
        """Return all samples as one text."""
        parts = []
        for name, (kind, lines) in self._families.items():
            full = self._prefix + name
            escaped = self._texts[name].replace("\\", "\\\\").replace("\n", "\\n")
            parts.append("# HELP %s %s\n# TYPE %s %s\n" % (full, escaped, full, kind))
            parts.extend("%s%s\n" % (self._prefix, line) for line in lines)
        return "".join(parts)


def _number(value: object) -> Optional[str]:
    """Return a finite number as the format writes it, None for any other value."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else None
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return None


def _sample(name: str, labels: Mapping[str, str], value: object) -> str:
    written = ",".join('%s="%s"' % (key, _escape(text)) for key, text in labels.items())
    return "%s%s %s" % (name, "{%s}" % written if written else "", _number(value) or "0")


def _escape(text: str) -> str:
    cut = "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:_MOST_LABEL])  # terminals show it too
    return cut.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# Every metric of the service with its HELP text; all names begin with litefleet_.
METRICS = {
    "info": "The version of the agent, always 1.",
    "uptime_seconds": "Time since the service started.",
    "resident_bytes": "Memory of the daemon, without workers.",
    "open_fds": "Open files of the daemon.",
    "callers": "Open client connections.",
    "drift_findings": "Changes of the device found by the latest drift check.",
    "drift_looks_total": "Drift checks.",
    "problems": "Failed operations of the service itself, as far as they are kept.",
    "model_as_wanted": "1 if the current release is the active one.",
    "model_since_timestamp_seconds": "When the active release became active.",
    "last_inference_timestamp_seconds": "Time of the latest successful inference.",
    "last_probe_timestamp_seconds": "Time of the latest golden run.",
    "last_probe_ok": "1 if that golden run was correct.",
    "load_seconds": "Time that loading the model took.",
    "queue_length": "Requests that wait.",
    "queue_limit": "Requests that may wait.",
    "workers": "Worker processes.",
    "workers_resident_bytes": "Memory of all workers of the model.",
    "requests_total": "Requests by outcome: ok, or an error code.",
    "latency_seconds": "From a request's acceptance to its answer.",
    "run_seconds": "Run time of a whole batch in the worker alone.",
    "worker_deaths_total": "Workers that ended unexpectedly.",
    "workers_worn_total": "Workers replaced because their memory had grown.",
    "switches_total": "Releases that became active.",
    "rollbacks_total": "Releases that the service reverted.",
    "probes_total": "Golden runs between requests.",
    "probes_failed_total": "Golden runs with wrong outputs.",
    "memory_available_bytes": "Available memory of the device.",
    "memory_total_bytes": "Memory of the device.",
    "load1": "Load average of the device over one minute.",
    "health": "1 for the service's health, 0 for the others.",
    "model_state": "1 for the model's state.",
    "model_release": "The active release, always 1.",
    "temperature_celsius": "Temperature of a thermal zone.",
    "cpu_frequency_hertz": "Clock rate at this moment.",
}
_HEALTH = ("ok", "degraded", "starting", "failed")
_STATES = ("serving", "switching", "warming", "failed", "nothing")


def metrics_text(status: ServiceStatus) -> str:
    """Return a status in Prometheus text format 0.0.4; every name begins with litefleet_."""
    out = Exposition("litefleet_", METRICS)
    _service(out, status)
    for name, model in status.models.items():
        _model(out, name, model)
        _counts(out, name, model)
    for code, count in sorted(status.unknown_model.items()):
        out.counter("requests_total", count, model="", code=code)
    _device(out, status.device)
    return out.text()


def _service(out: Exposition, status: ServiceStatus) -> None:
    for health in _HEALTH:
        out.gauge("health", status.health == health, health=health)
    out.gauge("info", 1, version=status.version)
    out.gauge("uptime_seconds", status.uptime_s)
    out.gauge("resident_bytes", status.rss_bytes)
    out.gauge("open_fds", status.fds)
    out.gauge("callers", status.connections)
    out.gauge("drift_findings", len(status.drift))
    out.counter("drift_looks_total", status.drift_checks)
    problems = sum(status.problems.values())
    out.gauge("problems", problems)


def _model(out: Exposition, name: str, model: ModelStatus) -> None:
    for state in _STATES:
        out.gauge("model_state", model.state == state, model=name, state=state)
    if model.release:
        out.gauge("model_release", 1, model=name, release=model.release)
    as_wanted = bool(model.release) and model.release == model.wanted
    out.gauge("model_as_wanted", as_wanted, model=name)
    out.gauge("model_since_timestamp_seconds", model.since, model=name)
    last = model.last_inference_at
    out.gauge("last_inference_timestamp_seconds", last, model=name)
    out.gauge("last_probe_timestamp_seconds", model.probe.at, model=name)
    out.gauge("last_probe_ok", model.probe.ok, model=name)
    load_s = model.facts.load_ms / 1e3 if model.facts is not None else None
    out.gauge("load_seconds", load_s, model=name)
    out.gauge("queue_length", model.queue.length, model=name)
    out.gauge("queue_limit", model.queue.limit, model=name)
    out.gauge("workers", len(model.workers), model=name)
    resident = sum(worker.rss_bytes for worker in model.workers)
    out.gauge("workers_resident_bytes", resident, model=name)


def _counts(out: Exposition, name: str, model: ModelStatus) -> None:
    out.counter("requests_total", model.requests.ok, model=name, code="ok")
    for code, count in sorted(model.requests.errors.items()):
        out.counter("requests_total", count, model=name, code=code)
    out.histogram("latency_seconds", model.latency, model=name)
    out.histogram("run_seconds", model.run, model=name)
    out.counter("worker_deaths_total", model.worker_deaths, model=name)
    recycled = model.workers_recycled
    out.counter("workers_worn_total", recycled, model=name)
    out.counter("switches_total", model.switches, model=name)
    out.counter("rollbacks_total", model.rollbacks, model=name)
    out.counter("probes_total", model.probe.runs, model=name)
    out.counter("probes_failed_total", model.probe.failed, model=name)


def _device(out: Exposition, device: Mapping[str, Any]) -> None:
    for zone in device.get("temperatures", []):
        labels = {"zone": zone["zone"], "type": zone["type"]}
        out.gauge("temperature_celsius", zone["celsius"], **labels)
    for cpu, rate in device.get("cpu_hz", {}).items():
        out.gauge("cpu_frequency_hertz", rate, cpu=cpu)
    out.gauge("memory_available_bytes", device.get("memory_available_bytes"))
    out.gauge("memory_total_bytes", device.get("memory_total_bytes"))
    out.gauge("load1", device.get("load1"))


def write_textfile(path: str, text: str) -> None:
    """Write metrics where node_exporter reads *.prom files (mode 0644).

    Raises OSError when the file cannot be written.
    """
    write_atomic(path, [text.encode("utf-8")], 0o644, durable=False, exact_mode=True)
