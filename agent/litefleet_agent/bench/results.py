"""The results of a bench as values; `to_dict` returns the JSON form, which docs/bench.md explains.  Pure.

Latencies are milliseconds, memory is bytes, temperatures are degrees Celsius.
"""

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..findings import Finding

Columns = Dict[str, List[Optional[float]]]  # lists of equal length by name (timeseries.COLUMNS); None = not measured


class Latencies(NamedTuple):
    """The latencies of `runs` runs, in milliseconds."""

    min: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean: float
    runs: int

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form, rounded to 0.1 microseconds."""
        return {name: round(value, 4) if name != "runs" else value for name, value in self._asdict().items()}


class StartReport(NamedTuple):
    """The report of a measured process on its start; the durations are in milliseconds."""

    begun: float  # monotonic time in seconds at which its interpreter ran
    import_ms: float
    load_ms: float
    first_run_ms: float
    read_bytes: int  # from storage; 0 where the kernel does not count
    rss: Mapping[str, int]  # {before_import, after_import, after_load, after_first_run}
    runtime_version: str
    numpy_version: str
    threads_set_by: str
    process_ms: float = 0.0  # from the call that started it until its interpreter ran
    engine: str = ""  # "binding" or "native"

    @property
    def total_ms(self) -> float:
        """The time from the start to the first outputs."""
        return round(self.process_ms + self.import_ms + self.load_ms + self.first_run_ms, 3)

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form of a cold start."""
        names = ("process_ms", "import_ms", "load_ms", "first_run_ms", "read_bytes")
        return dict({name: getattr(self, name) for name in names}, total_ms=self.total_ms)


class Growth(NamedTuple):
    """The growth of resident memory, in bytes; `per_hour` is None for less than half a minute."""

    per_1000_runs: float
    per_hour: Optional[float] = None

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form, without what is None."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Heat(NamedTuple):
    """The temperature of the CPU, in degrees Celsius."""

    first: float
    last: float
    highest: float
    per_minute: float


class OverTime(NamedTuple):
    """The measurements of one process over time."""

    warm: Latencies  # of the model alone
    whole: Latencies  # with inputs set and outputs copied
    runs_per_s: float
    cores: float  # CPUs that the process kept busy
    others: Optional[float]  # share of all CPUs' time used by other programs, 0 to 1; None = unknown
    growth: Optional[Growth]
    heat: Optional[Heat]
    series: Columns

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return {
            "warm": self.warm.to_dict(),
            "whole": self.whole.to_dict(),
            "runs_per_s": self.runs_per_s,
            "cores": self.cores,
            "others": self.others,
            "growth": self.growth.to_dict() if self.growth is not None else {},
            "heat": self.heat._asdict() if self.heat is not None else {},
            "series": self.series,
        }


class ReleaseResult(NamedTuple):
    """The measurements of one release; `right` is None when they were not completed."""

    release: str
    right: Optional[bool]  # whether its outputs match its goldens before and after
    cases: int
    cases_left_out: int
    starts: Tuple[StartReport, ...]  # cold starts, the first from storage
    memory: Mapping[str, int]  # {rss, peak, pss, threads} of the process at its end, and `rss` of its start
    over_time: Optional[OverTime]
    proven_by: str = ""  # the engine of its proof, with which it is served; "" = unknown

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form; without runs, the keys of `over_time` are missing."""
        starts = [start.to_dict() for start in self.starts]
        last = self.starts[-1] if self.starts else None
        result: Dict[str, object] = {
            "release": self.release,
            "right": self.right,
            "cases": self.cases,
            "cases_left_out": self.cases_left_out,
            "runtime_version": last.runtime_version if last else "",
            "numpy_version": last.numpy_version if last else "",
            "threads_set_by": last.threads_set_by if last else "",
            "engine": last.engine if last else "",
            "cold": {"first": starts[0], "again": starts[1:]} if starts else {},
            "memory": dict(self.memory),
        }
        result.update(self.over_time.to_dict() if self.over_time is not None else {})
        return result


class CellFigures(NamedTuple):
    """The measurements of several processes of one release at once."""

    seconds: float
    runs: int
    runs_per_s: float
    cores: float
    latency: Latencies
    fastest_p50: float  # of the fastest process
    slowest_p50: float
    rss_bytes: int  # of the largest process
    pss_bytes: Optional[int]  # of all processes; None where the kernel does not report it

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        result: Dict[str, object] = dict(self._asdict(), latency=self.latency.to_dict())
        result["worker_p50"] = {"fastest": result.pop("fastest_p50"), "slowest": result.pop("slowest_p50")}
        return result


class Cell(NamedTuple):
    """One pair of workers and threads; `skipped` says why it has no (complete) figures."""

    release: str
    workers: int
    threads: int  # 0 = as the release has it
    figures: Optional[CellFigures] = None
    skipped: str = ""

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form; without a reason, `skipped` is missing."""
        result: Dict[str, object] = {"release": self.release, "workers": self.workers, "threads": self.threads}
        result.update(self.figures.to_dict() if self.figures is not None else {})
        if self.skipped:
            result["skipped"] = self.skipped
        return result


class PairComparison(NamedTuple):
    """The latency of a second release against a first, by pairs measured in turn."""

    ratio: float  # median of second / first
    low: Optional[float]  # `low` to `high` holds the ratio with 95 % confidence; None for fewer than 6 pairs
    high: Optional[float]
    difference_ms: float
    pairs: int


class BenchResult(NamedTuple):
    """The result of one bench."""

    model: str
    took_s: float
    verdict: str  # "verified" or "failed", by the findings
    findings: Tuple[Finding, ...]
    seconds: float  # that were asked for
    low_priority: bool
    cpus: int
    releases: Tuple[ReleaseResult, ...]
    comparison: Optional[PairComparison]  # of the second release with the first
    cells: Tuple[Cell, ...]
    notes: Tuple[str, ...]  # caveats, as sentences

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return dict(
            self._asdict(),
            findings=[found.to_dict() for found in self.findings],
            releases=[release.to_dict() for release in self.releases],
            comparison=self.comparison._asdict() if self.comparison is not None else {},
            cells=[cell.to_dict() for cell in self.cells],
            notes=list(self.notes),
        )
