"""Counters of the service: what was asked, answered and refused, how long it took, what became of releases and workers.  Pure."""

import time
from bisect import bisect_left
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Sequence

from ..findings import Finding

__all__ = ["BUCKETS_S", "Histogram", "ModelFigures", "ServiceFigures"]

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
        told: Dict[str, Any] = {"count": sum(self.counts), "sum_s": round(self.sum_s, 6), "buckets": []}
        below = 0
        for bound, count in zip(BUCKETS_S, self.counts):  # noqa: B905 - 3.7
            below += count
            told["buckets"].append([bound, below])
        ordered = sorted(self._latest)
        for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
            seconds = ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
            told[name] = None if seconds is None else round(seconds * 1e3, 3)
        return told


class ModelFigures:
    """What was counted of one model since the service started."""

    def __init__(self) -> None:
        self.ok = 0
        self.errors: Dict[str, int] = {}
        self.latency = Histogram()  # of answers: from acceptance to answer
        self.run = Histogram()  # of answers: in the worker alone
        self.switches = self.rollbacks = self.worker_deaths = self.workers_worn = 0
        self.probes = self.probes_failed = 0
        self.probe_ok: Optional[bool] = None
        self.probe_at = 0.0  # monotonic
        self.probe_findings: List[Finding] = []
        self.taken_back = ""  # the release that was, until the next switch
        self.back_findings: List[Finding] = []  # why

    def count_error(self, code: str) -> None:
        """Count a request that got no answer; codes beyond a bound count as "other"."""
        name = code if code in self.errors or len(self.errors) < _MOST_CODES else "other"
        self.errors[name] = self.errors.get(name, 0) + 1


class ServiceFigures:
    """What was counted since the service started; `now` is of the monotonic clock, in seconds."""

    def __init__(self, version: str, now: float) -> None:
        self.version, self.started = version, now
        self.models: Dict[str, ModelFigures] = {}  # "" = requests that named no model that is here
        self.drift: List[Finding] = []
        self.drift_looks = 0
        self.problems: Dict[str, int] = {}  # sentence -> times, the latest last

    def of(self, model: str) -> ModelFigures:
        """Return one model's figures."""
        if model not in self.models and len(self.models) >= _MOST_MODELS:
            model = ""
        return self.models.setdefault(model, ModelFigures())

    def switched(self, model: str, release: str) -> None:
        """A release took over."""
        figures = self.of(model)
        figures.switches += 1
        figures.taken_back = ""

    def went_back(self, model: str, release: str, findings: Sequence[Finding] = ()) -> None:
        """This release was taken back."""
        figures = self.of(model)
        figures.rollbacks += 1
        figures.taken_back, figures.back_findings = release, list(findings)[:20]

    def worker_died(self, model: str) -> None:
        """A worker of the model ended by itself, or had to be ended."""
        self.of(model).worker_deaths += 1

    def worker_worn(self, model: str) -> None:
        """A worker of the model had grown too large, and was replaced."""
        self.of(model).workers_worn += 1

    def probed(self, model: str, ok: bool, findings: Sequence[Finding]) -> None:
        """A golden was run just now."""
        figures = self.of(model)
        figures.probes += 1
        figures.probes_failed += not ok
        figures.probe_ok, figures.probe_at, figures.probe_findings = ok, time.monotonic(), list(findings)[:20]

    def answered(self, model: str, code: str, wait_s: float, run_s: float) -> None:
        """A request that was taken in got its answer, code "ok", or an error."""
        figures = self.of(model)
        if code != "ok":
            figures.count_error(code)
            return
        figures.ok += 1
        figures.latency.add(wait_s + run_s)
        figures.run.add(run_s)

    def refused(self, model: str, code: str) -> None:
        """A request was not taken in; `model` is what the caller wrote."""
        known = model in self.models or code in _OF_A_MODEL
        self.of(model if known else "").count_error(code)

    def set_drift(self, findings: Sequence[Finding]) -> bool:
        """Keep what the latest look at the device found, and say whether it differs from the one before."""
        changed = [(f.code, f.seen) for f in findings] != [(f.code, f.seen) for f in self.drift]
        self.drift = list(findings)[:100]
        self.drift_looks += 1
        return changed

    def problem(self, text: str) -> None:
        """Keep a sentence on what the service itself could not do."""
        times = self.problems.pop(text[:500], 0)
        self.problems[text[:500]] = times + 1
        if len(self.problems) > _MOST_PROBLEMS:
            del self.problems[next(iter(self.problems))]
