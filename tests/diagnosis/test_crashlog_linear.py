"""Every pattern of the crash-log rules takes time in proportion to the log, whatever the log is made to hold.

It reads the parse tree of patterns, which has another form on Python 3.7: so it is not among the agent's tests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import product
from re import _parser as parser  # type: ignore[attr-defined]

import pytest
from litefleet_agent.findings.crashlog import decode, rules, text
from litefleet_agent.findings.crashlog.decode import decode_log

SMALL, LARGE = (
    4096,
    16384,
)  # characters; a linear pattern takes 4 times as long for the second, a quadratic one 16 times
RATIO = 9
QUICK_S = 0.004  # below it a ratio is noise; at 1 MiB, the most that is read, it would be 0.3 s
FILLERS = ("1", "a", "_", ".", "-", " ", "\n", "/", "'", ":", "a1", "1.", "a ", ", ")


def patterns() -> list[re.Pattern]:
    found = [pattern for rule in rules.RULES for pattern in (rule.pattern, rule.needs, rule.unless) if pattern]
    found += [pattern for _, pattern, _ in rules.ENDINGS] + list(rules.CHECKS) + list(decode._OPERATORS)
    found += [pattern for _, pattern in decode._ARCHES]
    for module in (decode, text):
        found += [value for value in vars(module).values() if isinstance(value, re.Pattern)]
    return list({pattern.pattern: pattern for pattern in found}.values())


def examples(tree, most: int = 24) -> list[str]:
    """Return texts that a pattern matches, or nearly: one for each way through its alternatives, up to a number."""
    whole = [""]
    for kind, value in tree:
        whole = ["".join(pair) for pair in product(whole, part(str(kind), value))][:most]
    return whole


def part(kind: str, value) -> list[str]:
    if kind == "LITERAL":
        return [chr(value)]
    if kind == "IN":
        return [member(value)]
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        least, _, inner = value
        return [one * max(1, min(least, 40)) for one in examples(inner)]
    if kind == "SUBPATTERN":
        return examples(value[-1])
    if kind == "BRANCH":
        return [one for branch in value[1] for one in examples(branch)]
    return ["a"] if kind in ("ANY", "NOT_LITERAL") else [""]


def member(choices) -> str:
    classes = {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_NOT_WORD": "-"}
    for kind, value in choices:
        if str(kind) == "NEGATE":
            return "b"
        if str(kind) == "LITERAL":
            return chr(value)
        return chr(value[0]) if str(kind) == "RANGE" else classes.get(str(value), "a")
    return "a"


def inputs(pattern: re.Pattern, size: int) -> Iterator[str]:
    """Yield texts of a size: repeats of every beginning of an example, and beginnings followed by a run of one kind."""
    beginnings = {""}
    for example in examples(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)):
        beginnings.update(example[:end] for end in range(1, len(example) + 1))
    units = list(FILLERS) + sorted(beginnings - {""})
    for unit in units:
        yield (unit * (size // len(unit) + 1))[:size]
    for beginning in sorted(beginnings)[:: max(1, len(beginnings) // 12)]:
        for filler in FILLERS:
            yield (beginning + filler * size)[:size]


def seconds(pattern: re.Pattern, log: str) -> float:
    begun = time.process_time()
    for _ in pattern.finditer(log):
        pass
    return time.process_time() - begun


def test_the_patterns_are_found() -> None:
    assert len(patterns()) > 150
    assert all(
        pattern.search(example)
        for pattern in list(patterns())[:3]
        for example in examples(parser.parse(pattern.pattern))
    )


@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.pattern[:60])
def test_a_pattern_is_linear_in_its_worst_input(pattern: re.Pattern) -> None:
    for small, large in zip(inputs(pattern, SMALL), inputs(pattern, LARGE), strict=True):
        took = seconds(pattern, large)
        if took < QUICK_S:
            continue
        took = min(took, *(seconds(pattern, large) for _ in range(3)))
        before = min(seconds(pattern, small) for _ in range(4))
        assert took < QUICK_S or took / before < RATIO, (small[:60], before, took)


@pytest.mark.parametrize("log", ["1" * (32 << 10), "1 " * (16 << 10), "paddle" * (8 << 10), "._" * (16 << 10)])
def test_a_log_of_one_kind_is_decoded_at_once(log: str) -> None:
    begun = time.process_time()
    decode_log(log)
    assert time.process_time() - begun < 2  # 32 KiB of digits took 5.8 s
