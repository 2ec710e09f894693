"""A bench for people: the table, the page and the pictures; whatever is missing, and whatever a device says."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.bench.figures import figures_of
from litefleet_controller.devices.outcome import DeviceOutcome, to_json
from litefleet_controller.reports.bench_text import bench_text
from litefleet_controller.reports.charts.bench import charts_of, to_svg
from litefleet_controller.reports.charts.scale import Axis, axis_around, axis_from_zero, number_text
from litefleet_controller.reports.html import to_html

from tests.controller.support.bench_answers import (
    FIRST,
    answer,
    bare,
    cell,
    latency,
    measured,
    release,
    report,
    series,
    two,
)

SVG = "{http://www.w3.org/2000/svg}"
HOT = finding("LF421", "After 312 s the CPU's frequency fell from 1800 to 1200 MHz, and p50 rose from 12.1 to 18.0 ms.")
GROWS = finding("LF419", "Resident memory grew from 84.1 MB to 141.6 MB in 60000 runs, 0.96 MB per 1,000 runs.")
ATTACK = "</svg><script>alert(1)</script>\x1b[31m\u202e&\"'"


def titles(told: dict[str, Any]) -> list[str]:
    figures = figures_of(measured(told))
    assert figures is not None
    return [chart.title for chart in charts_of(figures)]


# --- pictures


def test_every_series_has_a_picture_with_its_unit() -> None:
    assert titles(two()) == [
        "7098e20b against 6557c180: latency (%), 95 % interval",
        "Latency over time (ms): p50, and up to the slowest run",
        "Latency percentiles of the model alone (ms)",
        "Throughput (runs a second), by workers and threads",
        "Memory of one process (MB)",
        "Cold start (ms), until the first answer",
        "CPU temperature (°C)",
        "CPU clock rate (MHz)",
        "Available memory (MB)",
        "CPU used by other programs (%)",
    ]


def test_what_was_not_seen_has_no_picture() -> None:
    assert titles(bare()) == ["Latency percentiles of the model alone (ms)"]
    silent = series() | dict.fromkeys(("temperature", "frequency", "available", "others", "rss"), [None] * 60)
    assert [t for t in titles(answer(releases=[release(series=silent)], cells=[])) if "CPU" in t or "Memory" in t] == []
    assert titles({"model": "cls", "seconds": 1.0}) == []
    assert "Throughput" not in " ".join(
        titles(answer(cells=[{"release": FIRST, "workers": 1, "threads": 0, "skipped": "no room"}]))
    )


@pytest.mark.parametrize("name", ["answer", "two", "bare"])
def test_the_file_is_well_formed_and_needs_nothing_from_outside(name: str) -> None:
    reported = {"answer": answer, "two": two, "bare": bare}[name]()
    text = to_svg(report(measured(reported, ATTACK, GROWS), measured(reported)))
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter(f"{SVG}image"))
    assert not re.search(r"href|url\(|@import|javascript:|on[a-z]+=", text)
    assert text.count("http") == 1  # the namespace
    assert "prefers-color-scheme: dark" in text
    assert "var(--" not in text
    assert "nan" not in text.lower().replace("nano", "")
    assert "\x1b" not in text
    assert "&lt;/svg&gt;&lt;script&gt;" in text


def test_texts_and_shapes_stay_inside_of_the_picture() -> None:
    root = ElementTree.fromstring(to_svg(report(measured(two()))))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    assert [float(v) for v in root.get("viewBox", "").split()] == [0, 0, width, height]
    for shape in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert -1 <= float(shape.get(name, "0")) <= width, (shape.tag, shape.attrib)
        for name in ("width", "height"):
            assert float(shape.get(name, "0")) >= 0
        for pair in (shape.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= 400


def test_a_gap_in_what_was_seen_is_a_gap_in_the_line() -> None:
    text = to_svg(report(measured(answer(releases=[release(series=series(20))]))))
    latency_part = text[text.index("Latency over time") : text.index("Latency percentiles")]
    assert latency_part.count('class="line a"') == 2


def test_many_devices_are_bounded_and_none_is_said() -> None:
    many = report(*(measured(bare(), f"cam-{i:03d}") for i in range(70)))
    text = to_svg(many)
    ElementTree.fromstring(text)
    assert text.count('class="head"') == 50
    assert "70 benches. 20 further devices are left out." in text
    assert "Nothing was measured." in to_svg(report(DeviceOutcome("a", "cls", Verdict.UNREACHABLE)))


numbers = st.floats(min_value=0, max_value=1e15)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers, st.lists(st.one_of(st.none(), numbers), min_size=1, max_size=5), st.integers(1, 64))
def test_pictures_bear_any_size(p50: float, rate: float, column: list[float | None], workers: int) -> None:
    columns = {
        "t": [float(i) for i in range(len(column))],
        **dict.fromkeys(("p50", "max", "rss", "temperature", "available"), column),
    }
    reported = answer(
        releases=[
            release(
                warm=latency(p50 / 4),
                series=columns,
                cold={"first": dict.fromkeys(release()["cold"]["first"], 0), "again": []},
            )
        ],
        cells=[cell(workers, 0, rate), cell(1, 3, 0.0)],
    )
    text = to_svg(report(measured(reported)))
    ElementTree.fromstring(text)
    assert not re.search(r'="-?(nan|inf)', text)


@given(st.lists(st.floats(min_value=0, max_value=1e15), min_size=1, max_size=9))
def test_axes_hold_their_values_and_have_few_ticks(values: list[float]) -> None:
    for axis in (axis_from_zero(values, 100, 0), axis_around(values, 100, 0)):
        assert all(-0.5 <= axis.at(value) <= 100.5 for value in values)
        assert len(axis.ticks_about(5)) <= 40
        assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_numbers_beside_marks_are_short() -> None:
    assert [number_text(n) for n in (0.0, 0.001, 0.5, 2.135, 33.08, 333.3, 1932.4)] == [
        "0", "0.001", "0.50", "2.13", "33.1", "333", "1,932",
    ]  # fmt: skip
    assert Axis(0, 10, 0, 100).at(5) == 50


# --- the page


def test_the_page_shows_figures_pictures_and_what_was_found() -> None:
    page = to_html(
        report(measured(two(), "cam-01", HOT), measured(bare(), ATTACK), measured(answer(), "cam-03", GROWS))
    )
    assert page.count('<svg class="chart"') == 10 + 1 + 9
    assert "7098e20b is 12 % slower than 6557c180 (95 % sure: between +10 % and +14 %)." in page
    assert HOT.observed.replace("'", "&#39;") in page
    assert "Other programs used 15 % of the CPU meanwhile" in page
    assert page.count("<script>") == 1
    assert "<td>cam-01</td><td>cls</td><td>6557c180</td>" in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert " style=" not in page


def test_the_page_of_another_command_has_no_bench() -> None:
    assert "<h2>Bench</h2>" not in to_html(report(DeviceOutcome("a", "cls", Verdict.VERIFIED)))


# --- the table


def test_the_table_says_how_quick_and_what_several_bring() -> None:
    text = bench_text(report(measured(two(), "cam-01", HOT)), width=130)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "device model release p50 p90 p99 p99.9 max runs/s cold memory growth/h" in rows
    assert "cam-01 cls 6557c180 2.00 ms 2.60 ms 3.60 ms 6.00 ms 8.00 ms 500 400 ms 85.0 MB +3.6 MB" in rows
    assert "cam-01 6557c180 4 default 1,500 2.00 ms 3.60 ms 4 240 MB" in rows
    assert "cam-01: 7098e20b is 12 % slower than 6557c180 (95 % sure: between +10 % and +14 %)." in rows
    assert "LF421 throttled (warning, 1 device)" in text
    assert "cam-01 48 °C 63 °C 63 °C +15 °C 1200 to 1800 MHz" in rows
    assert text.rstrip().endswith("1 measured   (bench, 23.4 s)")
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_table_keeps_to_the_terminal(width: int) -> None:
    text = bench_text(report(measured(two(), "cam-01", HOT, GROWS), measured(bare(), "cam-02")), width)
    assert max(len(line) for line in text.splitlines()) <= max(width, 80)


def test_wrong_outputs_mark_the_figures() -> None:
    wrong = measured(answer(releases=[release(right=False)]), "cam-01", finding("LF403", "off by one"))
    assert "6557c180 (wrong)" in bench_text(report(wrong))
    assert "these figures do not count" in to_svg(report(wrong)).replace("\n", " ") or "do not count" in to_svg(
        report(wrong)
    )
    assert "6557c180 (wrong)" in to_html(report(wrong))


def test_hostile_words_are_harmless_everywhere() -> None:
    reported = answer(notes=[ATTACK], cells=[{"release": FIRST, "workers": 2, "threads": 0, "skipped": ATTACK}])
    hostile = report(measured(reported, ATTACK, finding("LF419", ATTACK)))
    for text in (bench_text(hostile, 120), to_html(hostile), to_svg(hostile), to_json(hostile)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>alert" not in to_html(hostile) + to_svg(hostile)
    json.loads(to_json(hostile))


def test_of_many_cells_each_devices_best_is_shown() -> None:
    text = bench_text(report(*(measured(answer(), f"cam-{i:02d}") for i in range(30))), 120)
    assert "the best cell of each device" in text
    assert len(re.findall(r"^cam-\d\d .* 1,500 ", text, re.MULTILINE)) == 30
    assert not re.search(r"^cam-\d\d .* 700 ", text, re.MULTILINE)


def test_a_kept_bench_is_shown_again(tmp_path: Path) -> None:
    from litefleet_controller.cli.common import report_text
    from litefleet_controller.project.run_fleet import read_report

    kept = tmp_path / "bench.json"
    kept.write_text(to_json(report(measured(two()))))
    assert "12 % slower" in report_text(read_report(kept))
