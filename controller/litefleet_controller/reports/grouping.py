"""Folds names into ranges such as `cam-[001:240]`, so that 1,000 devices fit a line.  Pure.

It is the inverse of the inventory's ranges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from litefleet_inventory.ranges import MAX_EXPANSION

from ..catalogue.language import in_lang
from ..common.text import sanitize

_MOST_DIGITS = 9  # limit of the inventory's ranges
_SHORTEST = 3  # "cam-1, cam-2" reads better than "cam-[1:2]"


@dataclass
class _Item:
    """A name or a range of names, split at its numbers: odd `parts` are digits, or a range such as [01:40]."""

    parts: tuple[str, ...]
    position: int  # of its first name in the input
    count: int = 1  # names it stands for

    @property
    def text(self) -> str:
        return "".join(self.parts)


def fold(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once, with runs of numbers as ranges, which the inventory's `expand` reverses."""
    return tuple(item.text for item in _folded_items(names))


def _folded_items(names: Iterable[str]) -> list[_Item]:
    """Return the ranges in the order of their first names."""
    items = [_Item(_split(name), at) for at, name in enumerate(dict.fromkeys(names))]
    deepest = max((len(item.parts) // 2 for item in items), default=0)
    for from_right in range(1, deepest + 1):
        items = _fold_at(items, from_right)
    return sorted(items, key=lambda item: item.position)


def folded(names: Iterable[str], most: int = 20) -> str:
    """Return names in one printable line: at most `most` names or ranges, and the number of the other names."""
    items = _folded_items(names)
    left_out = sum(item.count for item in items[most:])
    more = in_lang(f" and {left_out:,} more", f" 等，另有 {left_out:,} 台") if left_out else ""
    return ", ".join(sanitize(item.text, 120) for item in items[:most]) + more


def _split(name: str) -> tuple[str, ...]:
    """Split at runs of ASCII digits; a name with a bracket stays whole, as it would be read as a range."""
    return (name,) if "[" in name or "]" in name else tuple(re.split(r"([0-9]+)", name))


def _fold_at(items: list[_Item], from_right: int) -> list[_Item]:
    """Fold all items that differ in one number only, the `from_right`-th from the right."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[_Item]] = {}
    rest: list[_Item] = []
    for item in items:
        at = len(item.parts) - 2 * from_right
        if at < 1 or not 1 <= len(item.parts[at]) <= _MOST_DIGITS:
            rest.append(item)
        else:
            groups.setdefault((item.parts[:at], item.parts[at + 1 :]), []).append(item)
    for (before, after), members in groups.items():
        for run in _runs(members, len(before)):
            rest += _joined(run, before, after)
    return rest


def _runs(members: list[_Item], at: int) -> list[list[_Item]]:
    """Return runs of consecutive numbers, all padded as the first one is."""
    ended: list[list[_Item]] = []
    open_runs: list[list[_Item]] = []
    for item in sorted(members, key=lambda item: (int(item.parts[at]), item.parts[at])):
        value = int(item.parts[at])
        ended += [run for run in open_runs if int(run[-1].parts[at]) + 1 < value]
        open_runs = [run for run in open_runs if int(run[-1].parts[at]) + 1 >= value]
        home = next((run for run in open_runs if _continues(run, item, at)), None)
        if home is None:
            open_runs.append([item])
        else:
            home.append(item)
    return ended + open_runs


def _continues(run: list[_Item], item: _Item, at: int) -> bool:
    first, value = run[0].parts[at], int(item.parts[at])
    width = len(first) if first.startswith("0") else 0
    fits = (len(run) + 1) * item.count <= MAX_EXPANSION
    return fits and int(run[-1].parts[at]) + 1 == value and item.parts[at] == str(value).zfill(width)


def _joined(run: list[_Item], before: tuple[str, ...], after: tuple[str, ...]) -> list[_Item]:
    shortest = 2 if run[0].count > 1 else _SHORTEST
    if len(run) < shortest:
        return run
    at = len(before)
    middle = f"[{run[0].parts[at]}:{run[-1].parts[at]}]"
    first = min(item.position for item in run)
    return [_Item((*before, middle, *after), first, sum(item.count for item in run))]
