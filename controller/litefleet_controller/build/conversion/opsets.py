"""The operators that each Paddle-Lite converter accepts for each target, as the converters report them.

`tools/make_opsets.py` writes the table.  The converter checks the operators of the source program before any of its own
passes, so it rejects every operator that the table rejects; an accepted one may still fail later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ...config.choices import split_targets

OPSETS = Path(__file__).with_name("opsets.json")


@cache
def _table() -> Any:
    """Return {"ops": every known name, "lacks": {version: {target: refused names}}}."""
    return json.loads(OPSETS.read_text(encoding="utf-8"))


def versions() -> tuple[str, ...]:
    """Return the versions that the table holds, the newest first."""
    return tuple(_table()["lacks"])


def knows(target: str, version: str) -> bool:
    """Whether the table covers these targets ("arm", "opencl,arm") and this version."""
    by_target = _table()["lacks"].get(version, {})
    return bool(split_targets(target)) and all(name in by_target for name in split_targets(target))


@cache
def _refused(target: str, version: str) -> frozenset[str]:
    """Return the known operators that none of the targets accepts."""
    by_target = _table()["lacks"][version]
    return frozenset.intersection(*(frozenset(by_target[name]) for name in split_targets(target)))


def unsupported(ops: Iterable[str], target: str, version: str) -> tuple[str, ...]:
    """Return the operators that this converter rejects for these targets, sorted; none where the table lacks them."""
    if not knows(target, version):
        return ()
    known = frozenset(_table()["ops"])
    return tuple(sorted(op for op in set(ops) if op not in known or op in _refused(target, version)))


def versions_that_convert(ops: Iterable[str], target: str) -> tuple[str, ...]:
    """Return the versions whose converter accepts all of the operators for these targets, the newest first."""
    named = set(ops)
    return tuple(v for v in versions() if knows(target, v) and not unsupported(named, target, v))
