"""The problems of an inventory: each with its file, line and path, all reported at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

MAX_PROBLEMS = 1000
MAX_COMPARISONS = 200_000  # about three seconds of search for the nearest names


class Place(NamedTuple):
    """The position of an entry: file, line (from 1; 0 means the whole file) and dotted path."""

    file: str
    line: int = 0
    path: str = ""

    def at(self, line: int, key: str) -> Place:
        """Return the place of `key` inside this one."""
        return Place(self.file, line, f"{self.path}.{key}" if self.path else key)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One problem, and what to do about it."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = Place(self.file, self.line)
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class InventoryError(Exception):
    """The inventory cannot be used; `problems` lists every reason, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = tuple(problems)


class SelectError(Exception):
    """A selection (`--limit`) matches nothing; `messages` has one sentence for each unknown name."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("\n".join(messages))
        self.messages = tuple(messages)


@dataclass
class Problems:
    """Collects problems while the files are read; the same problem at the same place counts once."""

    found: dict[Problem, None] = field(default_factory=dict)
    left_out: int = 0
    hints_left: int = MAX_COMPARISONS

    def add(self, place: Place, message: str) -> None:
        """Add a problem."""
        problem = Problem(place.file, place.line, place.path, message)
        if len(self.found) < MAX_PROBLEMS:
            self.found[problem] = None
        elif problem not in self.found:
            self.left_out += 1

    def near(self, word: str, known: Collection[str]) -> str:
        """Return `nearest`, or "" once MAX_COMPARISONS are used up: 1,000 typos among 10,000 names would take minutes."""
        self.hints_left -= len(known)
        if self.hints_left < 0 or len(self.found) >= MAX_PROBLEMS:
            return ""
        return nearest(word, known)

    def raise_if_any(self) -> None:
        """Raise InventoryError when there are problems."""
        if not self.found:
            return
        order = {name: n for n, name in enumerate(dict.fromkeys(p.file for p in self.found))}
        problems = sorted(self.found, key=lambda p: (order[p.file], p.line))
        if self.left_out:
            problems.append(Problem(problems[0].file, 0, "", f"and {self.left_out} more problems"))
        raise InventoryError(problems)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean 'x'?" for the known word nearest to `word`, or "" when none is near."""
    close = get_close_matches(word[:200], known, n=3, cutoff=cutoff)
    close.sort(key=lambda name: sorted(name) != sorted(word))  # swapped letters first: `prot` is port, not root
    return f"; did you mean '{close[0]}'?" if close else ""
