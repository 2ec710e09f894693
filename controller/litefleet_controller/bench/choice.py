"""What a bench is to measure, as the command line chose it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from litefleet_agent.bench.plan import BenchOptions, options_of_request
from litefleet_agent.errors import AgentError

from ..common.errors import UsageError

__all__ = ["BenchChoice", "numbers"]

_START_S = 30.0  # for one process to start, on a slow device
_SPARE_S = 300.0
_STARTS = 6  # of each release, beside those of the cells
_CPUS = 4  # as many workers as a device may try without being asked to


@dataclass(frozen=True)
class BenchChoice:
    """What is measured on each device; UsageError for what no device would take."""

    runs: int | None = None
    seconds: float | None = None
    threads: tuple[int, ...] = ()  # empty: as the release has it
    workers: tuple[int, ...] = ()  # empty: one, and one for each CPU
    release: str = ""  # an id or its beginning; "": the current one
    against: str = ""  # "previous", an id or its beginning; "": nothing
    low_priority: bool = False

    def __post_init__(self) -> None:
        try:
            self.bench_plan()
        except AgentError as error:
            raise UsageError(f"this can't be measured: {error}") from error
        for option, word in (("--release", self.release), ("--against", self.against)):
            if word not in ("", "current", "previous") and not re.fullmatch("[0-9a-f]{8,64}", word):
                raise UsageError(
                    f"{option}: '{word[:80]}' is no release's id; give 8 digits of it or more, or previous"
                )

    def fields(self, model: str) -> dict[str, Any]:
        """Return the request's fields for one model."""
        return {"model": model, **self._given()}

    def _given(self) -> dict[str, Any]:
        given = {
            "runs": self.runs,
            "seconds": self.seconds,
            "threads": list(self.threads),
            "workers": list(self.workers),
            "release": self.release,
            "against": self.against,
            "low_priority": self.low_priority or None,
        }
        return {name: value for name, value in given.items() if value not in (None, "", [])}

    def bench_plan(self) -> BenchOptions:
        """Return what a device with 4 CPUs makes of it; AgentError."""
        return options_of_request(self._given(), _CPUS)

    @property
    def limit_s(self) -> float:
        """Seconds after which a device that has not answered hangs."""
        bench_plan, releases = self.bench_plan(), 2 if self.against else 1
        processes = releases * (_STARTS + sum(workers for workers, _ in bench_plan.matrix))
        return 2 * bench_plan.seconds + processes * _START_S + _SPARE_S


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers of "1,2,4"; UsageError for anything else."""
    if not re.fullmatch(r"(\d{1,6}(,\d{1,6})*)?", text):
        raise UsageError(f"{option}: '{text[:80]}' is no list of numbers; write 1,2,4")
    return tuple(int(word) for word in text.split(",") if word)
