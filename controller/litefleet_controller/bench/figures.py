"""A bench's figures as checked, bounded values.  Figures from a device or from a saved report that do not fit are rejected."""

from __future__ import annotations

from typing import Annotated

from litefleet_agent.bench.results import PairComparison
from litefleet_agent.bench.statistics import sentence
from litefleet_agent.bench.timeseries import COLUMNS
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..devices.outcome import DeviceOutcome, RunReport

_MOST_POINTS = 1024
_LARGEST = 1e15

Number = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False, strict=True)]
Signed = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=0, le=int(_LARGEST), strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Word = Annotated[str, Field(max_length=200)]
Sentence = Annotated[str, Field(max_length=1000)]
ReleaseId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Reported(BaseModel):
    """A value that a device reported; keys that this controller does not know are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Latency(_Reported):
    """Latency percentiles of `runs` runs, in milliseconds."""

    min: Number
    p50: Number
    p90: Number
    p99: Number
    p999: Number
    max: Number
    mean: Number
    runs: Count


class Start(_Reported):
    """One cold start, in milliseconds: the interpreter, Paddle-Lite's import, the model, its first run."""

    total_ms: Number
    process_ms: Number
    import_ms: Number
    load_ms: Number
    first_run_ms: Number
    read_bytes: Count = 0  # from storage


class Starts(_Reported):
    """The first start (with the files dropped from the page cache where the device permits it), and the later ones."""

    first: Start | None = None
    again: Annotated[tuple[Start, ...], Field(max_length=16)] = ()


class MemoryUse(_Reported):
    """Resident bytes of one process at the steps of its start and at its end; None where the kernel does not report it."""

    before_import: Count | None = None
    after_import: Count | None = None
    after_load: Count | None = None
    after_first_run: Count | None = None
    rss: Count | None = None
    peak: Count | None = None
    pss: Count | None = None
    threads: Count | None = None


class Growth(_Reported):
    """Growth of resident memory in bytes, computed from the second half of the time."""

    per_1000_runs: Signed | None = None
    per_hour: Signed | None = None


class Heat(_Reported):
    """The CPU's temperature in degrees Celsius, and its rise in degrees per minute."""

    first: Signed | None = None
    last: Signed | None = None
    highest: Signed | None = None
    per_minute: Signed | None = None


Column = Annotated[tuple[Signed | None, ...], Field(max_length=_MOST_POINTS)]


class ReleaseFigures(_Reported):
    """One release on one device; `right` (outputs match the goldens) is None when the measurement did not complete."""

    release: ReleaseId
    right: bool | None = None
    cases: Count = 0
    cases_left_out: Count = 0
    runtime_version: Word = ""
    numpy_version: Word = ""
    threads_set_by: Word = ""
    engine: Word = ""  # "binding" or "native"; older agents do not say
    cold: Starts = Starts()
    warm: Latency | None = None
    whole: Latency | None = None  # including setting inputs and copying outputs
    runs_per_s: Number | None = None
    cores: Number | None = None  # number of CPUs that the runs kept busy
    others: Share | None = None  # share of all CPUs that other programs used
    memory: MemoryUse = MemoryUse()
    growth: Growth = Growth()
    heat: Heat = Heat()
    series: dict[str, Column] = Field(default_factory=dict)  # COLUMNS, of equal length

    @field_validator("warm", "whole", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return value or None  # agents send {} for "not measured"

    @field_validator("series")
    @classmethod
    def _columns(cls, columns: dict[str, Column]) -> dict[str, Column]:
        known = {name: columns[name] for name in COLUMNS if name in columns}
        if len({len(column) for column in known.values()}) > 1 or (known and None in known.get("t", (None,))):
            raise ValueError("the columns of the series have different lengths, or a time is missing")
        return known

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return the (seconds, value) pairs of a column, without the points that were not measured."""
        pairs = zip(self.series.get("t", ()), self.series.get(name, ()), strict=False)
        return [(t, value) for t, value in pairs if t is not None and value is not None]


class WorkerP50(_Reported):
    """The p50 of the fastest and of the slowest worker, in milliseconds."""

    fastest: Number
    slowest: Number


class Cell(_Reported):
    """One cell of the throughput matrix: several processes at once; `skipped` is the reason where there are no figures."""

    release: ReleaseId
    workers: Annotated[int, Field(ge=1, le=1024, strict=True)]
    threads: Annotated[int, Field(ge=0, le=1024, strict=True)]  # 0: as the release has it
    skipped: Sentence = ""
    runs_per_s: Number | None = None
    cores: Number | None = None
    latency: Latency | None = None
    worker_p50: WorkerP50 | None = None
    rss_bytes: Count | None = None  # of the largest worker
    pss_bytes: Count | None = None  # of all together


class Comparison(_Reported):
    """The second release against the first: ratio of latencies, with its 95 % interval where there are enough pairs."""

    ratio: Number
    low: Number | None
    high: Number | None
    difference_ms: Signed
    pairs: Count

    def sentence(self, first: str, second: str) -> str:
        """Describe how the release named `second` compares with `first`."""
        return sentence(PairComparison(**self.model_dump()), first, second)


class BenchFigures(_Reported):
    """One model's bench on one device."""

    model: Word
    seconds: Number
    took_s: Number = 0.0
    low_priority: bool = False
    cpus: Count = 0
    releases: Annotated[tuple[ReleaseFigures, ...], Field(max_length=2)] = ()
    comparison: Comparison | None = None
    cells: Annotated[tuple[Cell, ...], Field(max_length=64)] = ()
    notes: Annotated[tuple[Sentence, ...], Field(max_length=32)] = ()

    @field_validator("comparison", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return value or None  # agents send {} for "not measured"

    @property
    def first(self) -> ReleaseFigures | None:
        """The first measured release; None when nothing was measured."""
        return self.releases[0] if self.releases else None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return self.model_dump(mode="json")


def benches_of(report: RunReport) -> list[tuple[DeviceOutcome, BenchFigures]]:
    """Return the outcomes of a report that hold figures, with them, in the inventory's order."""
    return [(outcome, figures) for outcome in report.outcomes if (figures := figures_of(outcome)) is not None]


def figures_of(outcome: DeviceOutcome) -> BenchFigures | None:
    """Return the bench in an outcome's measurements; None where it is missing or cannot be read."""
    try:
        return BenchFigures.model_validate(outcome.measurements["bench"])
    except (KeyError, ValidationError):
        return None
