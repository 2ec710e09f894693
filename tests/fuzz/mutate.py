"""Mutations of bytes and of JSON values.  A `random.Random` decides everything, so that each input can be made again."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["HOSTILE_VALUES", "mutated_bytes", "mutated_value"]

_EDGES = (
    0,
    1,
    2,
    3,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 62,
    (1 << 64) - 1,
)
_MOST = 1 << 20  # bytes of a mutated input

HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", "0", "x" * 300, "\0", "\ud800", "é\u202e", "\x1b[31m", "../../pwn", "/etc/passwd", "a" * 64, "g" * 64,
    "1e999", "%s%n", "{0}", [], {}, [[]], [None] * 200, {"": None}, {"a": {"b": {"c": []}}}, [0] * 3, ["a", 1, None],
)  # fmt: skip


def mutated_bytes(dice: random.Random, samples: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """Return one of the samples after one to eight mutations; `words` are pieces that the format knows."""
    data = bytearray(dice.choice(samples))
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        dice.choice(_MUTATIONS)(dice, data, samples, words)
        del data[_MOST:]
    return bytes(data)


def _place(dice: random.Random, data: bytearray) -> int:
    """Return an offset; the start of a file, where headers are, is as likely as all the rest."""
    most = min(len(data), 256) if dice.random() < 0.5 else len(data)
    return dice.randrange(most + 1)


def _flip(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = _place(dice, data)
    if at < len(data):
        data[at] ^= 1 << dice.randrange(8)


def _set(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    at, width = _place(dice, data), dice.choice((1, 2, 4, 8))
    number = dice.choice((dice.choice(_EDGES), len(data), dice.getrandbits(8 * width))) & (256**width - 1)
    data[at : at + width] = number.to_bytes(width, dice.choice(("little", "big")))


def _delete(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = _place(dice, data)
    del data[at : at + dice.choice((1, 4, 16, 300))]


def _cut(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    del data[_place(dice, data) :]


def _insert(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = _place(dice, data)
    data[at:at] = dice.choice(words) if words and dice.random() < 0.7 else dice.randbytes(dice.choice((1, 4, 16)))


def _repeat(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    at, size = _place(dice, data), dice.choice((1, 2, 8, 64))
    data[at:at] = data[at : at + size] * dice.choice((1, 2, 50, 1000))


def _splice(dice: random.Random, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
    other = dice.choice(samples)
    begin, size = dice.randrange(len(other) + 1), dice.choice((8, 64, 1024))
    at = _place(dice, data)
    data[at : at + size] = other[begin : begin + size]


_MUTATIONS: tuple[Callable[[random.Random, bytearray, Sequence[bytes], Sequence[bytes]], None], ...] = (
    _flip, _flip, _set, _set, _delete, _cut, _insert, _insert, _repeat, _splice,
)  # fmt: skip


def mutated_value(dice: random.Random, samples: Sequence[Any], hostile: Sequence[Any] = HOSTILE_VALUES) -> Any:
    """Return a copy of one of the JSON samples with one to three of its parts replaced, removed or added."""
    value = [copy.deepcopy(dice.choice(samples))]
    for _ in range(dice.choice((1, 1, 2, 3))):
        _change(dice, value, hostile)
    return value[0]


def _change(dice: random.Random, value: Any, hostile: Sequence[Any]) -> None:
    """Change one part of a list or dictionary, in place; walk down to it by chance."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = dice.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and dice.random() < 0.85:
            value = inner
            continue
        kind = dice.randrange(6)
        if kind == 0 and isinstance(value, dict):
            del value[key]
        elif kind == 1 and isinstance(value, dict):
            other = dice.choice(hostile)
            value[other if isinstance(other, str) else "x"] = inner
        elif kind == 2:
            value[key] = value[dice.choice(keys)]
        else:
            value[key] = copy.deepcopy(dice.choice(hostile))
        return
