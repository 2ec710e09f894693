"""How many bad devices a rollout reaches before a gate stops it: the default policy, and percentages as other tools have them.

All policies go through production's own board (`litefleet_controller.rollout.board`); conversations are drawn, not held: a device
takes one to three seconds, and fails when the cause is on it.  Percentages are evaluated by the board after every outcome, where
the tools that they stand for wait for the end of the wave: the comparison is kind to them.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from litefleet_controller.rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState
from litefleet_controller.rollout.board import Advance, Begin, Board, Finish, Promote, Stop, Wait
from litefleet_controller.rollout.policy import ClusterLimit, GateLimit, Gates, Regression
from litefleet_controller.rollout.waves import assign

BAD_PART = "Cortex-A55"
PARTS = (
    "Cortex-A72",
    "Cortex-A72",
    "Cortex-A72",
    "Intel(R) N100",
    "Intel(R) N100",
    "Cortex-A76",
    "Cortex-A53",
    "Cortex-A7",
)
NOISE = ("LF312", "LF401", "LF403", "LF404", "LF405")  # what devices fail with for reasons of their own, evenly drawn
CAUSE = "LF402"
OPEN = GateLimit()
TENTH = GateLimit(share=0.1)
PLAIN = Gates(canary=TENTH, wave=TENTH, total=OPEN, cluster=ClusterLimit(), regression=Regression(count=None))
SERIAL = tuple(f"{tenth}0%" for tenth in range(1, 11))
POLICIES: Mapping[str, Policy] = {
    "litefleet's defaults": Policy(),
    "the same, `of_tried: null`": Policy(gates=Gates(cluster=ClusterLimit(count=3, of_tried=None))),
    "1, 10 %, 50 %, 100 %; more than 10 % of a wave": Policy(stratify=False, gates=PLAIN),
    "ten batches; more than 10 % of a batch": Policy(waves=SERIAL, stratify=False, gates=PLAIN),
}


@dataclass(frozen=True)
class Case:
    """What is wrong with a release, and how large the fleet is."""

    devices: int
    share: float  # of the fleet that has the bad CPU part
    hit: float  # of that part's devices that fail
    noise: float  # of all devices that fail for reasons of their own


@dataclass(frozen=True)
class Seen:
    """How one rollout went until a gate named a device with the cause."""

    bad: int  # devices with the cause that were begun
    done: int  # devices that were switched on by then
    false_stops: int  # gates that fired without one such device behind them: a person inspected them, and resumed
    stopped: bool
    exposed: int  # devices with the cause that there are


def rows_of(case: Case, dice: random.Random) -> list[DeviceRow]:
    """Return the fleet in a drawn order."""
    bad = round(case.devices * case.share)
    parts = [BAD_PART] * bad + [dice.choice(PARTS) for _ in range(case.devices - bad)]
    dice.shuffle(parts)
    return [
        DeviceRow(f"dev-{i:05d}", "m", 0, i, part=p, libc="glibc 2.36", runtime="system") for i, p in enumerate(parts)
    ]


def codes_of(case: Case, rows: list[DeviceRow], dice: random.Random) -> dict[str, str]:
    """Return the code that each failing device fails with."""
    found = {}
    for row in rows:
        if row.part == BAD_PART and dice.random() < case.hit:
            found[row.device] = CAUSE
        elif dice.random() < case.noise:
            found[row.device] = dice.choice(NOISE)
    return found


class Run:
    """One rollout, drawn: a gate that fires on noise alone is resumed from, as a person would."""

    def __init__(self, case: Case, policy: Policy, seed: int, parallel: int) -> None:
        self._dice = random.Random(f"{case} {seed}")
        rows, waves = assign(rows_of(case, self._dice), policy, lambda name: frozenset())
        self._codes = codes_of(case, list(rows), self._dice)
        self._board = Board(Rollout("r-1", "bench", "rollout", RolloutState.RUNNING, policy, waves, 0.0, "bench"), rows)
        self._parallel = parallel
        self._ends: list[tuple[float, str]] = []
        self._now = 1.0
        self._bad = self._false = 0

    def run(self) -> Seen:
        """Go on until a gate finds the cause, or to the end."""
        while True:
            match self._board.next(self._now, self._parallel - len(self._ends)):
                case Begin(devices):
                    self._begin(devices)
                case Advance(wave):
                    self._board.put_rollout(replace(self._board.rollout, wave=wave))
                case Promote(rows, _):
                    for row in rows:
                        self._board.put(row)
                case Stop(_, _, _, behind):
                    if any(self._codes[name] == CAUSE for name in behind):
                        return self._seen(stopped=True)
                    self._forgive(behind)
                case Wait(None, _):
                    self._end()
                case Finish():
                    return self._seen(stopped=False)
                case other:
                    raise AssertionError(f"not expected here: {other}")

    def _begin(self, devices: tuple[str, ...]) -> None:
        for name in devices:
            self._bad += self._codes.get(name) == CAUSE
            self._put(name, state=DeviceState.STAGING, attempts=1)
            self._board.begun(name, self._now)
            heapq.heappush(self._ends, (self._now + self._dice.uniform(1, 3), name))

    def _end(self) -> None:
        self._now, name = heapq.heappop(self._ends)
        code = self._codes.get(name)
        if code:
            self._put(name, state=DeviceState.FAILED, codes=(code,))
        else:
            self._put(name, state=DeviceState.CONFIRMED)

    def _forgive(self, behind: tuple[str, ...]) -> None:
        self._false += 1
        for row in (row for name in behind for row in self._board.rows_of(name) if row.failed):
            self._board.put(replace(row, forgiven=True))

    def _put(self, name: str, **changes: object) -> None:
        for row in self._board.rows_of(name):
            self._board.put(replace(row, **changes))  # type: ignore[arg-type]

    def _seen(self, stopped: bool) -> Seen:
        done = self._board.counts().get(DeviceState.CONFIRMED, 0)
        exposed = sum(code == CAUSE for code in self._codes.values())
        return Seen(self._bad, done, self._false, stopped, exposed)


def cases(devices: int, noise: float) -> Iterator[Case]:
    """Yield what is compared; the last one is a release with which nothing is wrong."""
    for hit in (1.0, 0.3):
        for share in (0.005, 0.02, 0.05, 0.2):
            yield Case(devices, share, hit, noise)
    yield Case(devices, 0.0, 0.0, noise)


def line(case: Case, name: str, results: list[Seen]) -> str:
    """Return one row of the table: medians over the seeds."""
    cells = [
        f"{case.share:.1%}",
        f"{case.hit:.0%}",
        name,
        _range([s.bad for s in results]),
        f"{statistics.median(s.exposed for s in results):.0f}",
        f"{statistics.median(s.done for s in results):,.0f}",
        _range([s.false_stops for s in results]),
        f"{sum(not s.stopped for s in results)} of {len(results)}",
    ]
    return f"| {' | '.join(cells)} |"


def _range(values: list[int]) -> str:
    return f"{statistics.median(values):.0f} ({min(values)} to {max(values)})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--noise", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--parallel", type=int, default=32)
    given = parser.parse_args()
    head = "bad part | of it fail | gates | bad devices reached | of | good ones done | stops by noise | never stopped"
    print(f"| {head} |\n|{'---|' * 8}")
    for case in cases(given.devices, given.noise):
        for name, policy in POLICIES.items():
            results = [Run(case, policy, seed, given.parallel).run() for seed in range(given.seeds)]
            print(line(case, name, results), flush=True)


if __name__ == "__main__":
    main()
