"""Reports for other programs: what a hostile device writes breaks neither CSV, XML nor Markdown; nobody selected is missing."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport
from litefleet_controller.reports.exports import to_csv, to_junit, to_markdown
from litefleet_controller.reports.html import to_html

_HOSTILE = '=HYPERLINK("http://x")\x00\x1b[31m|<b>`\n]]>'
_LATENCY = {"latency_ms": {"min": 1.0, "p50": 2.0, "p90": 3.0, "p99": 4.0}}


def _report() -> RunReport:
    good = DeviceOutcome("cam-1", "cls", Verdict.VERIFIED, measurements=_LATENCY, release="ab" * 32, version="2.1")
    same = DeviceOutcome("cam-2", "cls", Verdict.VERIFIED, measurements=_LATENCY, unchanged=True)
    bad = DeviceOutcome(_HOSTILE, "cls", Verdict.WRONG, (finding("LF405", _HOSTILE),), version="2.1")
    waiting = [{"device": "cam-4", "model": "cls", "state": "pending", "wave": 2}]
    rollout = {"id": "r-20261128-0001", "state": "paused", "reason": "gate", "not_begun": waiting}
    return RunReport(
        "rollout", "2026-11-28T08:00:00Z", 3.0, (good, same, bad), rollout, "hall", "ann as root@desk", "0.1.0"
    )


def test_a_spreadsheet_gets_no_formula_and_every_device() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(_report()))))
    assert [r["device"][:5] for r in rows] == ["cam-1", "cam-2", "'=HYP", "cam-4"]
    assert [r["p50_ms"] for r in rows] == ["2.000", "", "", ""]  # only what this run measured
    assert [r["verdict"] for r in rows] == ["verified", "verified", "wrong", "pending"]
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_junit_is_xml_and_counts() -> None:
    (suite,) = ElementTree.fromstring(to_junit(_report()))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    cases = {case.get("classname"): [child.tag for child in case] for case in suite}
    assert list(cases.values()) == [[], [], ["failure"], ["skipped"]]


def test_markdown_has_a_row_for_each_and_no_markup_of_devices() -> None:
    text = to_markdown(_report())
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + 4
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "fleet hall · by ann as root@desk · cls 2.1" in text


def test_the_page_says_who_and_shows_devices_that_were_not_begun() -> None:
    page = to_html(_report())
    for part in ("ann as root@desk", "hall", "r-20261128-0001 (paused)", "0.1.0", "cam-4", "not begun", "2.1"):
        assert part in page
    assert page.count("p50 2.00 ms") == 1  # the chart: cam-2 was not measured in this run
