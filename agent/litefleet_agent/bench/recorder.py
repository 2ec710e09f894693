"""Records the measurements of one process over time."""

from typing import List, Mapping, Optional, Tuple

from .results import Columns, Growth, Heat, OverTime
from .statistics import Samples
from .timeseries import Series, rows_of
from .trends import slope
from .worker_handle import BenchWorker, Block

_LONG_S = 30.0


class Recorder:
    """The latencies and memory of one process, and the machine's sensors; `begun` is the monotonic time of t = 0.

    It keeps its measurements when the process dies.
    """

    def __init__(self) -> None:
        self.begun = 0.0
        self.times, self.whole, self.series = Samples(), Samples(), Series()
        self.seconds = self.cpu_s = 0.0
        self.others: Optional[float] = None  # share of all CPUs' time that other programs used meanwhile

    @property
    def runs(self) -> int:
        """The number of recorded runs."""
        return self.times.count

    def add(self, block: Block) -> None:
        """Record the runs of one block."""
        self.times.add(block.times)
        self.whole.add(block.whole)
        self.series.runs(block.begun - self.begun, block.ended - self.begun, block.times)
        self.seconds += block.seconds
        self.cpu_s += block.cpu_s

    def observe(self, now: float, worker: BenchWorker, readings: Mapping[str, Optional[float]]) -> None:
        """Record the process's memory and readings of the machine."""
        self.series.observe(now - self.begun, dict(readings, rss=worker.rss_bytes() or None))

    def over_time(self) -> Optional[OverTime]:
        """Return the measurements, None without any run."""
        if not self.runs:
            return None
        columns = self.series.columns()
        return OverTime(
            warm=self.times.statistics(),
            whole=self.whole.statistics(),
            runs_per_s=round(self.runs / self.seconds, 3),
            cores=round(self.cpu_s / self.seconds, 3),
            others=self.others,
            growth=_growth(columns),
            heat=_heat(columns),
            series=columns,
        )

    def memory(self) -> List[Tuple[float, float]]:
        """Return (runs done, resident bytes) over time."""
        return [(runs, rss) for runs, _, rss in _memory(self.series.columns())]


def _memory(columns: Columns) -> List[Tuple[float, float, float]]:
    """Return (runs done, seconds, resident bytes) over time."""
    done, rows = 0.0, []
    for t, runs, rss in rows_of(columns, "t", "runs", "rss"):
        done += runs
        rows.append((done, t, float(rss)))
    return rows


def _growth(columns: Columns) -> Optional[Growth]:
    """Return the growth over the second half; the first is warm-up.

    Growth per hour needs half a minute: below, it would be noise times a hundred.
    """
    rows = _memory(columns)
    late = rows[len(rows) // 2 :]
    if len(late) < 2:
        return None
    per_1000_runs = round(slope([(runs, rss) for runs, _, rss in late]) * 1000, 1)
    if late[-1][1] - late[0][1] < _LONG_S:
        return Growth(per_1000_runs)
    return Growth(per_1000_runs, round(slope([(t, rss) for _, t, rss in late]) * 3600, 1))


def _heat(columns: Columns) -> Optional[Heat]:
    """Return the CPU's temperature over time, None where the kernel does not report it."""
    rows = [(t, celsius) for t, celsius in rows_of(columns, "t", "temperature")]
    if not rows:
        return None
    degrees = [celsius for _, celsius in rows]
    return Heat(degrees[0], degrees[-1], max(degrees), round(slope(rows) * 60, 3))
