"""When a rollout stops, and the sentence that says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from litefleet_controller.rollout import DeviceRow, DeviceState, RolloutEvent
from litefleet_controller.rollout.gates import Fired, Tallies, evaluate, names
from litefleet_controller.rollout.policy import ClusterLimit, GateLimit, Gates, Regression
from litefleet_controller.rollout.totals import totals_of

F, OPEN = DeviceState.FAILED, GateLimit()


def gates(**some: GateLimit | Regression) -> Gates:
    """Only the gates that are given; the others are open."""
    shut = {
        "canary": OPEN,
        "wave": OPEN,
        "total": OPEN,
        "cluster": ClusterLimit(),
        "regression": Regression(count=None),
    }
    return Gates(**{**shut, **some})


def row(number: int, wave: int = 1, state: DeviceState = DeviceState.PENDING, **more: object) -> DeviceRow:
    return replace(DeviceRow(f"cam-{number}", "cls", wave, number, state, part="Cortex-A53", libc="glibc 2.36"), **more)


def bad(number: int, wave: int = 1, code: str = "LF401", **more: object) -> DeviceRow:
    return row(number, wave, F, codes=(code,), attempts=1, **more)


def judge(limits: Gates, *rows: DeviceRow) -> Fired | None:
    by_device: dict[str, list[DeviceRow]] = {}
    for one in rows:
        by_device.setdefault(one.device, []).append(one)
    tallies = Tallies()
    for mine in by_device.values():
        tallies.put(totals_of(mine), 1)
    return evaluate(limits, tallies)


def good(*numbers: int, wave: int = 1) -> list[DeviceRow]:
    return [row(n, wave, DeviceState.CONFIRMED, attempts=1) for n in numbers]


def test_a_cluster_of_one_cause_on_one_cpu_stops_at_its_count():
    limits = gates(cluster=ClusterLimit(count=3))
    assert judge(limits, bad(3), bad(9)) is None
    fired = judge(limits, bad(10), bad(9), bad(3), *good(1, 2))
    assert fired == Fired(
        "cluster",
        RolloutEvent.PAUSE,
        "3 devices with Cortex-A53 failed with LF401 (crashed); the limit is 3: cam-3, cam-9, cam-10",
        ("cam-3", "cam-9", "cam-10"),
    )


def test_clusters_are_apart_by_cause_and_cpu_and_need_to_know_the_cpu():
    limits = gates(cluster=ClusterLimit(count=2))
    assert (
        judge(limits, bad(1), bad(2, code="LF402"), bad(3, part="Cortex-A72"), bad(4, part=""), bad(5, part="")) is None
    )
    assert judge(limits, bad(1), bad(2, wave=4)) is not None


def test_the_first_code_of_a_device_counts_and_two_models_count_once():
    limits = gates(cluster=ClusterLimit(count=2))
    assert judge(limits, bad(1), bad(1, model="det"), replace(bad(2), codes=("LF402", "LF401"))) is None
    fired = judge(limits, bad(1), bad(1, model="det", code="LF402"), bad(2, code="LF402"))
    assert fired is not None
    assert fired.devices == ("cam-1", "cam-2")


def test_a_few_among_many_that_were_tried_are_chance():
    limits = gates(cluster=ClusterLimit(count=3))
    few = [bad(number) for number in range(3)]
    done = [row(number, state=DeviceState.CONFIRMED) for number in range(3, 200)]
    assert judge(limits, *few, *done[:147]) is not None  # 3 of 150 are 2 %
    assert judge(limits, *few, *done) is None
    waiting = [row(number) for number in range(200, 9999)]  # not tried yet: they say nothing
    assert judge(limits, *few, *done[:147], *waiting) is not None
    assert judge(gates(cluster=ClusterLimit(count=3, of_tried=None)), *few, *done) is not None


def test_a_cluster_by_share_is_of_that_cpus_devices():
    limits = gates(cluster=ClusterLimit(share=0.5, then="abort"))
    others = [row(n, part="Cortex-A72") for n in range(10, 20)]
    assert judge(limits, bad(1), bad(2), *good(3, 4), *others) is None
    fired = judge(limits, bad(1), bad(2), bad(3), *good(4), *others)
    assert fired is not None
    assert fired.event is RolloutEvent.ABORT
    assert fired.sentence.startswith("3 of 4 devices with Cortex-A53 failed with LF401 (crashed), more than 50%: ")


def test_a_wave_stops_above_its_share():
    limits = gates(wave=GateLimit(share="10%"))
    assert judge(limits, bad(1), *good(*range(2, 11))) is None  # 10 % is not more than 10 %
    fired = judge(limits, bad(1), bad(2), *[row(n) for n in range(3, 11)], *good(*range(20, 90), wave=2))
    assert fired is not None
    assert fired.sentence == "2 of 10 devices in wave 2 failed, more than 10%: cam-1, cam-2"


def test_the_first_wave_has_its_own_gate_and_only_that():
    rows = [bad(1, wave=0), *good(2, wave=0)]
    fired = judge(gates(canary=GateLimit(count=1), wave=GateLimit(count=1)), *rows)
    assert fired is not None
    assert (fired.gate, fired.sentence) == ("canary", "1 of 2 devices in the first wave failed; the limit is 1: cam-1")
    assert judge(gates(wave=GateLimit(count=1)), *rows) is None


def test_the_total_is_of_all_who_take_part():
    limits = gates(total=GateLimit(share=0.25))
    idle = [row(n, state=DeviceState.BLOCKED) for n in range(50, 60)]
    idle += [row(n, state=DeviceState.UNCHANGED) for n in range(60, 70)]  # nothing to do from the start
    assert judge(limits, bad(1, wave=0), *good(2, 3, 4), *idle) is None
    fired = judge(limits, bad(1, wave=0), bad(2, wave=3), *good(3, 4), *idle)
    assert fired is not None
    assert (fired.gate, fired.sentence) == ("total", "2 of 4 devices failed, more than 25%: cam-1, cam-2")


@pytest.mark.parametrize(("share", "size", "limit"), [(0.29, 100, 29), (0.1, 30, 3), (0.07, 100, 7)])
def test_a_share_is_not_tripped_by_rounding(share, size, limit):
    limits = gates(total=GateLimit(share=share))
    rows = [bad(n) for n in range(limit)] + good(*range(limit, size))
    assert judge(limits, *rows) is None
    assert judge(limits, *rows[:-1], bad(size)) is not None


def test_slower_or_larger_than_before_has_its_gate():
    limits = gates(regression=Regression(count=2, then="abort"))
    assert judge(limits, bad(1, regressed=True), bad(2)) is None
    fired = judge(limits, bad(1, regressed=True), bad(2, regressed=True))
    assert fired is not None
    assert (fired.gate, fired.event) == ("regression", RolloutEvent.ABORT)
    assert fired.sentence == "2 devices are slower or larger than with the release before; the limit is 2: cam-1, cam-2"


@pytest.mark.parametrize(
    "harmless",
    [
        bad(1, forgiven=True, regressed=True),
        bad(1, code="LF615"),
        row(1, state=DeviceState.OFFLINE, codes=("LF501",)),
        row(1, state=DeviceState.BLOCKED, codes=("LF104",)),
        row(1, state=DeviceState.PENDING, regressed=True),  # is tried again
    ],
)
def test_what_was_not_tried_or_was_seen_does_not_count(harmless):
    tight = GateLimit(count=1)
    assert (
        judge(
            gates(canary=tight, wave=tight, total=tight, cluster=ClusterLimit(count=1), regression=Regression(count=1)),
            harmless,
        )
        is None
    )


def test_an_abort_goes_first_and_then_what_says_most():
    rows = [bad(1, wave=0), bad(2, wave=0)]
    one = GateLimit(count=1)
    fired = judge(gates(canary=one, cluster=ClusterLimit(count=1), total=one), *rows)
    assert fired is not None
    assert fired.gate == "cluster"
    fired = judge(gates(canary=one, cluster=ClusterLimit(count=1), total=GateLimit(count=1, then="abort")), *rows)
    assert fired is not None
    assert (fired.gate, fired.event) == ("total", RolloutEvent.ABORT)


def test_an_unknown_code_is_named_without_a_slug():
    fired = judge(gates(cluster=ClusterLimit(count=1)), bad(1, code="LF999"))
    assert fired is not None
    assert fired.sentence == "1 device with Cortex-A53 failed with LF999; the limit is 1: cam-1"


def test_counting_out_undoes_counting_in():
    tallies, device = Tallies(), totals_of([bad(1, regressed=True)])
    tallies.put(device, 1)
    assert evaluate(Gates(), tallies) is not None
    tallies.put(device, -1)
    assert evaluate(gates(total=GateLimit(count=1), cluster=ClusterLimit(count=1)), tallies) is None
    assert (tallies.total.size, tallies.total.failed, tallies.regressed, tallies.parts.total()) == (0, set(), set(), 0)


def test_ten_devices_are_named_in_the_order_of_their_numbers():
    assert names([f"cam-{n}" for n in range(24, 0, -1)]) == ", ".join(f"cam-{n}" for n in range(1, 11)) + " and 14 more"
    assert names(["b", "10", "a-2-x", "a-2", "9"]) == "9, 10, a-2, a-2-x, b"
