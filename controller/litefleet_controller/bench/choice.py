"""The options of `litefleet bench` as one checked value, and as fields of the request to a device."""

from __future__ import annotations

import re
from dataclasses import dataclass

from litefleet_agent.bench.plan import BenchOptions, options_of_request
from litefleet_agent.errors import AgentError

from ..common.errors import UsageError

_START_S = 30.0  # allowed for one process to start, on a slow device
_SPARE_S = 300.0  # allowed for everything else: checks, transfer, cooling
_STARTS = 6  # cold starts of each release, besides the throughput cells
_CPUS = 4  # assumed number of CPUs: a device tries as many workers by default


@dataclass(frozen=True)
class BenchChoice:
    """Options of a bench.  UsageError for values that no device accepts."""

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
            raise UsageError(f"cannot measure this: {error}") from error
        for option, word in (("--release", self.release), ("--against", self.against)):
            if word not in ("", "current", "previous") and not re.fullmatch("[0-9a-f]{8,64}", word):
                raise UsageError(
                    f"{option}: '{word[:80]}' is not a release id: give at least its first 8 digits, or `previous`"
                )

    def fields(self, model: str) -> dict[str, object]:
        """Return the fields of the request `bench` for one model; unset options are left out."""
        return {"model": model, **self._given()}

    def _given(self) -> dict[str, object]:
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
        """Return these options as a device with 4 CPUs would read them.  AgentError when it would reject them."""
        return options_of_request(self._given(), _CPUS)

    @property
    def limit_s(self) -> float:
        """Seconds after which a device without an answer counts as hanging: twice the runs, plus the starts of all processes."""
        bench_plan, releases = self.bench_plan(), 2 if self.against else 1
        processes = releases * (_STARTS + sum(workers for workers, _ in bench_plan.matrix))
        return 2 * bench_plan.seconds + processes * _START_S + _SPARE_S


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers of "1,2,4", each of at most 6 digits.  UsageError for anything else."""
    if not re.fullmatch(r"(\d{1,6}(,\d{1,6})*)?", text):
        raise UsageError(f"{option}: '{text[:80]}' is not a list of numbers: write it as 1,2,4")
    return tuple(int(word) for word in text.split(",") if word)
