"""A bench's figures as values, checked and bounded: whatever a device or a kept report says is one of these, or refused."""

from __future__ import annotations

from typing import Annotated, Any

from litefleet_agent.bench.results import PairComparison
from litefleet_agent.bench.statistics import sentence
from litefleet_agent.bench.timeseries import COLUMNS
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..devices.outcome import DeviceOutcome

__all__ = [
    "BenchFigures",
    "Cell",
    "Comparison",
    "Growth",
    "Heat",
    "Latency",
    "MemoryUse",
    "ReleaseFigures",
    "Start",
    "Starts",
    "figures_of",
]

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
    """What a device told; keys that this controller does not know are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Latency(_Reported):
    """Milliseconds; of `runs` runs."""

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
    """The first start, with files dropped from memory where that went, and those after it."""

    first: Start | None = None
    again: Annotated[tuple[Start, ...], Field(max_length=16)] = ()


class MemoryUse(_Reported):
    """Resident bytes of one process at the steps of its start and at its end; None where the kernel does not tell."""

    before_import: Count | None = None
    after_import: Count | None = None
    after_load: Count | None = None
    after_first_run: Count | None = None
    rss: Count | None = None
    peak: Count | None = None
    pss: Count | None = None
    threads: Count | None = None


class Growth(_Reported):
    """Bytes by which resident memory grew, by the second half of the time."""

    per_1000_runs: Signed | None = None
    per_hour: Signed | None = None


class Heat(_Reported):
    """The CPU's temperature in degrees Celsius, and how it rose."""

    first: Signed | None = None
    last: Signed | None = None
    highest: Signed | None = None
    per_minute: Signed | None = None


Column = Annotated[tuple[Signed | None, ...], Field(max_length=_MOST_POINTS)]


class ReleaseFigures(_Reported):
    """One release on one device; `right` is None when it was not measured to the end."""

    release: ReleaseId
    right: bool | None = None
    cases: Count = 0
    cases_left_out: Count = 0
    runtime_version: Word = ""
    numpy_version: Word = ""
    threads_set_by: Word = ""
    cold: Starts = Starts()
    warm: Latency | None = None
    whole: Latency | None = None  # with inputs set and outputs copied
    runs_per_s: Number | None = None
    cores: Number | None = None  # CPUs that the runs kept busy
    others: Share | None = None  # of all CPUs, by other programs
    memory: MemoryUse = MemoryUse()
    growth: Growth = Growth()
    heat: Heat = Heat()
    series: dict[str, Column] = Field(default_factory=dict)  # COLUMNS, of equal length

    @field_validator("warm", "whole", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return value or None

    @field_validator("series")
    @classmethod
    def _columns(cls, columns: dict[str, Column]) -> dict[str, Column]:
        known = {name: columns[name] for name in COLUMNS if name in columns}
        if len({len(column) for column in known.values()}) > 1 or (known and None in known.get("t", (None,))):
            raise ValueError("the columns do not belong together")
        return known

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return the (seconds, value) of a column where it was seen."""
        pairs = zip(self.series.get("t", ()), self.series.get(name, ()), strict=False)
        return [(t, value) for t, value in pairs if t is not None and value is not None]


class WorkerP50(_Reported):
    """The p50 of the fastest and of the slowest worker, in milliseconds."""

    fastest: Number
    slowest: Number


class Cell(_Reported):
    """Several processes at once; `skipped` says why there are no figures."""

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
    """The second release against the first: ratio of latencies, with its 95 % interval where there are pairs enough."""

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
    def _empty(cls, value: Any) -> Any:
        return value or None

    @property
    def first(self) -> ReleaseFigures | None:
        """The release that was measured; None when nothing was."""
        return self.releases[0] if self.releases else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self.model_dump(mode="json")


def figures_of(outcome: DeviceOutcome) -> BenchFigures | None:
    """Return the bench in an outcome's measurements, None where there is none that can be read."""
    try:
        return BenchFigures.model_validate(outcome.measurements["bench"])
    except (KeyError, ValidationError):
        return None
