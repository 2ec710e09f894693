"""Readers of JSON values: the strict ones raise ValueError with the value's place, the lenient ones return a default.

The values come from devices, reports and files: Python reads `1e999` as infinity, and integers of any length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from litefleet_agent.findings import Finding

_MOST = 2**63  # what a database holds
_LONG, _MOST_TEXTS = 80, 1 << 14  # characters; texts that are remembered, until all are forgotten

_texts: dict[str, str] = {}


def from_outside(value: object) -> object:
    """Return a JSON value that every later step can store, compare and print.

    Lone surrogates, which no encoding takes, become question marks.  NaN and infinities stay: an honest device measures them.
    Short texts of many values are one object: devices send the same keys, hashes and names, each of 60 to 110 bytes.
    Raises: ValueError for an integer beyond 64 bits.
    """
    if isinstance(value, str):
        return _texts.get(value) or _text(value)
    if isinstance(value, dict):
        # Most keys and values are known texts: looked up in place, since a hello has 300 of them.
        known = _texts.get
        return {
            known(key) or _text(key): (known(inner) or _text(inner)) if isinstance(inner, str) else from_outside(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [from_outside(item) for item in value]
    if isinstance(value, int) and not -_MOST < value < _MOST:
        raise ValueError("an integer of more than 64 bits")
    return value


def _text(text: str) -> str:
    """Return a text as every encoding takes it, and remember it if it is short."""
    if not text.isascii():
        return text.encode("utf-8", "replace").decode("utf-8")
    if len(text) > _LONG:
        return text
    if len(_texts) >= _MOST_TEXTS:
        _texts.clear()
    return _texts.setdefault(text, text)


def mapping(value: object, place: str) -> Mapping[str, object]:
    """Return `value` if it is a JSON object.  Raises: ValueError, naming `place`."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} should be an object, it is {_kind(value)}")
    return value


def text(value: object, place: str, most: int) -> str:
    """Return `value` if it is a text of at most `most` characters.  Raises: ValueError, naming `place`."""
    if not isinstance(value, str):
        raise ValueError(f"{place} should be a text, it is {_kind(value)}")
    if len(value) > most:
        raise ValueError(f"{place} has {len(value)} characters; at most {most} are read")
    return value


def number(value: object, place: str, low: float, high: float) -> float:
    """Return `value` as a float if it is a number from `low` to `high`.  Raises: ValueError, naming `place`."""
    if not _is_number(value):
        raise ValueError(f"{place} should be a finite number, it is {_kind(value)}")
    if not low <= value <= high:
        raise ValueError(f"{place} should be from {low:g} to {high:g}")
    return float(value)


def integer(value: object, place: str, low: int, high: int) -> int:
    """Return `value` if it is an integer from `low` to `high`.  Raises: ValueError, naming `place`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{place} should be an integer, it is {_kind(value)}")
    if not low <= value <= high:
        raise ValueError(f"{place} should be from {low} to {high}")
    return value


def mapping_or_empty(value: object) -> Mapping[str, object]:
    """Return `value` if it is a JSON object, else an empty mapping."""
    return value if isinstance(value, dict) else {}


def sequence_or_empty(value: object) -> Sequence[object]:
    """Return `value` if it is a JSON array, else an empty sequence."""
    return value if isinstance(value, list) else ()


def findings_or_empty(value: object, most: int) -> list[Finding]:
    """Return the first `most` findings of a JSON array that an agent sent, none for anything else."""
    return [Finding.from_dict(item) for item in sequence_or_empty(value)[:most]]


def text_or_empty(value: object, most: int) -> str:
    """Return the first `most` characters of a text, "" for anything else."""
    return value[:most] if isinstance(value, str) else ""


def number_or(value: object, low: float, high: float, default: float = 0.0) -> float:
    """Return `value` as a float if it is a number from `low` to `high`, else `default`."""
    return float(value) if _is_number(value) and low <= value <= high else default


def number_at(value: object, *path: str) -> float:
    """Return the number at a path of keys in nested JSON objects, at most 1e15 either way; 0 where there is none."""
    for key in path:
        value = mapping_or_empty(value).get(key)
    return number_or(value, -1e15, 1e15)


def number_or_none(value: object) -> float | None:
    """Return `value` as a float if it is a finite number, else None."""
    return float(value) if _is_number(value) else None


def integer_or(value: object, low: int, high: int, default: int = 0) -> int:
    """Return `value` if it is an integer from `low` to `high`, else `default`."""
    if not isinstance(value, int) or isinstance(value, bool):
        return default
    return value if low <= value <= high else default


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether this is a JSON number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond 1e308
        return False


def _kind(value: object) -> str:
    """Return the JSON name of a value's type; a number as it is written, shortened."""
    if isinstance(value, int) and not -(10**20) < value < 10**20:
        return "an integer of more than 20 digits"  # str() refuses integers of more than 4,300 digits
    kinds: dict[type, str] = {dict: "an object", list: "an array", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), str(value)[:20])
