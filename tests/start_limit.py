"""A pytest plugin: from a given moment on, no further test is started, and the end of the report names those that were not.

    python -m pytest -p tests.start_limit --start-until $(($(date +%s) + 1200)) tests/lab

What runs at that moment ends as it would.  What was not started is no failure, and is not counted as passed or skipped.
"""

from __future__ import annotations

import time

import pytest

NOT_STARTED = "not started"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--start-until", type=float, metavar="SECONDS", help="start no test from this moment on (seconds since 1970)"
    )


@pytest.hookimpl(tryfirst=True)  # before the test's fixtures are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("start_until")
    if until is not None and time.time() >= until:
        pytest.skip(NOT_STARTED)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    return (NOT_STARTED, "n", "NOT STARTED") if reason == f"Skipped: {NOT_STARTED}" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left = terminalreporter.stats.get(NOT_STARTED, [])
    if left:
        terminalreporter.section(f"{len(left)} tests were not started: their time was over", yellow=True)
        for name in sorted(report.nodeid for report in left):
            terminalreporter.line(name)
