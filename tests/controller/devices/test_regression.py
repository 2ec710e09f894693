"""What a second measurement confirms of a regression that two verifications showed."""

from __future__ import annotations

from typing import Any

import pytest
from litefleet_controller.devices.regression import bench_request, confirmed, other_engine, regressions
from litefleet_controller.rollout.policy import Regression

LIMITS = Regression()  # 50 % and 2 ms; 50 % and 16 MiB
MIB = 2**20


def measured(latency_ms: float, memory_mib: float) -> dict[str, Any]:
    return {"latency_ms": {"min": latency_ms}, "peak_rss_bytes": memory_mib * MIB}


def benched(
    ratio: tuple[float, float | None, float | None], difference_ms: float, *memory_mib: float
) -> dict[str, Any]:
    value, low, high = ratio
    return {
        "comparison": {"ratio": value, "low": low, "high": high, "difference_ms": difference_ms, "pairs": 40},
        "releases": [{"memory": {"peak": int(peak * MIB)}} for peak in memory_mib],
    }


BOTH = regressions(measured(4.6, 60), measured(7.1, 100), LIMITS)


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (benched((1.7, 1.6, 1.8), 4.0, 60, 100), ["LF413", "LF414"]),
        (benched((1.7, 1.49, 1.9), 4.0, 60, 100), ["LF414"]),  # the interval does not exclude what is allowed
        (benched((1.7, 1.6, 1.8), 1.9, 60, 80), []),  # both grew by less than the floors
        (benched((1.0, 0.9, 1.1), 0.0, 60, 61), []),
        ({}, ["LF413", "LF414"]),  # nothing was measured: the first measurement stands
        (benched((1.7, None, None), 4.0, 60), ["LF413", "LF414"]),  # too few pairs, and one release alone
        ({"comparison": [1], "releases": {"memory": 5}}, ["LF413", "LF414"]),
        (benched((1e308, 1e308, 1e308), 1e308, 60, 60), ["LF413"]),
    ],
)
def test_only_what_the_second_measurement_excludes_counts(answer: dict[str, Any], codes: list[str]) -> None:
    assert [f.code for f in BOTH] == ["LF413", "LF414"]
    again = confirmed(BOTH, answer, LIMITS)
    assert [f.code for f in again.findings] == codes
    assert all("measured again" in f.observed for f in again.findings)
    assert again.note.count("no regression") == 2 - len(codes)


def test_both_releases_are_measured_in_turn_by_one_worker_each() -> None:
    request = bench_request("cls", "aa" * 32, "bb" * 32)
    assert request.op == "bench"
    assert (request.fields["release"], request.fields["against"]) == ("aa" * 32, "bb" * 32)
    assert request.fields["workers"] == [1]


def test_figures_of_another_engine_are_said_to_be_so() -> None:
    native, binding, old = {"engine": "native"}, {"engine": "binding"}, {"latency_ms": {}}
    assert other_engine(old, native) == other_engine(binding, native)
    assert "measured with Paddle-Lite's Python binding, this one with the native engine" in other_engine(old, native)
    assert "measured with the native engine, this one with Paddle-Lite's" in other_engine(native, binding)
    assert not any(other_engine(*pair) for pair in ((native, native), (old, binding), ({}, native), (None, native)))
