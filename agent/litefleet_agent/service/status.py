"""The values of the service's status, as `status` and `health` report it and status.json holds it (`schema` 1).

`health` is "ok", "degraded" (a fault, but every wanted model is served), "starting" (a model is loading for the first time)
or "failed" (a wanted model is not served).  `reasons` explain every health but "ok".
Times are seconds since 1970 on the device's clock, None for never.  Each `to_dict` returns the JSON form.  Pure.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..findings import Finding
from ..formats.engine_settings import SettingReport
from ..verification.confinement import ConfinementReport

SCHEMA = 1
GRAVEST_FIRST = ("failed", "starting", "degraded", "ok")
_MOST_HEALTH_REASONS = 20
_MOST_FINDINGS = 20
_MOST_TEXT = 1000  # characters of one reason


class Reason(NamedTuple):
    """One reason why the health is not "ok"; `model` is "" for the service as a whole."""

    health: str
    model: str
    text: str
    finding: Optional[Finding] = None

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form; without a finding the key is missing."""
        result: Dict[str, object] = {"health": self.health, "model": self.model, "text": self.text[:_MOST_TEXT]}
        if self.finding is not None:
            result["finding"] = self.finding.to_dict()
        return result


class WorkerFacts(NamedTuple):
    """The facts that a worker reports once it is ready."""

    load_ms: float  # for loading the model
    runtime_version: str
    numpy_version: str
    threads_set_by: str  # "config", "environment" or ""
    power_mode: str  # as set, "" where the runtime has none
    batches: bool  # requests may run together along the first dimension
    golden: Mapping[str, object]  # {cases, outputs}: the largest differences from the goldens
    sandbox: Optional[ConfinementReport] = None  # how its process is confined; None when it did not report that
    settings: Tuple[SettingReport, ...] = ()  # what came of each setting that was asked for

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form, which leaves `golden` out (it is as long as the model has outputs), a missing `sandbox`, and
        `settings` where none was asked for.
        """
        left_out = ("golden", "sandbox", "settings")
        facts = {name: value for name, value in self._asdict().items() if name not in left_out}
        if self.settings:
            facts["settings"] = [report.to_dict() for report in self.settings]
        return facts if self.sandbox is None else dict(facts, sandbox=self.sandbox.to_dict())


class WorkerStatus(NamedTuple):
    """One worker process."""

    pid: int  # 0 = it could not be started
    state: str  # a value of workers.handle.State
    runs: int
    loads: int  # of the model; more than one for several input sizes
    rss_bytes: int  # resident; 0 = the process ended


class DurationSummary(NamedTuple):
    """Durations since the start of the service; the percentiles are of the latest 1024, None without any."""

    total: int  # number of durations
    sum_s: float
    buckets: Tuple[Tuple[float, int], ...]  # (upper bound in seconds, cumulated count)
    p50_ms: Optional[float]
    p90_ms: Optional[float]
    p99_ms: Optional[float]

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        result: Dict[str, object] = dict(self._asdict(), buckets=[list(bucket) for bucket in self.buckets])
        result["count"] = result.pop("total")
        return result


class QueueStatus(NamedTuple):
    """The requests of one model that wait for a worker."""

    length: int
    limit: int
    rejected: int  # since the start, because the queue was full


class RequestCounts(NamedTuple):
    """The requests of one model since the start; `errors` counts by error code."""

    total: int
    ok: int
    errors: Mapping[str, int]


class ProbeStatus(NamedTuple):
    """The golden runs between requests; `ok` is the result of the latest, None before the first."""

    at: Optional[float]
    ok: Optional[bool]
    runs: int
    failed: int


class ModelStatus(NamedTuple):
    """One model: its releases, workers, queue and counters."""

    release: str  # that serves; "" = none
    wanted: str  # that is current on disk; "" = none
    state: str  # "serving", "switching", "warming", "failed" or "nothing"
    since: Optional[float]  # when the active release became active
    workers: Tuple[WorkerStatus, ...]
    incoming: str  # the release that is loading; "" = none
    before: str  # the fallback release, still loaded; "" = none
    facts: Optional[WorkerFacts]  # None while no release is active
    queue: QueueStatus
    requests: RequestCounts
    latency: DurationSummary  # from acceptance to answer
    run: DurationSummary  # in the worker alone
    worker_deaths: int
    workers_recycled: int
    switches: int
    rollbacks: int
    last_inference_at: Optional[float]
    probe: ProbeStatus
    findings: Tuple[Finding, ...]  # why the wanted release is not served

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        result: Dict[str, object] = dict(
            self._asdict(),
            workers=[worker._asdict() for worker in self.workers],
            facts=self.facts.to_dict() if self.facts is not None else {},
            queue=self.queue._asdict(),
            requests=dict(self.requests._asdict(), errors=dict(self.requests.errors)),
            latency=self.latency.to_dict(),
            run=self.run.to_dict(),
            probe=self.probe._asdict(),
            findings=[f.to_dict() for f in self.findings[:_MOST_FINDINGS]],
        )
        result["workers_worn"] = result.pop("workers_recycled")  # the key that controllers and dashboards read
        return result


class ServiceStatus(NamedTuple):
    """The whole status of the service at one moment."""

    at: float
    health: str
    reasons: Tuple[Reason, ...]
    pid: int
    version: str  # of the agent: the SHA-256 of its archive, "" from a source checkout
    uptime_s: float
    rss_bytes: int  # of the daemon, without workers
    fds: int  # open files of the daemon
    connections: int
    models: Mapping[str, ModelStatus]
    unknown_model: Mapping[str, int]  # requests that name no model of this device, by error code
    drift: Tuple[Finding, ...]
    drift_checks: int
    problems: Mapping[str, int]  # operations of the service that failed: sentence -> count
    device: Mapping[str, Any]  # as `facts.sensors.sensors` returns it

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "at": self.at,
            "health": self.health,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "pid": self.pid,
            "version": self.version,
            "uptime_s": self.uptime_s,
            "rss_bytes": self.rss_bytes,
            "fds": self.fds,
            "callers": self.connections,
            "models": {name: model.to_dict() for name, model in self.models.items()},
            "unknown_model": dict(self.unknown_model),
            "drift": [f.to_dict() for f in self.drift],
            "drift_looks": self.drift_checks,
            "problems": [{"text": text, "times": times} for text, times in self.problems.items()],
            "device": dict(self.device),
        }

    def health_dict(self) -> Dict[str, object]:
        """Return the short form: {schema, at, health, reasons: [sentence], models: {name: {release, state}}}."""
        reasons: List[str] = [reason.text[:_MOST_TEXT] for reason in self.reasons[:_MOST_HEALTH_REASONS]]
        return {
            "schema": SCHEMA,
            "at": self.at,
            "health": self.health,
            "reasons": reasons,
            "models": {name: {"release": m.release, "state": m.state} for name, m in self.models.items()},
        }

    def stopped(self) -> "ServiceStatus":
        """Return this status as that of a service that was stopped."""
        return self._replace(health="failed", reasons=(Reason("failed", "", "the service was stopped"),))
