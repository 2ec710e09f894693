"""Formats the result of a bench for a terminal on the device, and states its caveats.  Pure."""

from typing import Dict, Iterator, List, Optional, Sequence

from ..verification.engine import ENGINE_NAMES
from ..verification.golden_cases import median
from .results import BenchResult, Cell, Columns, Latencies, OverTime, ReleaseResult, StartReport
from .statistics import sentence


def lines(result: BenchResult) -> List[str]:
    """Return the result in lines."""
    output = [line for release in result.releases for line in _release(result.model, release)]
    output += [_cell(cell, len(result.releases) > 1) for cell in result.cells]
    if result.comparison is not None:
        first, second = (release.release[:12] for release in result.releases)
        output.append(sentence(result.comparison, first, second))
    for found in result.findings:
        output.append("%s %s %s" % (found.code, found.observed, found.entry.do))
    return output + list(result.notes)


def _release(model: str, release: ReleaseResult) -> Iterator[str]:
    right = {True: "outputs match the goldens", False: "WRONG outputs", None: "measurement not completed"}
    yield "%s %s: %s" % (model, release.release[:12], right[release.right])
    if release.starts:
        yield _cold(release.starts)
    if release.over_time is not None:
        yield _warm(release.over_time.warm, release.over_time.runs_per_s)
    if release.memory.get("peak"):
        yield "  memory  at most %.1f MB%s" % (release.memory["peak"] / 1e6, _growth(release.over_time))
    if release.over_time is not None and release.over_time.heat is not None:
        heat = release.over_time.heat
        yield "  heat    %.0f to %.0f degrees Celsius, %+.2g a minute" % (heat.first, heat.last, heat.per_minute)


def _cold(starts: Sequence[StartReport]) -> str:
    again = [start.total_ms for start in starts[1:]]
    later = ", then %s" % _ms(median(again)) if again else ""
    return "  cold    %s the first time%s, until the first answer" % (_ms(starts[0].total_ms), later)


def _warm(warm: Latencies, runs_per_s: float) -> str:
    percentiles = (("p50", warm.p50), ("p90", warm.p90), ("p99", warm.p99), ("p99.9", warm.p999), ("max", warm.max))
    ranks = ", ".join("%s %s" % (name, _ms(value)) for name, value in percentiles)
    return "  warm    %s; %d runs, %.4g a second" % (ranks, warm.runs, runs_per_s)


def _growth(over_time: Optional[OverTime]) -> str:
    growth = over_time.growth if over_time is not None else None
    if growth is None:
        return ""
    text = ", %+.3g MB per 1,000 runs" % (growth.per_1000_runs / 1e6)
    return text + (", %+.3g MB per hour" % (growth.per_hour / 1e6) if growth.per_hour is not None else "")


def _cell(cell: Cell, named: bool) -> str:
    name = " of %s" % cell.release[:12] if named else ""
    threads = "%d threads" % cell.threads if cell.threads else "its usual threads"
    label = "  %d at once%s, with %s: " % (cell.workers, name, threads)
    if cell.skipped or cell.figures is None:
        return label + "not measured, %s" % cell.skipped
    return label + "%.4g runs a second, p50 %s" % (cell.figures.runs_per_s, _ms(cell.figures.latency.p50))


def _ms(value: float) -> str:
    return "%.3g ms" % value if value < 1000 else "%.3g s" % (value / 1000)


_BUSY = 0.1  # of the CPU, by other programs
_FEW: Dict[str, int] = {"p99": 100, "p99.9": 1000}  # runs, below which a percentile is just one of the slowest runs


def caveats_of(releases: Sequence[ReleaseResult], low_priority: bool) -> List[str]:
    """Return the caveats of a bench as sentences, each once."""
    found = [note for release in releases for note in _of_release(release)]
    if low_priority:
        found.append("Measured at low priority: whatever else ran went first.")
    return list(dict.fromkeys(found))


def _of_release(release: ReleaseResult) -> Iterator[str]:
    used = release.starts[-1].engine if release.starts else ""
    if used != release.proven_by and used in ENGINE_NAMES and release.proven_by in ENGINE_NAMES:
        yield "Release %s was verified, and is served, with %s; here it ran with %s, as the other one." % (
            release.release[:12],
            ENGINE_NAMES[release.proven_by],
            ENGINE_NAMES[used],
        )
    if release.starts and release.starts[-1].threads_set_by == "environment":
        yield (
            "This Paddle-Lite has no set_threads: threads were asked for by OpenMP's variables; "
            "the CPUs kept busy show whether that counted."
        )
    if release.cases_left_out:
        yield "%d of the golden cases were left out: a predictor keeps to inputs of one size." % release.cases_left_out
    if release.over_time is not None:
        yield from _of_measurement(release.over_time)


def _of_measurement(over_time: OverTime) -> Iterator[str]:
    if (over_time.others or 0.0) >= _BUSY:
        tens = round((over_time.others or 0.0) * 10) * 10  # in tens, so that a fleet's sentences are alike
        yield "Other programs used about %d %% of the CPU meanwhile: alone, it is quicker." % tens
    runs = over_time.warm.runs
    few = [rank for rank, least in _FEW.items() if 0 < runs < least]
    if few:
        yield "There were %d runs: %s little." % (runs, " and ".join(few) + (" says" if len(few) == 1 else " say"))
    yield from _of_sensors(over_time.series)


def _of_sensors(series: Columns) -> Iterator[str]:
    names = {"temperature": "no temperature", "frequency": "no clock rate"}
    silent = [text for name, text in names.items() if name in series and not any(series[name])]
    if silent:
        yield "The kernel reports %s: throttling cannot be seen here." % " and ".join(silent)
