"""Every failure of the field catalogue is found, and what is good raises no alarm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from litefleet_agent.findings import Severity

from tests.diagnosis.corpus import BAD, GOOD, Case

DOCS = Path(__file__).parent.parent.parent / "docs"
ROWS = 38


def named(case: Case) -> str:
    return f"row{case.row:02}-{case.how}-{case.name}"


@pytest.mark.parametrize("case", BAD, ids=named)
def test_a_known_failure_is_found(case: Case) -> None:
    found = case.look()
    told = [(f.code, f.severity.value, f.certainty.value) for f in found]
    weighty = [f.code for f in found if f.severity is not Severity.NOTE]
    if case.codes:
        assert weighty[:1] == [case.codes[0]], told
    assert set(case.codes) <= {f.code for f in found}, told
    assert set(case.notes) <= {f.code for f in found}, told
    assert set(weighty) <= set(case.codes), told


@pytest.mark.parametrize("case", GOOD, ids=named)
def test_a_good_combination_raises_no_alarm(case: Case) -> None:
    found = case.look()
    assert [(f.code, f.observed) for f in found if f.severity is not Severity.NOTE] == []


def test_every_row_has_a_case_and_there_are_enough_good_ones() -> None:
    assert {case.row for case in BAD} >= set(range(1, ROWS + 1))
    assert len(GOOD) >= 40


@pytest.mark.parametrize("page", ["field-failures.md", "field-failures.zh.md"])
def test_the_documents_table_says_how_each_row_is_tested(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \|.*\| ([a-z, ]+) \|$", text, re.MULTILINE))
    order = ("real", "quoted", "fixture")
    for row in range(1, ROWS + 1):
        hows = {case.how for case in BAD if case.row == row}
        assert rows[str(row)] == ", ".join(how for how in order if how in hows), row
