"""The plan as a pull request's comment: what a reviewer must see, harmless whatever a device says, never too long to post."""

from __future__ import annotations

from dataclasses import replace

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.catalogue.language import choose
from litefleet_controller.reports.plan_markdown import plan_markdown
from litefleet_controller.rollout import DeviceState

from tests.controller.support.rollout_values import NOW, plan_of, planned

S = DeviceState


def test_what_a_reviewer_sees() -> None:
    plan = plan_of(
        *(planned(f"cam-{i:02d}") for i in range(1, 5)),
        planned("desk", S.UNCHANGED),
        planned("old", S.BLOCKED, finding("LF309", "glibc 2.17; the runtime needs 2.27")),
        planned("away", S.OFFLINE, finding("LF501", "no SSH banner within 10 s"), seen_at=NOW - 86_400),
    )
    lines = plan_markdown(plan).splitlines()
    assert lines[:3] == [
        "## litefleet plan: 4 to change · 1 unchanged · 1 blocked · 1 offline",
        "",
        "fleet hall · 7 devices · cls · 2.3 MB to send · 2026-11-23T11:30:00Z",
    ]
    at = lines.index("### Waves")
    assert lines[at + 2 : at + 7] == [
        "| wave | devices | to send | which |",
        "| ---: | ---: | ---: | --- |",
        "| 1 | 1 | 571 kB | 1 |",
        "| 2 | 2 | 1.1 MB | 50% |",
        "| 3 | 2 | 571 kB | 100% |",
    ]
    at = lines.index("### Changes")
    assert lines[at + 2 : at + 9] == [
        "**cam-\\[01:04\\]** (571 kB each)",
        "",
        "```diff",
        "- cls aaaaaaaaaaaa",
        "+ cls bbbbbbbbbbbb   file cccccccccccc, runtime built",
        "```",
        "",
    ]
    assert "- glibc 2.17; the runtime needs 2.27 — old" in lines
    assert "- do: Name a runtime built against this device's libc." in lines
    assert lines[lines.index("### Offline") + 2] == "away"
    assert lines[lines.index("### Unchanged") + 2] == "desk"
    assert lines[-1] == "</details>"


def test_a_device_and_a_reason_bring_no_markup_of_their_own() -> None:
    bad = "x](https://evil) <img src=x> | `a` \x1b[31m"
    plan = plan_of(planned("cam", why=bad), planned("old", S.BLOCKED, finding("LF309", bad)))
    text = plan_markdown(plan)
    assert text.count("\\<img src=x\\>") == 2
    assert "](" not in text.replace("\\](", "")
    assert "\x1b" not in text
    fence = replace(planned("cam"), runs_version="1\n```\n<b>", runs="d" * 64)
    assert plan_markdown(plan_of(fence)).count("```") == 2


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_plan_of_many_unlike_devices_fits_a_comment(lang: str) -> None:
    choose(lang)
    devices = [planned(f"d{'x' * (i % 90)}-{i}", why=f"reason {i} " * 40) for i in range(3000)]
    blocked = [planned(f"old{i}y{i}", S.BLOCKED, finding("LF309", f"said {i} " * 50)) for i in range(3000)]
    text = plan_markdown(plan_of(*devices, *blocked))
    assert len(text) < 65_000
    assert ("3,000 to change" if lang == "en" else "3,000 台") in text
