"""How a rollout stands: exact for a small one, readable for a large one, and always with what to type next."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome, document
from litefleet_controller.reports.rollout_summary import next_commands
from litefleet_controller.reports.status_text import rollouts_dict, rollouts_text, status_dict, status_text
from litefleet_controller.rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState, Wave
from litefleet_controller.rollout.conditions import wave_counts

from tests.controller.support.finding_lines import finding_lines
from tests.controller.support.rollout_values import NOW, row

S, R = DeviceState, RolloutState
ID = "r-20261123-0001"
WHY = "2 devices with Cortex-A53 failed with LF401 (crashed); the limit is 2"


def rollout(state: RolloutState = R.PAUSED, **more: Any) -> Rollout:
    waves = (Wave(1, "1"), Wave(3, "50%"), Wave(3, "100%"))
    values: dict[str, Any] = {"models": ("cls",), "wave": 1, "number": 12} | more
    return Rollout(ID, "hall", "rollout", state, Policy(), waves, NOW - 3600, "ada@desk", **values)


def failed(name: str, wave: int = 1, **more: Any) -> DeviceRow:
    values = {"codes": ("LF401",), "sentence": "the model was killed by SIGILL", "verdict": Verdict.CRASHED}
    return row(name, S.FAILED, "Cortex-A53", wave=wave, **(values | more))


def seven() -> list[DeviceRow]:
    return [
        row("cam-1", S.CONFIRMED),
        failed("cam-2"),
        failed("cam-3"),
        row("cam-4", S.OFFLINE, wave=1, offline_since=NOW - 3000, next_try_at=NOW + 300, sentence="no SSH banner"),
        row("cam-5", wave=2),
        row("cam-6", wave=2),
        row("cam-7", S.BLOCKED, wave=2, codes=("LF309",), sentence="glibc 2.17"),
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_the_status_keeps_to_the_terminal(width: int) -> None:
    text = status_text(rollout(reason=WHY, behind=("cam-2", "cam-3")), seven(), [], NOW, width)
    assert max(map(len, text.split("\n"))) <= width
    for word in ("wave", "devices", "pending", "r-20261123-0001"):
        assert word in text.split()


def test_a_paused_rollout_line_by_line() -> None:
    text = status_text(rollout(reason=WHY, behind=("cam-2", "cam-3")), seven(), [], NOW)
    assert text.split("\n") == [
        "r-20261123-0001 of fleet hall: paused   (rollout by ada@desk, 2026-11-23 10:30 UTC)",
        "  why       2 devices with Cortex-A53 failed with LF401 (crashed); the limit is 2",
        "  caused by cam-2, cam-3",
        "  models    cls (number 12)",
        "  devices   1 of 7 run the wanted release; 0 B sent",
        "",
        "Waves",
        "wave         devices   done   failed   offline   pending   blocked   which",
        "──────────────────────────────────────────────────────────────────────────",
        "   1               1      1        ·         ·         ·         ·   1",
        "   2   now         3      ·        2         1         ·         ·   50%",
        "   3               3      ·        ·         ·         2         1   100%",
        "",
        "Failed   these devices run the release that they ran before",
        "",
        "LF401 crashed (Cortex-A53, error, 2 devices)",
        "  seen the model was killed by SIGILL — cam-2, cam-3",
        *finding_lines("LF401"),
        "  try  litefleet doctor --limit cam-2,cam-3",
        "",
        "Blocked   nothing was sent",
        "",
        "LF309 libc-too-old (Cortex-A72, error, 1 device)",
        "  seen glibc 2.17 — cam-7",
        *finding_lines("LF309"),
        "  try  litefleet doctor --limit cam-7",
        "",
        "Offline   may pass by itself: retried by `litefleet reconcile` or `resume`; gates do not count them",
        "  cam-4: for 50 min, next try in 5 min — no SSH banner",
        "",
        "Pending   their turn has not come",
        "  cam-5, cam-6",
        "",
        "Next",
        "  litefleet resume r-20261123-0001             continues; gates no longer count the failures that",
        "                                               paused it",
        "  litefleet retry --failed r-20261123-0001     retries its failed devices and continues",
        "  litefleet abort r-20261123-0001              ends the rollout; devices keep the release that they",
        "                                               run",
        "  litefleet rollback --rollout r-20261123-0001 reverts its devices to the releases that they ran",
        "                                               before",
        "",
    ]


@pytest.mark.parametrize(
    ("state", "holder", "commands"),
    [
        (R.PLANNED, "", [f"litefleet resume {ID}", f"litefleet abort {ID}"]),
        (R.RUNNING, "", [f"litefleet resume {ID}", f"litefleet abort {ID}"]),
        (R.RUNNING, "ada@desk, process 3", ["litefleet status", "litefleet pause", "litefleet abort"]),
        (R.WAITING, "", [f"litefleet approve {ID}", f"litefleet abort {ID}"]),
        (
            R.PAUSED,
            "",
            ["litefleet resume", "litefleet retry --failed", "litefleet abort", "litefleet rollback --rollout"],
        ),
        (R.ABORTED, "", ["litefleet rollback --rollout", "litefleet rollout"]),
        (R.SUPERSEDED, "", ["litefleet status"]),
        (R.DONE, "", [f"litefleet retry --failed {ID}"]),
    ],
)
def test_what_to_type_next(state: RolloutState, holder: str, commands: list[str]) -> None:
    found = [command for command, _ in next_commands(rollout(state), seven(), holder)]
    assert len(found) == len(commands)
    assert all(command.startswith(start) for command, start in zip(found, commands, strict=True))


def test_a_rollout_that_went_well_has_nothing_to_type() -> None:
    assert next_commands(rollout(R.DONE), [row("a", S.CONFIRMED), row("b", S.UNCHANGED)]) == ()
    assert "Next" not in status_text(rollout(R.DONE), [row("a", S.CONFIRMED), row("b", S.BLOCKED)], [], NOW)


def test_every_state_has_a_condition_and_the_gravest_row_speaks_for_a_device() -> None:
    assert wave_counts([row("a", state) for state in S])[0].total() == 1
    assert wave_counts([row("a", S.LEASED)])[0] == {"working": 1}
    assert wave_counts([row("a", S.CONFIRMED), row("a", S.FAILED)])[0] == {"failed": 1}
    assert wave_counts([row("a", S.UNCHANGED), row("a", S.BLOCKED), row("b", S.CONFIRMED)])[0] == {
        "blocked": 1,
        "done": 1,
    }


def test_failures_are_clustered_by_code_and_cpu_part() -> None:
    rows = [failed("a"), failed("b", forgiven=True), failed("c", codes=("LF404",), sentence="12 NaN")]
    rows.append(replace(failed("d"), part="Cortex-A72"))
    data = status_dict(rollout(), rows, [], NOW)
    found = [(f["code"], f["part"], f["devices"], f["forgiven"]) for f in data["failures"]]
    assert found == [
        ("LF401", "Cortex-A53", ["a", "b"], 1),
        ("LF401", "Cortex-A72", ["d"], 0),
        ("LF404", "Cortex-A53", ["c"], 0),
    ]
    assert "(Cortex-A53, 1 forgiven, error, 2 devices)" in status_text(rollout(), rows, [], NOW)


def test_where_a_row_does_not_say_why_its_outcome_does() -> None:
    bare = failed("a", codes=(), sentence="")
    end = DeviceOutcome("a", "cls", Verdict.WRONG, (finding("LF404", "12 NaN"),), sent_bytes=571_000)
    assert status_dict(rollout(), [bare], [end], NOW)["failures"][0]["code"] == "LF404"
    assert "571 kB sent" in status_text(rollout(), [bare], [end], NOW)
    assert status_dict(rollout(), [bare], [], NOW)["failures"][0]["code"] == "LF900"


def test_warnings_of_devices_that_did_well_are_shown_too() -> None:
    end = DeviceOutcome("a", "cls", Verdict.VERIFIED, (finding("LF614", "it was restarted"),))
    assert "LF614 went-back (warning, 1 device)" in status_text(rollout(), [row("a", S.CONFIRMED)], [end], NOW)


def test_a_closed_window_is_reported() -> None:
    """NOW is a Monday, 11:30 UTC."""
    night = Policy(windows=("Mon-Fri 22:00-05:00",))
    closed = replace(rollout(R.RUNNING), policy=night)
    text = status_text(closed, seven(), [], NOW, 200)
    assert (
        "  window    closed until 2026-11-23 22:00 UTC (in 10 h 30 min): devices start Mon-Fri 22:00-05:00 (UTC)"
        in text
    )
    assert status_dict(closed, seven(), [], NOW)["closed_until"] == NOW + 10.5 * 3600
    for open_one in (replace(closed, state=R.DONE), replace(closed, policy=Policy(windows=("00:00-24:00",)))):
        assert "window" not in status_text(open_one, seven(), [], NOW)
        assert status_dict(open_one, seven(), [], NOW)["closed_until"] == 0


def test_a_rollout_that_its_gate_reverts_says_how_that_goes_on() -> None:
    stopped = rollout(R.ABORTED, request="rollback")
    assert [command for command, _ in next_commands(stopped, seven())] == [f"litefleet resume {ID}"]
    reverted = [row("cam-1", S.ROLLED_BACK)]
    assert [command for command, _ in next_commands(stopped, reverted)] == ["litefleet rollout"]


def test_soak_controller_request_and_limit_are_reported() -> None:
    running = rollout(R.RUNNING, soak_until=NOW + 600, request="pause", limit="tag:lab", parent="r-20261122-0001")
    text = status_text(running, seven(), [], NOW, holder="ada@desk, process 77")
    for output in ("until 2026-11-23 11:40 UTC (in 10 min)", "to pause", "tag:lab", "r-20261122-0001", "process 77"):
        assert output in text


def test_a_thousand_devices_stay_readable() -> None:
    rows = [failed(f"cam-{i:04d}") for i in range(300)]
    rows += [row(f"cam-{i:04d}", S.OFFLINE, next_try_at=NOW + i) for i in range(300, 500)]
    rows += [row(f"cam-{i:04d}", S.CONFIRMED) for i in range(500, 1000)]
    lines = status_text(rollout(), rows, [], NOW).split("\n")
    assert len(lines) < 70
    assert any("cam-[0000:0299]" in line for line in lines)
    assert max(len(line) for line in lines if " " in line.strip()) <= 100  # what a command is given stays whole


def test_what_a_device_says_can_not_act() -> None:
    evil = "\x1b[2J\u202eevil\r\n[bold]x[/bold]"
    rows = [failed("a", sentence=evil), row("b", S.OFFLINE, sentence=evil), replace(failed("c"), part=evil)]
    end = DeviceOutcome("d", "cls", Verdict.VERIFIED, (finding("LF614", evil),))
    shown = status_text(rollout(reason=evil), [*rows, row("d", S.CONFIRMED)], [end], NOW)
    listed = rollouts_text([rollout(reason=evil)])
    for text in (shown, listed):
        assert not {"\x1b", "\u202e", "\r"} & set(text)
        assert "[bold]x[/bold]" in text.replace("\n", "")


def test_the_json_form_is_whole() -> None:
    data = json.loads(document(status_dict(rollout(reason=WHY, behind=("cam-2",)), seven(), [], NOW)))
    assert (data["schema"], data["rollout"]["id"], data["rollout"]["state"]) == (1, ID, "paused")
    assert data["rollout"]["behind"] == ["cam-2"]
    assert data["waves"][1]["devices"] == {"failed": 2, "offline": 1}
    assert [d["state"] for d in data["devices"]][:2] == ["confirmed", "failed"]
    assert data["next"][0]["command"] == f"litefleet resume {ID}"


def test_the_list_of_rollouts() -> None:
    text = rollouts_text([rollout(reason=WHY), replace(rollout(R.DONE), id="r-20261122-0007")], 160)
    lines = text.split("\n")
    assert lines[0].split()[:4] == ["rollout", "kind", "state", "wave"]
    assert lines[2].split()[:4] == [ID, "rollout", "paused", "2/3"]
    assert lines[3].split()[:4] == ["r-20261122-0007", "rollout", "done", "–"]
    assert "litefleet plan" in rollouts_text([])
    assert [r["id"] for r in rollouts_dict([rollout()])["rollouts"]] == [ID]


def test_running_is_said_only_while_a_process_works_on_it() -> None:
    away = [row("a", S.OFFLINE, next_try_at=NOW + 300), row("b", S.OFFLINE, next_try_at=NOW + 900)]
    going = rollout(R.RUNNING)
    first = status_text(going, away, [], NOW, 200, holder="ada@desk, process 7").split("\n")[0]
    assert f"{ID} of fleet" in first
    assert ": running" in first
    assert status_dict(going, away, [], NOW, "ada@desk, process 7")["idle"] == ""
    waits = "waits for 2 devices (next try 11:35 UTC by `litefleet reconcile`, if its timer is installed)"
    assert waits in status_text(going, away, [], NOW, 200).split("\n")[0]
    assert status_dict(going, away, [], NOW)["idle"] == waits
    left = status_text(going, [row("a", S.PENDING)], [], NOW, 200)
    assert "is open, and no process works on it" in left.split("\n")[0]
    assert "Pending   their turn has not come" in left
    assert rollouts_text([going], 160).split("\n")[2].split()[2] == "open"
    assert rollouts_text([going], 160, holder="ada@desk, process 7").split("\n")[2].split()[2] == "running"


@pytest.mark.parametrize(
    ("state", "why"), [(R.SUPERSEDED, "a newer rollout took over"), (R.ABORTED, "the rollout was aborted")]
)
def test_skipped_devices_are_named_with_the_reason(state: R, why: str) -> None:
    text = status_text(rollout(state), [row("a", S.CONFIRMED), row("b", S.SKIPPED), row("c", S.SKIPPED)], [], NOW)
    assert f"Skipped   {why} before their turn\n  b, c" in text


@pytest.mark.parametrize("code", ["LF502", "LF503", "LF504", "LF510"])
def test_every_failure_names_a_command_that_helps(code: str) -> None:
    text = status_text(rollout(), [failed("b", codes=(code,)), failed("c", codes=(code,))], [], NOW)
    (helps,) = [line for line in text.split("\n") if line.startswith("  try")]
    assert "litefleet " in helps
    # A new host key is accepted device by device, so that a person compares each
    assert ("accept-key b" if code == "LF503" else "b,c") in helps
