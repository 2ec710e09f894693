"""Whether a release is slower or larger than the one that runs: found by two verifications, confirmed by a bench of both.

The two verifications may be days apart, and anything else on the device slows one of them down: on a busy machine an unchanged
release differed by 54 % (7.1 ms after 4.6 ms).  So what they show is measured again before it counts: the agent's bench runs both
releases in turn, block by block, with the engine that the new one will run with, and gives the interval that holds their ratio
with 95 % confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from litefleet_agent.findings import Finding, finding
from litefleet_agent.verification.engine import ENGINE_NAMES, recorded_engine

from ..common.checked import mapping_or_empty, number_at, number_or, sequence_or_empty
from ..rollout.policy import Regression
from .agent_client import Request

_SECONDS = 4.0  # of measuring, besides the starts of both releases
BENCH_LIMIT_S = (
    600.0  # after which a bench without an answer counts as hanging: a slow device starts processes for minutes
)
_SLOWER, _LARGER = "LF413", "LF414"


@dataclass(frozen=True)
class Confirmed:
    """What is left of the regressions that two verifications showed, and what the bench says of those it rejects."""

    findings: tuple[Finding, ...]
    note: str = ""


def regressions(before: object, now: object, limits: Regression) -> list[Finding]:
    """Return LF413 and LF414 where `now` is slower or larger than `before` by more than `limits` allow.

    Both are measurements as the agent gives them, of two releases on the same device.
    """
    found = []
    old, new = number_at(before, "latency_ms", "min"), number_at(now, "latency_ms", "min")
    if limits.latency is not None and _grew(old, new, limits.latency, limits.latency_floor_ms):
        found.append(finding(_SLOWER, f"fastest run {new:.1f} ms, before {old:.1f} ms: {new / old - 1:+.0%}"))
    old, new = (number_at(m, "peak_rss_bytes") / 2**20 for m in (before, now))
    if limits.memory is not None and _grew(old, new, limits.memory, limits.memory_floor_mb):
        found.append(finding(_LARGER, f"peak memory {new:.0f} MiB, before {old:.0f} MiB: {new / old - 1:+.0%}"))
    return found


def other_engine(before: object, now: object) -> str:
    """Return a sentence where two measurements were made with different engines, "" where with the same one.

    The native engine takes about 15 MiB less than the binding: no numpy is loaded.
    """
    old, new = (recorded_engine(mapping_or_empty(measured)) for measured in (before, now))
    if old == new or not mapping_or_empty(before):
        return ""
    measured = f"the release before was measured with {ENGINE_NAMES[old]}, this one with {ENGINE_NAMES[new]}"
    return f"{measured}: memory differs by that too"


def bench_request(model: str, before: str, now: str) -> Request:
    """Return the request that measures the releases `before` and `now` in turn."""
    fields = {"model": model, "release": before, "against": now, "seconds": _SECONDS, "workers": [1]}
    return Request("bench", fields)


def confirmed(found: Sequence[Finding], answer: Mapping[str, object], limits: Regression) -> Confirmed:
    """Return which of `found` the bench confirms.

    A latency's growth counts when the whole interval of the ratio is above the limit; memory's, which has no interval, when both
    measurements show it.  Where the bench measured nothing, the first measurement stands.
    """
    kept, notes = [], []
    for one in found:
        again = (_latency if one.code == _SLOWER else _memory)(answer, limits)
        if again is None:
            kept.append(finding(one.code, f"{one.observed}; measured again: no figures"))
        elif again[0]:
            kept.append(finding(one.code, f"{one.observed}; measured again in turn: {again[1]}"))
        else:
            notes.append(f"{one.observed}; measured again in turn: {again[1]}, which is no regression")
    return Confirmed(tuple(kept), "\n".join(notes))


def _latency(answer: Mapping[str, object], limits: Regression) -> tuple[bool, str] | None:
    """Return whether the bench's interval excludes an allowed growth, and its figures; None without any."""
    compared = mapping_or_empty(answer.get("comparison"))
    ratio, low, high = (number_or(compared.get(name), 0, 1e15) for name in ("ratio", "low", "high"))
    if ratio <= 0 or low <= 0 or limits.latency is None:
        return None
    grown_ms = number_or(compared.get("difference_ms"), -1e15, 1e15)
    excluded = low > 1 + limits.latency and grown_ms > limits.latency_floor_ms
    return excluded, f"{ratio - 1:+.0%} ({low - 1:+.0%} to {high - 1:+.0%}), {grown_ms:+.1f} ms"


def _memory(answer: Mapping[str, object], limits: Regression) -> tuple[bool, str] | None:
    peaks = [number_at(one, "memory", "peak") / 2**20 for one in sequence_or_empty(answer.get("releases"))[:2]]
    if len(peaks) < 2 or min(peaks) <= 0 or limits.memory is None:
        return None
    old, new = peaks
    return _grew(old, new, limits.memory, limits.memory_floor_mb), f"{new:.0f} MiB, before {old:.0f} MiB"


def _grew(old: float, new: float, share: float, floor: float) -> bool:
    return old > 0 and new - old > floor and new > old * (1 + share)
