"""What commands print of large fleets, on terminals of 40 and 80 columns: within the width, and no word broken.

A name or command without white space may be wider than the terminal and stays whole; nothing else may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import pytest
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport
from litefleet_controller.doctor.diagnosis import Diagnosis, Fact, Kind
from litefleet_controller.doctor.text import to_text
from litefleet_controller.operations.device_records import DeviceRecord, DeviceStory, TimelineEntry
from litefleet_controller.reports.device_text import audit_table, device_text, devices_text
from litefleet_controller.reports.plan_text import plan_text
from litefleet_controller.reports.status_text import history_text, rollouts_text, status_text
from litefleet_controller.reports.terminal import Page, reports_table, to_table
from litefleet_controller.rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState, Wave
from litefleet_controller.rollout_engine.plan import Plan
from litefleet_controller.state.device_history import HistoryEntry
from litefleet_controller.state.model import AuditEntry
from rich.cells import cell_len

from tests.controller.support.rollout_values import NEW, NOW, plan_of, planned, row

S = DeviceState
MANY, SOME = 10_000, 40
NAME = "warehouse-north-hall-{}-camera-{:05d}.example.com"
WHY = (
    "the runtime needs libc.so.6 GLIBC_2.29, and this device has 2.17; give another under `runtimes:` in litefleet.yaml"
)
STATES = (S.CONFIRMED, S.FAILED, S.OFFLINE, S.PENDING, S.BLOCKED, S.UNCHANGED, S.SKIPPED)


def name(number: int) -> str:
    return NAME.format("abcdefg"[number % 7], number)


def codes(state: DeviceState) -> tuple[str, ...]:
    return {S.FAILED: ("LF401",), S.BLOCKED: ("LF309",), S.OFFLINE: ("LF501",)}.get(state, ())


@cache
def rows(count: int) -> list[DeviceRow]:
    made = []
    for number in range(count):
        state = STATES[number % len(STATES)]
        more = {"offline_since": NOW - 90_000, "next_try_at": NOW + 300} if state is S.OFFLINE else {}
        why = WHY if codes(state) else ""
        made.append(row(name(number), state, "Cortex-A53", wave=number % 3, codes=codes(state), sentence=why, **more))
    return made


def status(count: int, width: int) -> str:
    waves = (Wave(1, "1"), Wave(count // 2, "50%"), Wave(count, "100%"))
    values = {"models": ("cls-of-the-north-hall",), "wave": 1, "number": 12, "reason": WHY}
    made = Rollout(
        "r-20261123-0001", "hall", "rollout", RolloutState.PAUSED, Policy(), waves, NOW - 3600, "ada@desk", **values
    )
    return status_text(made, rows(count), [], NOW, width) + rollouts_text([made] * 3, width)


def devices(count: int, width: int) -> str:
    records = [
        DeviceRecord(
            *(name(n), "cls-of-the-north-hall", f"10.0.{n // 250}.{n % 250}", ("hall-north",), NEW, "2026.11.23-rc1"),
            *(NOW - 3600, "r-20261123-0001", str(STATES[n % 7]), "verified", codes(STATES[n % 7]), WHY, "Cortex-A53"),
            *("aarch64", ("LF702", "environment"), NOW - 60),
        )
        for n in range(count)
    ]
    return devices_text(records, NOW, width)


@cache
def made_plan(count: int) -> Plan:
    found = {S.BLOCKED: "LF309", S.OFFLINE: "LF501"}
    states = (S.PENDING, S.UNCHANGED, S.BLOCKED, S.OFFLINE)
    listed = [(name(n), states[n % 4]) for n in range(count)]
    return plan_of(
        *(planned(one, state, *([finding(found[state], WHY)] if state in found else [])) for one, state in listed)
    )


def plan(count: int, width: int) -> str:
    return plan_text(made_plan(count), width)


def history(count: int, width: int) -> str:
    entry = {"codes": ["LF605", "LF607"], "reason": WHY, "from": NEW, "to": NEW}
    return history_text(
        [HistoryEntry(name(n), "h", n, NOW, "reverted", "cls-of-the-north-hall", NEW, entry) for n in range(count)],
        width,
    )


def audit(count: int, width: int) -> str:
    what = {"rollout": "r-20261123-0001", "reason": WHY, "devices": [name(n) for n in range(20)]}
    return audit_table(
        [AuditEntry(n, NOW, "ada.of.the.night@desk", "paused by gate", what, "", NEW) for n in range(count)], width
    )


def outcomes(count: int) -> tuple[DeviceOutcome, ...]:
    verdicts = list(Verdict)
    return tuple(
        DeviceOutcome(
            *(name(n), "cls-of-the-north-hall", verdicts[n % len(verdicts)]),
            () if verdicts[n % len(verdicts)] is Verdict.VERIFIED else (finding("LF309", WHY),),
        )
        for n in range(count)
    )


def run(count: int, width: int) -> str:
    return to_table(RunReport("rollout", "2026-11-23T11:30:00Z", 12.34, outcomes(count)), width)


def reports(count: int, width: int) -> str:
    made = RunReport("rollout", "2026-11-23T11:30:00Z", 12.34, outcomes(20))
    return reports_table([(f"20261123-113000-rollout-{n:05d}", made) for n in range(count)], width)


def doctor(count: int, width: int) -> str:
    facts = (Fact("system", "Linux-6.1.0-13-arm64-with-glibc2.17"), Fact("device", name(1)))
    return to_text(
        [
            Diagnosis(Kind.DEVICE, name(n), facts, ("its clock is right",), (finding("LF309", WHY),))
            for n in range(count)
        ],
        width,
    )


def device(count: int, width: int) -> str:
    record = DeviceRecord(name(1), "cls-of-the-north-hall", "10.0.0.1", release=NEW, state="failed", sentence=WHY)
    line = [TimelineEntry(NOW, "rollout", "failed", "cls", NEW, "2026.11.23-rc1", "r-20261123-0001", WHY)] * count
    return device_text(
        DeviceStory(name(1), (record,), {"arch": "aarch64", "libc": "glibc 2.17"}, "", tuple(line)), width
    )


VIEWS: dict[Callable[[int, int], str], int] = {
    **dict.fromkeys((status, plan), MANY),  # bounded: names are folded
    **dict.fromkeys((devices, history, audit, run, reports, doctor, device), SOME),  # a row for each; 10,000 are a file
}


def too_wide(lines: Sequence[str], width: int) -> list[str]:
    """Return the lines over the width in which more than a label is beside a word that does not fit."""
    return [line for line in lines if cell_len(line) > width and re.search(r"\S+ +\S+$", line[18:])]


@cache
def words(view: Callable[[int, int], str]) -> frozenset[str]:
    """Return the words of a view where nothing needs to be wrapped."""
    return frozenset(view(VIEWS[view], 1000).split())


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_each_keeps_to_the_terminal_and_breaks_no_word(view: Callable[[int, int], str], width: int) -> None:
    text = view(VIEWS[view], width)
    lines = text.split("\n")
    assert too_wide(lines, width) == []
    assert {word for word in text.split() if word not in words(view) and word.strip("─")} == set()
    if VIEWS[view] == MANY:
        assert len(lines) < 300  # the names are folded, or counted


@pytest.mark.parametrize("color", [False, True])
def test_all_rows_of_a_table_are_laid_out_as_the_first_one_is(color: bool) -> None:
    """The first row of a table is printed by the library, and further ones by this program, where no word is broken."""
    cells = [
        ("d0", "green"),
        "a sentence that takes `several` lines " + "of its column, as most do " * 3,
        "1.5 ms",
        "–",
    ]
    broken = ["d1", "x" * 80, "20 ms", "–"]
    page = Page(95, color)
    page.table(("device", "why", "p50", "last"), [cells, cells, broken, cells], ("device", "why"))
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in page.text.splitlines()[2:]]
    first = lines[: lines.index(lines[0], 1)]
    assert len(first) > 1
    assert lines[len(first) : 2 * len(first)] == first
    assert lines[-len(first) :] == first
    assert "".join(lines[2 * len(first) : -len(first)]).count("x") == 80
    assert all(line.index("1.5 ms") == first[0].index("1.5 ms") for line in lines if "1.5 ms" in line)
