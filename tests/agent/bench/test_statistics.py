"""A bench's figures without a device: percentiles, time series, pairs of blocks, throttling, the plan."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefleet_agent.bench.plan import BenchOptions, options_of_request
from litefleet_agent.bench.report_text import caveats_of
from litefleet_agent.bench.results import Columns, Latencies, OverTime, ReleaseResult, StartReport
from litefleet_agent.bench.statistics import Samples, compare_pairs, sentence, verdict
from litefleet_agent.bench.timeseries import COLUMNS, Series, rows_of
from litefleet_agent.bench.trends import throttled
from litefleet_agent.errors import AgentError
from litefleet_agent.verification.golden_cases import median, nearest_rank

times = st.floats(min_value=1e-3, max_value=1e5)


# --- ranks and samples


@given(st.lists(times, min_size=1))
def test_a_median_is_the_one_of_the_standard_library(values: list) -> None:
    assert median(values) == pytest.approx(statistics.median(values))


@given(st.lists(times, min_size=1), st.floats(min_value=0.01, max_value=1.0))
def test_a_rank_is_the_smallest_value_that_so_many_do_not_exceed(values: list, share: float) -> None:
    found = nearest_rank(sorted(values), share)
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-9
    assert all(sum(v <= other for v in values) < share * len(values) for other in values if other < found)


def test_a_median_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])


@given(st.lists(st.lists(times, max_size=20), max_size=10))
def test_figures_are_ordered_and_count_every_run(blocks: list) -> None:
    samples = Samples()
    for block in blocks:
        samples.add(block)
    every = [ms for block in blocks for ms in block]
    if not every:
        with pytest.raises(ValueError, match="no runs"):
            samples.statistics()
        return
    told = samples.statistics()
    assert told.runs == len(every)
    assert (told.min, told.max) == (min(every), max(every))
    assert told.mean == pytest.approx(sum(every) / len(every), abs=1e-3)
    ranks = [told.min, told.p50, told.p90, told.p99, told.p999, told.max]
    assert ranks == sorted(ranks)
    assert told.to_dict()["max"] == round(max(every), 4)


def test_a_bound_on_what_is_kept_keeps_both_of_two_cases_that_take_turns() -> None:
    """Every second run is of the slow case: dropping every second sample would drop one of the cases."""
    samples = Samples(most=256)
    for _ in range(500):
        samples.add([1.0, 9.0] * 50)
    told = samples.statistics()
    assert told.runs == 50_000
    assert told.mean == 5.0
    assert (told.min, told.p90, told.max) == (1.0, 9.0, 9.0)
    slow = [ms for ms in samples._kept if ms == 9.0]
    assert len(samples._kept) <= 256
    assert 0.3 < len(slow) / len(samples._kept) < 0.7


# --- over time


@given(st.lists(st.tuples(st.floats(min_value=0.01, max_value=400), st.lists(times, max_size=30)), max_size=20))
def test_a_series_is_bounded_and_loses_no_run(blocks: list) -> None:
    series = Series(most=16)
    now, count, highest = 0.0, 0, 0.0
    for seconds, block in blocks:
        series.runs(now, now + seconds, block)
        now += seconds
        count += len(block)
        highest = max([highest, *block])
    columns = series.columns()
    assert tuple(columns) == COLUMNS
    assert {len(column) for column in columns.values()} <= {len(columns["t"])}
    assert len(columns["t"]) <= 17
    assert sum(columns["runs"]) == count
    assert columns["t"] == sorted(columns["t"])
    assert max([ms for ms in columns["max"] if ms is not None], default=0.0) == pytest.approx(highest, abs=1e-4)


def test_of_what_was_seen_in_one_stretch_the_worst_stays() -> None:
    series = Series(most=4)
    for t in range(40):
        series.observe(float(t), {"rss": 100 + t, "temperature": None, "frequency": 1800 - t, "available": 900 - t})
    columns = series.columns()
    assert len(columns["t"]) <= 5
    assert columns["rss"][-1] == 139
    assert columns["frequency"][-1] == 1761
    assert columns["available"][-1] == 861
    assert columns["temperature"] == [None] * len(columns["t"])
    assert rows_of(columns, "t", "temperature") == []
    assert len(rows_of(columns, "t", "rss")) == len(columns["t"])


def test_runs_lie_at_the_time_when_they_ended() -> None:
    series = Series()
    series.runs(0.0, 1.0, [10.0] * 100)
    columns = series.columns()
    assert columns["runs"][0] == pytest.approx(10, abs=2)
    assert sum(columns["runs"]) == 100
    assert columns["t"][-1] == pytest.approx(1.0, abs=0.11)


# --- one release against another


def noisy(ratio: float, count: int, seed: int) -> list:
    chance = random.Random(seed)
    return [
        (a, a * ratio * chance.lognormvariate(0, 0.1)) for a in (chance.lognormvariate(1, 0.3) for _ in range(count))
    ]


@pytest.mark.parametrize(("ratio", "said"), [(1.15, "slower"), (0.85, "faster")])
def test_a_difference_is_told_through_noise_that_is_as_large(ratio: float, said: str) -> None:
    found = compare_pairs(noisy(ratio, 200, 1))
    assert verdict(found) == said
    assert found.low <= ratio <= found.high
    assert said in sentence(found, "a", "b")


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(400):
        found = compare_pairs(noisy(1.1, 40, seed))
        held += found.low <= 1.1 <= found.high
    assert 0.93 <= held / 400 <= 1.0


def test_two_of_the_same_are_not_told_apart() -> None:
    found = compare_pairs(noisy(1.0, 120, 3))
    assert verdict(found) == "not told apart"
    assert "are not told apart" in sentence(found, "a", "b")


def test_a_drift_that_hits_both_counts_for_neither() -> None:
    """It makes whatever runs later slower, and the order changes from pair to pair."""
    pairs = [(1.0 + i * 0.1, (1.0 + i * 0.1) * (1.05 if i % 2 else 0.95)) for i in range(60)]
    assert verdict(compare_pairs(pairs)) == "not told apart"


alike = st.floats(min_value=1.0, max_value=3.0)


@given(st.lists(st.tuples(alike, alike), min_size=6, max_size=300))
def test_a_comparison_turned_round_is_its_mirror(pairs: list) -> None:
    found = compare_pairs(pairs)
    assert found.low <= found.ratio <= found.high
    assert found.pairs == len(pairs)
    if len(pairs) % 2 and len(pairs) <= 50:  # else medians of an even count are means
        back = compare_pairs([(b, a) for a, b in pairs])
        assert back.ratio == pytest.approx(1 / found.ratio, rel=1e-3)


def test_too_few_pairs_tell_nothing() -> None:
    found = compare_pairs([(1.0, 5.0)] * 5)
    assert (found.low, found.high, verdict(found)) == (None, None, "not told apart")
    assert "measure longer" in sentence(found, "a", "b")
    assert compare_pairs([]) is compare_pairs([(0.0, 1.0)]) is None
    assert "were not compared" in sentence(None, "a", "b")


# --- throttling


def recorder(mhz: list, p50: list, celsius: object = None) -> dict:
    none = [None] * len(mhz)
    heat = none if celsius is None else [celsius] * len(mhz)
    return {"t": list(range(len(mhz))), "frequency": mhz, "p50": p50, "temperature": heat}


def test_a_cpu_that_slows_down_is_told_with_its_heat() -> None:
    found = throttled(recorder([1800] * 20 + [1200] * 20, [10.0] * 20 + [15.0] * 20, 84.2))
    assert found is not None
    assert found.code == "LF421"
    assert not found.decides
    assert found.observed == (
        "After 20 s the CPU's frequency fell from 1800 to 1200 MHz, and p50 rose from 10 to 15 ms; "
        "it was up to 84 degrees Celsius hot."
    )


@pytest.mark.parametrize(
    ("mhz", "p50"),
    [
        ([1800] * 40, [10.0] * 20 + [15.0] * 20),  # slower, at the same clock rate
        ([1800] * 20 + [1200] * 20, [10.0] * 40),  # a lower rate that costs nothing
        ([1800] * 38 + [1200] * 2, [10.0] * 38 + [15.0] * 2),  # too short
        ([600] * 10 + [1800] * 30, [15.0] * 10 + [10.0] * 30),  # a governor that wakes up
        ([None] * 40, [10.0] * 20 + [15.0] * 20),  # the kernel does not tell
        ([1800, 1200] * 4, [10.0, 15.0] * 4),  # too few
        ([], []),
    ],
)
def test_what_is_no_throttling(mhz: list, p50: list) -> None:
    assert throttled(recorder(mhz, p50)) is None


# --- the plan


def test_without_a_word_a_bench_takes_about_ten_seconds() -> None:
    plan = options_of_request({}, cpus=4)
    assert (plan.workers, plan.threads) == ((1, 4), (0,))
    assert plan.steady_s(1) + len(plan.matrix) * plan.cell_s(1) == pytest.approx(10.0)
    assert options_of_request({}, cpus=0).workers == options_of_request({}, cpus=1).workers == (1,)
    assert options_of_request({}, cpus=64).workers == (1, 4)


@given(st.floats(min_value=1, max_value=86400), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_most_of_the_time_goes_to_what_is_watched_over_time(
    s: float, workers: int, threads: int, releases: int
) -> None:
    plan = BenchOptions(s, threads=tuple(range(threads)), workers=tuple(range(1, workers + 1)))
    cell = plan.cell_s(releases)
    assert 0.5 <= cell <= 10
    assert plan.steady_s(releases) >= 0.6 * s - 1e-6


def test_a_number_of_runs_is_not_cut_short() -> None:
    plan = options_of_request({"runs": 500}, cpus=2)
    assert (plan.runs, plan.counted, plan.steady_s(1)) == (500, True, 3600.0)
    both = options_of_request({"runs": 500, "seconds": 20}, cpus=2)
    assert (both.counted, both.steady_s(1) < 20) == (False, True)


@pytest.mark.parametrize(
    "header",
    [
        {"runs": 9}, {"runs": "many"}, {"runs": True}, {"runs": 1e3}, {"seconds": 0}, {"seconds": 1e6}, {"seconds": "1"},
        {"seconds": float("nan")}, {"threads": []}, {"threads": [257]}, {"threads": 2}, {"threads": [True]}, {"workers": [0]},
        {"workers": [65]}, {"workers": list(range(1, 18))}, {"workers": [1, 2, 3, 4, 5], "threads": [1, 2, 3, 4]},
        {"workers": {"1": 1}},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(header: dict) -> None:
    with pytest.raises(AgentError) as caught:
        options_of_request(header, 4)
    assert caught.value.code == "bad-request"
    assert "at most 16" in str(caught.value) or f"`{next(iter(header))}`" in str(caught.value)


# --- what is said beside


def release(threads_set_by="set_threads", left_out=0, others=0.0, runs=5000, sensors=(50.0, 1800.0)) -> ReleaseResult:
    warm = Latencies(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, runs)
    series: Columns = {"temperature": [sensors[0]], "frequency": [sensors[1]]}
    over_time = OverTime(warm, warm, 1000.0, 1.0, others, None, None, series)
    start = StartReport(0.0, 1.0, 1.0, 1.0, 0, {}, "2.13", "1.26", threads_set_by)
    return ReleaseResult("a" * 64, True, 2, left_out, (start,), {}, over_time)


def test_nothing_is_said_where_nothing_has_to_be() -> None:
    assert caveats_of([release()], False) == []


def test_the_caveats_of_two_alike_releases_are_stated_once() -> None:
    told = release("environment", left_out=3, others=0.34, runs=42, sensors=(None, None))
    assert caveats_of([told, told], True) == [
        "This Paddle-Lite has no set_threads: threads were asked for by OpenMP's variables; "
        "the CPUs kept busy show whether that counted.",
        "3 of the golden cases were left out: a predictor keeps to inputs of one size.",
        "Other programs used about 30 % of the CPU meanwhile: alone, it is quicker.",
        "There were 42 runs: p99 and p99.9 say little.",
        "The kernel reports no temperature and no clock rate: throttling cannot be seen here.",
        "Measured at low priority: whatever else ran went first.",
    ]
