"""What a bench is to do, and how its time is divided.  Pure."""

from dataclasses import dataclass
from typing import Any, Mapping, Tuple

from ..errors import AgentError

__all__ = ["BenchOptions", "options_of_request"]

_SECONDS = 10.0
_PATIENT_S = 3600.0  # for a number of runs that was asked for, however long each takes
_CELLS = 0.4  # of the time, at most
_CELL_S = (0.5, 10.0)
_CELL_OF_RUNS_S = 2.0  # where runs are counted instead of seconds
_MOST_CELLS = 16
_MOST_WORKERS = 64
_FEW = 4  # workers that are tried without being asked for


@dataclass(frozen=True)
class BenchOptions:
    """How much is measured: `cells` are all pairs of `workers` and `threads`."""

    seconds: float  # of measuring, about; what it takes to start processes comes on top
    runs: int = 0  # at most, of the one that is watched over time; 0: as many as there is time for
    threads: Tuple[int, ...] = (0,)  # 0: as the release and the service have it; the first is watched over time
    workers: Tuple[int, ...] = (1,)
    low_priority: bool = False
    counted: bool = False  # runs were asked for, and no time

    @property
    def matrix(self) -> Tuple[Tuple[int, int], ...]:
        """(workers, threads) of each cell."""
        return tuple((workers, threads) for threads in self.threads for workers in self.workers)

    def cell_s(self, releases: int) -> float:
        """Return the seconds of each cell, of `releases` each."""
        if self.counted:
            return _CELL_OF_RUNS_S
        low, high = _CELL_S
        return min(high, max(low, _CELLS * self.seconds / (len(self.matrix) * releases)))

    def steady_s(self, releases: int) -> float:
        """Return the seconds in which latency is watched over time, of all releases together."""
        if self.counted:
            return _PATIENT_S
        return max((1 - _CELLS) * self.seconds, self.seconds - self.cell_s(releases) * len(self.matrix) * releases)


def options_of_request(header: Mapping[str, Any], cpus: int) -> BenchOptions:
    """Read {runs?, seconds?, threads?, workers?, low_priority?}; without workers, one and one for each of the `cpus` are tried.

    Raises AgentError "bad-request" that names the field.
    """
    runs = _number(header, "runs", 10, 10000000, int)
    seconds = _number(header, "seconds", 1, 86400, (int, float))
    counted = runs is not None and seconds is None
    options = BenchOptions(
        seconds=float(seconds or (_PATIENT_S if counted else _SECONDS)),
        runs=runs or 0,
        threads=_numbers(header, "threads", 0, 256) or (0,),
        workers=_numbers(header, "workers", 1, _MOST_WORKERS) or tuple(sorted({1, max(1, min(cpus, _FEW))})),
        low_priority=header.get("low_priority") is True,
        counted=counted,
    )
    if len(options.matrix) > _MOST_CELLS:
        raise _bad(
            "%d pairs of workers and threads are asked for, and at most %d go" % (len(options.matrix), _MOST_CELLS)
        )
    return options


def _number(header: Mapping[str, Any], name: str, low: float, high: float, kind: Any) -> Any:
    value = header.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise _bad("`%s` is %.40r; it must be a number from %s to %s" % (name, value, low, high))
    return value


def _numbers(header: Mapping[str, Any], name: str, low: int, high: int) -> Tuple[int, ...]:
    values = header.get(name)
    if values is None:
        return ()
    valid = isinstance(values, (list, tuple)) and 0 < len(values) <= _MOST_CELLS
    if not valid or any(type(v) is not int or not low <= v <= high for v in values):
        raise _bad(
            "`%s` is %.60r; it must be a list of 1 to %d numbers from %d to %d" % (name, values, _MOST_CELLS, low, high)
        )
    return tuple(dict.fromkeys(values))


def _bad(text: str) -> AgentError:
    return AgentError(text, "bad-request")
