"""The fuzzing loop: a reader of outside bytes returns a value or raises its own error, in bounded time and memory.

LITEFLEET_FUZZ_S sets the CPU seconds of each reader (0.6 by default, in `make test`); LITEFLEET_TEST_SEED sets the seed.
Longer, by hand: `LITEFLEET_FUZZ_S=60 .venv/bin/python -m pytest -n 2 --timeout 3600 tests/fuzz`.  A failure names the seed and
the number of its input: `input_of(reader, seed, number)` makes it again.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fuzz.mutate import mutated_bytes, mutated_value

__all__ = ["Reader", "Values", "fuzz", "input_of"]

SECONDS = float(os.environ.get("LITEFLEET_FUZZ_S", "0.6"))
SEED = int(os.environ.get("LITEFLEET_TEST_SEED", "20261128"))
MEASURE_EVERY = 40  # inputs: tracing memory makes a reader several times slower


@dataclass(frozen=True)
class Reader:
    """A reader of bytes: its samples, which it must accept, and the errors with which it may reject."""

    name: str
    samples: Sequence[Any]
    read: Callable[[Any], object]
    errors: tuple[type[BaseException], ...]
    words: Sequence[bytes] = ()
    limit_s: float = 1.0  # of CPU for one input
    limit_bytes: int = 64 << 20  # above which no input may take the reader
    least: int = 50  # inputs that are tried at least, however slow the machine

    def make(self, dice: random.Random) -> Any:
        """Return one input."""
        return mutated_bytes(dice, self.samples, self.words)


@dataclass(frozen=True)
class Values(Reader):
    """A reader of JSON values."""

    def make(self, dice: random.Random) -> Any:
        """Return one input."""
        return mutated_value(dice, self.samples)


def input_of(reader: Reader, seed: int, number: int) -> Any:
    """Return the input of this number."""
    return reader.make(random.Random(f"{reader.name} {seed} {number}"))


def fuzz(reader: Reader, record_property: Callable[[str, object], None] | None = None) -> None:
    """Try inputs for SECONDS of CPU, or twice as long where it waits for disks; the first that is not handled fails the test."""
    for sample in reader.samples:
        reader.read(sample)
    begun, began, number, accepted = time.process_time(), time.monotonic(), 0, 0
    while number < reader.least or (time.process_time() - begun < SECONDS and time.monotonic() - began < 2 * SECONDS):
        given = input_of(reader, SEED, number)
        accepted += _try(reader, given, number)
        number += 1
    assert accepted < number or not reader.errors, "no input was rejected: the mutations reach nothing"
    if record_property is not None:
        record_property("inputs", number)
        record_property("accepted", accepted)


def _try(reader: Reader, given: Any, number: int) -> bool:
    measured = number % MEASURE_EVERY == 0
    if measured:
        tracemalloc.start()
    begun = time.thread_time()
    try:
        accepted = _read(reader, given, number)
        seconds = time.thread_time() - begun
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
    finally:
        if measured:
            tracemalloc.stop()
    if peak > reader.limit_bytes:
        pytest.fail(f"{_about(reader, given, number)}: took {peak >> 20} MiB")
    if seconds > reader.limit_s and not measured:
        seconds = min(_seconds(reader, given) for _ in range(3))  # a busy machine is not the reader's fault
        if seconds > reader.limit_s:
            pytest.fail(f"{_about(reader, given, number)}: took {seconds:.1f} s of CPU")
    return accepted


def _read(reader: Reader, given: Any, number: int) -> bool:
    try:
        reader.read(given)
    except reader.errors as error:
        if not str(error):
            pytest.fail(f"{_about(reader, given, number)}: an error without a text")
        return False
    except Exception as error:
        raise AssertionError(f"{_about(reader, given, number)}: {type(error).__name__}: {error}") from error
    return True


def _seconds(reader: Reader, given: Any) -> float:
    begun = time.thread_time()
    with contextlib.suppress(*reader.errors):
        reader.read(given)
    return time.thread_time() - begun


def _about(reader: Reader, given: Any, number: int) -> str:
    return f"{reader.name}, seed {SEED}, input {number}: {given!r:.400}"
