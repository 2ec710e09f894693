"""The printed plan: exact for a small fleet, readable for a large one, harmless whatever a device says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.catalogue.language import Lang, speaking
from litefleet_controller.reports.plan_text import gate_lines, limit_lines, plan_text
from litefleet_controller.reports.values import human_moment, human_span, until
from litefleet_controller.rollout import DeviceState, Policy

from tests.controller.support.rollout_values import NOW, plan_of, planned

S = DeviceState


def test_a_plan_says_how_outputs_are_compared_and_what_the_golden_tells() -> None:
    output = {"name": "boxes", "compare": "detections", "why": "the rows of multiclass_nms3: class, score, box"}
    device = replace(planned("cam-01"), outputs=(output,), golden="The golden can tell.")
    assert (
        "Comparison   how a device's outputs are compared with the golden\n"
        "  cls\n"
        "    boxes as detections: the rows of multiclass_nms3: class, score, box\n"
        "    golden The golden can tell.\n"
    ) in plan_text(plan_of(device), 100)
    document = plan_of(device).to_dict()
    assert (document["devices"][0]["outputs"], document["devices"][0]["golden"]) == ([output], "The golden can tell.")


def test_a_plan_says_what_a_device_copies_from_its_own_files() -> None:
    plan = plan_of(*(planned(f"cam-{i}", bytes_to_send=18_000, bytes_saved=771_000) for i in (1, 2)))
    assert "18.0 kB each (771 kB more copied from files there)" in plan_text(plan, 100)
    document: Any = plan.to_dict()
    assert [d["bytes_saved"] for d in document["devices"]] == [771_000, 771_000]


def test_a_small_plan_line_by_line() -> None:
    plan = plan_of(
        *(planned(f"cam-{i:02d}") for i in range(1, 5)),
        planned("door-3", runs=""),
        planned("desk", S.UNCHANGED),
        planned("old", S.BLOCKED, finding("LF309", "glibc 2.17; the runtime needs 2.27")),
        planned("away", S.OFFLINE, finding("LF501", "no SSH banner within 10 s"), seen_at=NOW - 86_400),
    )
    text = plan_text(plan, 100)
    head, _, limits = text.partition("\nLimits\n")
    assert head.split("\n") == [
        "Plan for fleet hall: 8 devices, cls, 2.9 MB to send   (2026-11-23T11:30:00Z)",
        "5 to change · 1 unchanged · 1 blocked · 1 offline",
        "",
        "Waves",
        "wave   devices    kinds   to send   which",
        "─────────────────────────────────────────",
        "   1         1   1 of 1    571 kB   1",
        "   2         2   1 of 1    1.1 MB   50%",
        "   3         3   1 of 1    1.1 MB   100%",
        "",
        "Changes",
        "  4 devices   waves 1, 2, 3, 571 kB each",
        "    -  cls aaaaaaaaaaaa",
        "    +  cls bbbbbbbbbbbb   file cccccccccccc, runtime built",
        "    why     Cortex-A72: the ARM file of cls",
        "    devices cam-[01:04]",
        "  1 device   wave 3, 571 kB",
        "    -  cls nothing",
        "    +  cls bbbbbbbbbbbb   file cccccccccccc, runtime built",
        "    why     Cortex-A72: the ARM file of cls",
        "    devices door-3",
        "",
        "Unchanged   already run this release, verified in the same environment",
        "  cls bbbbbbbbbbbb: desk",
        "",
        "Blocked   nothing is sent to them; gates do not count them",
        "",
        "LF309 libc-too-old (error, 1 device)",
        "  seen glibc 2.17; the runtime needs 2.27 — old",
        "  why  The runtime needs a newer glibc than this device has, or another libc, whose loader is",
        "       missing.",
        "  do   Name a runtime built against this device's libc.",
        "",
        "Offline   queued until they answer; gates do not count them",
        "  last seen 2026-11-22: away",
        "  seen no SSH banner within 10 s — away",
        "",
    ]
    assert "Gates" in limits


def test_a_thousand_devices_stay_readable() -> None:
    text = plan_text(plan_of(*(planned(f"cam-{i:04d}", part=f"part{i % 3}" if i >= 900 else "x") for i in range(1000))))
    assert "cam-[0000:0899]" in text
    assert len(text.split("\n")) < 70
    assert max(map(len, text.split("\n"))) <= 100


def test_more_groups_than_anybody_reads_are_gathered() -> None:
    text = plan_text(plan_of(*(planned(f"d{i}", why=f"reason {i}") for i in range(100))))
    assert "and 40 more groups: d[60:99]" in text


def test_what_a_device_says_can_not_act() -> None:
    evil = "\x1b[2J\u202eevil\r\n[bold]x[/bold]"
    text = plan_text(
        plan_of(
            planned("a", S.PENDING, finding("LF314", evil), why=evil, part=evil, runs="\x1b]0;x"),
            planned("b", S.BLOCKED, finding("LF305", evil)),
            planned("c", S.OFFLINE, finding("LF501", evil)),
        )
    )
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\r" not in text
    assert "[bold]x[/bold]" in text
    assert "Warnings and notes" in text


def test_a_blocked_device_without_a_finding_says_its_sentence() -> None:
    assert "b: Cortex-A72: the ARM file of cls" in plan_text(plan_of(planned("b", S.BLOCKED)))


def test_colour_only_when_asked() -> None:
    plan = plan_of(planned("a"))
    assert "\x1b" not in plan_text(plan)
    assert "\x1b[" in plan_text(plan, color=True)


def test_an_empty_plan_says_so() -> None:
    assert "no devices" in plan_text(plan_of())


def test_the_default_policy_in_words() -> None:
    assert dict(limit_lines(Policy())) == {
        "speed": "as many devices at once as ssh.concurrency allows, 8 behind one jump host",
        "lease": "10 min; a device reverts without a confirmation",
        "offline": "retried after 30 s, then at growing intervals up to 1 h; given up after 30 days",
        "kept": "the current and the previous release, 2 further releases of each model",
    }
    assert dict(gate_lines(Policy())) == {
        "first wave": "pause when 1 device failed in the first wave",
        "each wave": "pause when more than 20% of a wave failed",
        "all": "pause when more than 10% of all devices failed",
        "one cause": "pause when 3 devices of one CPU part failed alike",
        "regression": "above fastest run +50% or peak memory +50% a device does not activate the release; pause at 1 such device",
    }


def test_another_policy_in_words() -> None:
    policy = Policy.model_validate(
        {
            "parallel": 50,
            "per_minute": 60,
            "soak": "90s",
            "approve": [1, 2],
            "windows": ["Mon-Fri 22:00-05:00"],
            "timezone": "Europe/Berlin",
            "gates": {
                "canary": {"count": 2, "share": "5%", "then": "abort"},
                "wave": {},
                "regression": {"latency": None, "memory": None},
            },
            "keep": {"releases": 1, "pinned": ["a" * 64], "quota_mb": 500},
        }
    )
    limits, gates = dict(limit_lines(policy)), dict(gate_lines(policy))
    assert limits["speed"] == "50 devices at once, 8 behind one jump host, at most 60 started per minute"
    assert limits["soak"] == "90 s after each wave, then its devices are checked again"
    assert limits["approval"] == "a person approves after waves 1, 2"
    assert limits["windows"] == "devices start Mon-Fri 22:00-05:00 (Europe/Berlin)"
    assert limits["kept"].endswith("1 further release of each model and 1 pinned release, at most 500 MiB in all")
    assert (
        gates["first wave"] == "abort when 2 devices failed in the first wave or more than 5% of the first wave failed"
    )
    assert gates["each wave"] == "no limit: this gate never stops the rollout"
    assert gates["regression"] == "no comparison with the previous release"


def test_times_for_people() -> None:
    spans = [0.4, 90, 150, 720, 3599, 3600, 9000, 2 * 86400, 60 * 3600, 30 * 86400]
    assert [human_span(s) for s in spans] == [
        "0 s",
        "90 s",
        "2 min 30 s",
        "12 min",
        "60 min",
        "1 h",
        "2 h 30 min",
        "2 days",
        "2 days 12 h",
        "30 days",
    ]
    assert human_moment(NOW) == "2026-11-23 11:30 UTC"
    assert [human_moment(t) for t in (0.0, -5.0, float("nan"), float("inf"), 1e18)] == ["–"] * 5
    assert (until(NOW + 300, NOW), until(NOW - 5, NOW)) == ("in 5 min", "now")


@pytest.mark.parametrize(("page", "lang"), [("releases.md", Lang.EN), ("releases.zh.md", Lang.ZH)])
def test_the_plan_that_the_documentation_shows_is_what_the_program_prints(page: str, lang: Lang) -> None:
    plan = plan_of(*(planned(f"cam-{i:02d}", bytes_to_send=18_000, bytes_saved=771_000) for i in range(1, 41)))
    with speaking(lang):
        changes = plan_text(plan, 100).split("\n\n")[2]
    text = (Path(__file__).parents[3] / "docs" / page).read_text(encoding="utf-8")
    assert f"\n```\n{changes}\n```\n" in text
