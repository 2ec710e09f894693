"""`litefleet plan --offline`: what the state knows, and no contact; a rollout afterwards looks for itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.sim.command_line import CommandLine


@pytest.fixture
def line(tmp_path: Path, template: Path) -> CommandLine:
    """Return four devices, of which the last was never reached; the others run version 1."""
    line = CommandLine(tmp_path / "fleet", template)
    line.away(3)
    line.type("rollout")
    return line


def planned(line: CommandLine, *words: str) -> dict[str, Any]:
    """Return the plan's JSON; no device was contacted, and the state is as it was."""
    contacts, rollouts = len(line.fleet.transport.contacts), line.rollouts()
    done = line.type("plan", "--offline", "--json", *words)
    assert done.code == 0, done.text
    assert (len(line.fleet.transport.contacts), line.rollouts()) == (contacts, rollouts)
    plan: dict[str, Any] = json.loads(done.text)
    return plan


def test_a_converged_fleet_is_unchanged_and_a_device_that_was_never_seen_is_unknown(line: CommandLine) -> None:
    plan = planned(line)
    what = {(d["device"], d["model"]): d["what"] for d in plan["devices"]}
    assert {what[name, model] for name, model in what if name != line.names[3]} == {"unchanged"}
    assert {what[name, model] for name, model in what if name == line.names[3]} == {"unknown"}
    assert (plan["offline"], plan["based_on"]["never_seen"]) == (True, [line.names[3]])
    assert 0 < plan["based_on"]["oldest"] <= plan["based_on"]["newest"] < line.clock.now()
    assert all(d["seen_at"] <= d["confirmed_at"] for d in plan["devices"] if d["what"] == "unchanged")
    assert plan["bytes_to_send"] == 0


def test_it_plans_what_a_plan_of_the_same_devices_does(line: CommandLine) -> None:
    line.configure({}, "2")
    chosen = ("--limit", f"!{line.names[3]}")
    offline, live = planned(line, *chosen), json.loads(line.type("plan", "--json", *chosen).text)
    kept = ("device", "model", "what", "wave", "runs", "release", "kind", "why", "bytes_to_send", "version")
    assert [[d[key] for key in kept] for d in offline["devices"]] == [[d[key] for key in kept] for d in live["devices"]]
    assert offline["counts"] == {"changes": 3, "unchanged": 3}
    assert (live["offline"], "based_on" in live) == (False, False)


def test_the_text_says_what_it_is_based_on_and_a_rollout_looks_for_itself(line: CommandLine) -> None:
    text = line.type("plan", "--offline").text
    assert "Offline: no device was asked. What they reported was seen from 2026-" in text
    assert re.search(r"Only a preview: `litefleet rollout\b[^`]*` asks every device", " ".join(text.split()))
    assert f"Unknown   never seen: a rollout finds out what they are\n  {line.names[3]}" in text
    device = line.fleet.devices[line.names[0]]
    device.switch.slots["cls"].current = ""  # what the state does not know
    before = len(line.fleet.transport.contacts)
    assert planned(line)["counts"]["unchanged"] == 6
    line.back(3)
    line.let_time_pass()
    line.type("abort")
    assert line.type("rollout").code == 0
    assert {c.device for c in line.fleet.transport.contacts[before:]} == set(line.names)
    assert {version for version in line.runs().values()} == {"1"}


def test_a_state_that_knows_no_device_says_so(tmp_path: Path, template: Path) -> None:
    line = CommandLine(tmp_path / "fleet", template)
    assert planned(line)["counts"] == {"unknown": 8}
    assert "Offline: no device was asked, and the state knows none of them." in line.type("plan", "--offline").text
    chinese = line.type("plan", "--offline", "--lang", "zh").text
    assert "离线：没有询问任何设备，状态中也没有它们的记录。" in chinese
    assert "未知" in chinese
