"""The options of a bench, and how its time is divided.  Pure."""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from ..errors import AgentError
from ..formats.checked import items, number, whole

_SECONDS = 10.0
_RUNS_LIMIT_S = 3600.0  # for a requested number of runs, however long each takes
_CELLS = 0.4  # share of the time for the cells, at most
_CELL_S = (0.5, 10.0)  # shortest, longest
_CELL_OF_RUNS_S = 2.0  # when runs are requested instead of seconds
_MOST_CELLS = 16
_MOST_WORKERS = 64
_FEW = 4  # workers of the default matrix, at most


@dataclass(frozen=True)
class BenchOptions:
    """The extent of a bench.  The cells are all pairs of `workers` and `threads`."""

    seconds: float  # of measuring, about; starting processes takes additional time
    runs: int = 0  # at most, in the measurement over time; 0 = as many as there is time for
    threads: Tuple[int, ...] = (0,)  # 0 = as the release and the service have it; the first is measured over time
    workers: Tuple[int, ...] = (1,)
    low_priority: bool = False
    counted: bool = False  # runs were requested, and no time

    @property
    def matrix(self) -> Tuple[Tuple[int, int], ...]:
        """(workers, threads) of each cell."""
        return tuple((workers, threads) for threads in self.threads for workers in self.workers)

    def cell_s(self, releases: int) -> float:
        """Return the seconds of each cell when every cell is measured for `releases` releases."""
        if self.counted:
            return _CELL_OF_RUNS_S
        low, high = _CELL_S
        return min(high, max(low, _CELLS * self.seconds / (len(self.matrix) * releases)))

    def steady_s(self, releases: int) -> float:
        """Return the seconds of the measurement over time, of all releases together."""
        if self.counted:
            return _RUNS_LIMIT_S
        return max((1 - _CELLS) * self.seconds, self.seconds - self.cell_s(releases) * len(self.matrix) * releases)


def options_of_request(header: Mapping[str, object], cpus: int) -> BenchOptions:
    """Read {runs?, seconds?, threads?, workers?, low_priority?}; the default workers are one, and `cpus` up to 4.

    Raises AgentError "bad-request", which names the field.
    """
    runs = _number(header, "runs", 10, 10000000, True)
    seconds = _number(header, "seconds", 1, 86400, False)
    counted = runs is not None and seconds is None
    options = BenchOptions(
        seconds=float(seconds or (_RUNS_LIMIT_S if counted else _SECONDS)),
        runs=int(runs or 0),
        threads=_numbers(header, "threads", 0, 256) or (0,),
        workers=_numbers(header, "workers", 1, _MOST_WORKERS) or tuple(sorted({1, max(1, min(cpus, _FEW))})),
        low_priority=header.get("low_priority") is True,
        counted=counted,
    )
    if len(options.matrix) > _MOST_CELLS:
        raise _bad(
            "%d pairs of workers and threads are requested; at most %d are possible"
            % (len(options.matrix), _MOST_CELLS)
        )
    return options


def _number(header: Mapping[str, object], name: str, low: int, high: int, is_whole: bool) -> Optional[float]:
    value = header.get(name)
    if value is None:
        return None
    try:
        return whole(value, low, high, "`%s`" % name) if is_whole else number(value, low, high, "`%s`" % name)
    except ValueError as error:
        raise _bad(str(error)) from None


def _numbers(header: Mapping[str, object], name: str, low: int, high: int) -> Tuple[int, ...]:
    values = header.get(name)
    if values is None:
        return ()
    try:
        numbers = [whole(value, low, high, "`%s`" % name) for value in items(values, _MOST_CELLS, "`%s`" % name, 1)]
    except ValueError as error:
        raise _bad(str(error)) from None
    return tuple(dict.fromkeys(numbers))


def _bad(text: str) -> AgentError:
    return AgentError(text, "bad-request")
