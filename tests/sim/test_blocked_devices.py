"""A device that `plan` lists as blocked gets nothing and counts in no gate when the rollout runs, at the strictest gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_agent.facts import Disk, Facts
from litefleet_agent.findings import Finding, finding

from tests.sim.command_line import CommandLine
from tests.sim.command_model import WRONG
from tests.sim.sim_profile import KINDS

ONE = {"count": 1, "then": "abort"}
STRICT = {
    "gates": {"canary": ONE, "wave": ONE, "total": ONE, "cluster": {**ONE, "of_tried": None}},
    "waves": [1, "50%", "100%"],
}
BAD = (0, 3)  # the first device would be the canary


def no_python(line: CommandLine, number: int) -> None:
    line._change(number, kind=KINDS["bare"])
    inventory = yaml.safe_load((line.folder / "fleet.yaml").read_text())
    inventory["devices"][line.names[number]]["python"] = "own"  # none is brought
    (line.folder / "fleet.yaml").write_text(yaml.safe_dump(inventory))


def old_agent(line: CommandLine, number: int) -> None:
    if not line.supply.engine:
        line.supply.engine = {"threads": 2}
        for other in range(len(line.names)):
            line._change(other, engine_settings=True)
    line._change(number, engine_settings=False)


def no_room(line: CommandLine, number: int) -> None:
    pi4 = KINDS["pi4"]
    line._change(number, kind=replace(pi4, facts=pi4.facts._replace(disk=Disk(32 << 30, 100))))


def no_rights(line: CommandLine, number: int) -> None:
    pi4 = KINDS["pi4"]
    line._change(number, kind=replace(pi4, facts=pi4.facts._replace(writable=False)))


def no_runtime(line: CommandLine, number: int) -> None:
    def refuses(model: str, facts: Facts) -> Finding | None:
        return finding("LF302", "musl") if facts.libc.kind == "musl" else None

    line.supply.refuses = refuses
    line._change(number, kind=KINDS["alpine"])


CASES: dict[str, Callable[[CommandLine, int], None]] = {
    "LF301": no_python,
    "LF435": old_agent,
    "LF312": no_room,
    "LF313": no_rights,
    "LF302": no_runtime,
}


def planned(line: CommandLine) -> dict[str, set[tuple[int, str]]]:
    """Return (device, code) of the plan's entries by what would happen."""
    plan: dict[str, Any] = json.loads(line.type("plan", "--json").text)
    found: dict[str, set[tuple[int, str]]] = {}
    for entry in plan["devices"]:
        codes = [f["code"] for f in entry["findings"]] or [""]
        found.setdefault(entry["what"], set()).add((line.names.index(entry["device"]), codes[0]))
    return found


@pytest.mark.parametrize("code", CASES)
def test_a_blocked_device_counts_in_no_gate(code: str, tmp_path: Path, template: Path) -> None:
    line = CommandLine(tmp_path / "fleet", template, 6)
    line.configure(STRICT)
    for number in BAD:
        CASES[code](line, number)
    well = [n for n in range(6) if n not in BAD]
    assert planned(line) == {"blocked": {(n, code) for n in BAD}, "changes": {(n, "") for n in well}}

    done = line.type("rollout")
    assert (done.code, line.rollouts()[0][2]) == (1, "done"), done.text
    assert code in done.text
    assert line.runs() == {(n, m): "1" if n in well else "" for n in range(6) for m in ("cls", "det")}
    assert not any(line.fleet.devices[line.names[n]].blobs for n in BAD)


def test_these_gates_stop_at_one_device_that_fails(tmp_path: Path, template: Path) -> None:
    line = CommandLine(tmp_path / "fleet", template)
    line.configure(STRICT, WRONG)
    assert line.type("rollout").code != 0
    assert line.rollouts()[0][2] == "aborted"


@pytest.mark.parametrize("code", CASES)
def test_a_fleet_of_which_every_device_is_blocked_stops_at_no_gate(code: str, tmp_path: Path, template: Path) -> None:
    line = CommandLine(tmp_path / "fleet", template, 2)
    line.configure(STRICT)
    for number in range(2):
        CASES[code](line, number)
    assert planned(line) == {"blocked": {(0, code), (1, code)}}
    done = line.type("rollout")
    assert done.code == 1
    assert "gate" not in done.text
    assert code in done.text
    assert set(line.runs().values()) == {""}


@pytest.mark.parametrize("code", ["LF301", "LF435"])
def test_blocked_devices_stay_out_of_the_gates_of_a_rollout_that_goes_on(
    code: str, tmp_path: Path, template: Path
) -> None:
    line = CommandLine(tmp_path / "fleet", template)
    line.configure(STRICT)
    CASES[code](line, 0)
    line.away(3)
    assert line.type("rollout").code == 1
    line.back(3)
    line.let_time_pass()
    done = line.type("reconcile")
    assert line.rollouts()[0][1:] == ("rollout", "done"), done.text
    assert line.runs() == {(n, m): "1" if n else "" for n in range(4) for m in ("cls", "det")}
    line.type("reconcile", "--repair")
    line.configure(STRICT, "2")
    assert line.type("rollout").code == 1
    assert line.rollouts()[0][2] == "done"
    assert line.runs()[1, "cls"] == "2"
