"""What a bench has measured so far, written down after each measurement, and how much time is left for the next one.

A run that is cut, a peer that cannot be installed or that fails: the file still holds all other figures, with the reason for what
is missing.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Pushes = dict[str, tuple[list[Figures], list[Figures]]]
_FIRST_GUESS_S = 0.6  # of one device's push and no-op by a tool that was not measured yet


class MeasureError(SystemExit):
    """A measured job did not end well on all devices; the text says how."""


class Results:
    """One run's figures: `rollouts` by name, `pushes` by fleet size and tool (full pushes, no-ops), `left_out` with reasons."""

    def __init__(self, machine: str, commit: str, save: Path | None = None, seconds: float = float("inf")) -> None:
        self.machine, self.commit = machine, commit
        self.rollouts: dict[str, list[Figures]] = {}
        self.pushes: dict[int, Pushes] = {}
        self.left_out: dict[str, str] = {}
        self.lines: list[Figures] = []  # of bench.lines: {line, state, tools: {tool: [seconds, bytes, turns]}}
        self._save, self._ends = save, time.monotonic() + seconds
        self._took: dict[tuple[str, int], float] = {}

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what a run wrote."""
        raw = json.loads(path.read_text())
        found = cls(raw["machine"], raw.get("commit", ""), path)
        found.lines = raw.get("lines", [])
        found.rollouts, found.left_out = raw.get("rollout", {}), raw.get("left out", {})
        found.pushes = {
            int(name.split()[1]): {tool: (full, idle) for tool, (full, idle) in tools.items() if full and idle}
            for name, tools in raw.items()
            if name.startswith("push ")
        }
        return found

    def write(self) -> None:
        """Write all figures to the file, if there is one."""
        if self._save is None:
            return
        raw: dict[str, Any] = {"machine": self.machine, "commit": self.commit, "rollout": self.rollouts}
        raw |= {f"push {count}": tools for count, tools in sorted(self.pushes.items())}
        part = self._save.with_name(self._save.name + ".part")
        part.write_text(json.dumps({**raw, "left out": self.left_out, "lines": self.lines}, indent=1))
        part.replace(self._save)

    def add_rollout(self, name: str, figures: Figures) -> None:
        """Keep one measurement of the whole job."""
        self.rollouts.setdefault(name, []).append(figures)
        self.write()

    def add_push(self, count: int, tool: str, full: Figures, idle: Figures, took_s: float) -> None:
        """Keep one push and its no-op, which took `took_s` seconds with everything around them."""
        fulls, idles = self.pushes.setdefault(count, {}).setdefault(tool, ([], []))
        fulls.append(full)
        idles.append(idle)
        self._took[tool, count] = took_s
        self.write()

    def leave_out(self, what: str, why: str) -> None:
        """Note why something was not measured; a tool that failed is not tried again."""
        self.left_out[what] = why
        self.write()

    def time_for(self, tool: str, count: int) -> bool:
        """Say whether a tool's push and no-op on `count` devices will have ended in time, as it did with other fleet sizes."""
        known = {size: took for (name, size), took in self._took.items() if name == tool}
        nearest = min(known, key=lambda size: abs(size - count), default=0)
        expected = known[nearest] * max(1.0, count / nearest) if nearest else _FIRST_GUESS_S * count
        return time.monotonic() + 1.1 * expected < self._ends

    def time_left_s(self) -> float:
        """Return the seconds that are left."""
        return self._ends - time.monotonic()


def median_of(figures: Sequence[Figures], value: Callable[[Figures], float]) -> float:
    """Return the median of one figure."""
    return statistics.median(map(value, figures))


def all_cpu(figures: Figures) -> float:
    """Return a job's CPU seconds with those of its children."""
    return float(figures["cpu"] + figures["children"])
