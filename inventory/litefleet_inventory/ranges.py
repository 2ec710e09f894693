"""Ranges and placeholders: `cam-[01:40]` names forty devices, `10.0.0.[1:40]` or `10.0.0.{n}` gives each its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

MAX_EXPANSION = 100_000
_RANGE = re.compile(r"\[(\d{1,9}):(\d{1,9})(?::(\d{1,9}))?\]", re.ASCII)
_SLOT = re.compile(r"\{(name|0?n[1-9]?)\}")


class RangeError(ValueError):
    """A range cannot be expanded; the text gives the reason."""


class Member(NamedTuple):
    """One name of a range: its numbers as written (zero-padded), its position, and the number of names."""

    name: str
    numbers: tuple[str, ...] = ()
    position: int = 0
    total: int = 1


def has_range(text: str) -> bool:
    """Whether `text` contains a range such as [01:40]."""
    return "[" in text and _RANGE.search(text) is not None


def is_template(text: str) -> bool:
    """Whether `text` differs from device to device: it contains a range or a placeholder."""
    return has_range(text) or ("{" in text and _SLOT.search(text) is not None)


def _numbers(match: re.Match[str]) -> Sequence[str]:
    """Return the numbers of one range; [08:10] pads to the width of its first number."""
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if last < first:
        raise RangeError(f"range {match[0]} runs backwards; write the smaller number first")
    if step == 0:
        raise RangeError(f"range {match[0]} has a step of 0; the least is 1")
    width = len(match[1]) if match[1].startswith("0") else 0
    if (last - first) // step + 1 > MAX_EXPANSION:
        raise RangeError(f"range {match[0]} makes more than {MAX_EXPANSION:,} names")
    return [str(n).zfill(width) for n in range(first, last + 1, step)]


@lru_cache(maxsize=64)
def expand(text: str) -> tuple[Member, ...]:
    """Return the names that `text` stands for, the last range counting fastest; raises RangeError."""
    found = list(_RANGE.finditer(text)) if "[" in text else []
    if not found:
        return (Member(text),)
    axes = [_numbers(m) for m in found]
    count = 1
    for axis in axes:
        count *= len(axis)
    if count > MAX_EXPANSION:
        raise RangeError(f"'{text[:80]}' makes more than {MAX_EXPANSION:,} names")
    edges = [0, *(edge for m in found for edge in m.span()), len(text)]
    parts = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    members = []
    for index, numbers in enumerate(product(*axes)):
        name = parts[0] + "".join(n + rest for n, rest in zip(numbers, parts[1:], strict=True))
        members.append(Member(name, numbers, index, count))
    return tuple(members)


def fill(text: str, member: Member) -> str:
    """Return a value for one device: its ranges in step with the name's, its placeholders replaced.

    {name} is the device's name, {n} the number of its first range without padding, {0n} as written, {n2} the second's.
    Raises RangeError when the lengths differ or the name has no such range.
    """
    if has_range(text):
        if not member.numbers:
            raise RangeError("a range here needs a range in the device's name, such as cam-[01:40]")
        values = expand(text)
        if len(values) != member.total:
            raise RangeError(f"makes {len(values)} values for {member.total} devices; the two must be equally many")
        text = values[member.position].name
    return _SLOT.sub(lambda m: _slot(m[1], member), text) if "{" in text else text


def _slot(slot: str, member: Member) -> str:
    if slot == "name":
        return member.name
    padded = slot.startswith("0")
    which = int(slot[-1]) if slot[-1].isdigit() else 1
    if which > len(member.numbers):
        raise RangeError(f"{{{slot}}} needs {'a range' if which == 1 else f'{which} ranges'} in the device's name")
    number = member.numbers[which - 1]
    return number if padded else str(int(number))
