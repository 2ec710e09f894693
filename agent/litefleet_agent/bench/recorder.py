"""What was measured of one release over time."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .statistics import Samples
from .timeseries import Series, rows_of
from .trends import slope
from .worker_handle import BenchWorker, Block

__all__ = ["Recorder"]

_LONG_S = 30.0


class Recorder:
    """The latencies of one process, its memory and the machine's sensors; `begun` is the moment (monotonic) of t = 0.

    It holds what was seen so far: should the process die, that stays.
    """

    def __init__(self) -> None:
        self.begun = 0.0
        self.times, self.whole, self.series = Samples(), Samples(), Series()
        self.seconds = self.cpu_s = 0.0
        self.others: Optional[float] = None  # share of all CPUs' time that other programs took meanwhile

    @property
    def runs(self) -> int:
        """How many runs it took in."""
        return self.times.count

    def add(self, block: Block) -> None:
        """Take the runs of one block in."""
        self.times.add(block.times)
        self.whole.add(block.whole)
        self.series.runs(block.begun - self.begun, block.ended - self.begun, block.times)
        self.seconds += block.seconds
        self.cpu_s += block.cpu_s

    def observe(self, now: float, worker: BenchWorker, readings: Mapping[str, Optional[float]]) -> None:
        """Take in the process's memory, and what was seen of the machine."""
        self.series.observe(now - self.begun, dict(readings, rss=worker.rss_bytes() or None))

    def to_dict(self) -> Dict[str, Any]:
        """Return {warm, whole, runs_per_s, cores, others, growth, heat, series}."""
        columns = self.series.columns()
        return {
            "warm": self.times.statistics(),
            "whole": self.whole.statistics(),
            "runs_per_s": round(self.runs / self.seconds, 3) if self.seconds else None,
            "cores": round(self.cpu_s / self.seconds, 3) if self.seconds else None,
            "others": self.others,
            "growth": _growth(columns),
            "heat": _heat(columns),
            "series": columns,
        }

    def memory(self) -> List[Tuple[float, float]]:
        """Return (runs done, resident bytes) over time."""
        return [(runs, rss) for runs, _, rss in _memory(self.series.columns())]


def _memory(columns: Mapping[str, Sequence[Any]]) -> List[Tuple[float, float, float]]:
    """Return (runs done, seconds, resident bytes) over time."""
    done, rows = 0, []
    for t, runs, rss in rows_of(columns, "t", "runs", "rss"):
        done += runs
        rows.append((float(done), t, float(rss)))
    return rows


def _growth(columns: Mapping[str, Sequence[Any]]) -> Dict[str, float]:
    """Return {per_1000_runs, per_hour} in bytes, by the second half: the first is warming up.

    An hour is only told of where half a minute was seen: else it would be noise times a hundred.
    """
    rows = _memory(columns)
    late = rows[len(rows) // 2 :]
    if len(late) < 2:
        return {}
    growth = {"per_1000_runs": round(slope([(runs, rss) for runs, _, rss in late]) * 1000, 1)}
    if late[-1][1] - late[0][1] >= _LONG_S:
        growth["per_hour"] = round(slope([(t, rss) for _, t, rss in late]) * 3600, 1)
    return growth


def _heat(columns: Mapping[str, Sequence[Any]]) -> Dict[str, float]:
    """Return {first, last, highest} in degrees Celsius, and {per_minute}."""
    rows = rows_of(columns, "t", "temperature")
    if not rows:
        return {}
    degrees = [celsius for _, celsius in rows]
    rise = slope(rows) * 60
    return {"first": degrees[0], "last": degrees[-1], "highest": max(degrees), "per_minute": round(rise, 3)}
