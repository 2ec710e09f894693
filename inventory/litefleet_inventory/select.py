"""Selects devices by pattern, for `--limit`: names, globs, ranges, groups, tags and their negations."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate

from .model import Device, Inventory
from .problems import SelectError, nearest
from .ranges import RangeError, expand, has_range


def select(inventory: Inventory, patterns: str) -> tuple[Device, ...]:
    """Return the devices that `patterns` select, in the inventory's order; an empty text selects all.

    Terms are separated by commas or white space: a device's or group's name, `all`, a glob (`cam-*`), a range
    (`cam-[01:10]`), `tag:x` or `@x`, and `!term` to exclude, at any position.  Without a positive term, all other
    devices are selected.

    Raises: SelectError when a term matches nothing (an excluded glob or tag may), or no device remains.
    """
    index = _Index(inventory)
    wrong: list[str] = []
    wanted: set[str] = set()
    unwanted: set[str] = set()
    positive = False
    for term in re.split(r"[,\s]+", patterns.strip(", \t\r\n")):
        if not term:
            continue
        exclude = term.startswith("!")
        try:
            found = index.match(term.removeprefix("!"), may_be_empty=exclude)
        except RangeError as err:
            wrong.append(str(err))
            continue
        positive = positive or not exclude
        (unwanted if exclude else wanted).update(found)
    if wrong:
        raise SelectError(wrong)
    chosen = tuple(d for d in inventory.devices if (not positive or d.name in wanted) and d.name not in unwanted)
    if not chosen and patterns.strip(", \t\r\n"):
        raise SelectError([f"'{patterns}' leaves no device"])
    return chosen


class _Index:
    """The names, groups and tags that a term can match."""

    def __init__(self, inventory: Inventory) -> None:
        self.names = tuple(d.name for d in inventory.devices)
        self.known = frozenset(self.names)
        self.groups = {g.name: g.devices for g in inventory.groups}
        self.tags: dict[str, list[str]] = {}
        for device in inventory.devices:
            for tag in device.tags:
                self.tags.setdefault(tag, []).append(device.name)

    def match(self, term: str, may_be_empty: bool) -> set[str]:
        """Return the device names that one term matches.  Raises: RangeError, with the sentence, when it matches none."""
        if term.startswith(("@", "tag:")):
            tag = term.removeprefix("@") if term.startswith("@") else term.removeprefix("tag:")
            found = set(self.tags.get(tag, ()))
            return self._found(found, may_be_empty, lambda: f"no device has the tag '{tag}'{nearest(tag, self.tags)}")
        if has_range(term):
            made = {member.name for member in expand(term)}
            return self._found(
                made & self.known, False, lambda: f"no device is named in '{term}'{nearest(term, self.names)}"
            )
        if term in ("all", "*"):
            return set(self.names)
        if any(c in term for c in "*?["):
            matches: Callable[[str], object] = re.compile(translate(term)).match
            found = {n for n in self.names if matches(n)}
            found.update(n for group, names in self.groups.items() if matches(group) for n in names)
            return self._found(found, may_be_empty, lambda: f"no device or group matches '{term}'")
        if term in self.groups:
            return set(self.groups[term])
        found = {term} & self.known
        return self._found(found, False, lambda: f"no device or group is named '{term}'{self._near(term)}")

    def _near(self, term: str) -> str:
        """Return the nearest name as a hint; groups come first, since they are fewer than devices."""
        return nearest(term, (*self.groups, *self.names))

    def _found(self, found: set[str], may_be_empty: bool, otherwise: Callable[[], str]) -> set[str]:
        if not found and not may_be_empty:
            raise RangeError(otherwise())  # looking for the nearest name takes 5 ms among 100 devices
        return found
