"""Plans: what would happen, in which wave, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.catalogue.language import Lang, speaking
from litefleet_controller.cli.rollouts import FailOn
from litefleet_controller.devices.outcome import document
from litefleet_controller.reports.plan_markdown import plan_markdown
from litefleet_controller.reports.plan_text import plan_text
from litefleet_controller.rollout import DeviceState, Policy
from litefleet_controller.rollout_engine.plan import PlannedDevice, SiteTraffic, make_plan, site_traffic

from tests.controller.support.rollout_values import NEW, OLD, plan_of, planned

S = DeviceState


def test_counts_say_what_would_happen_to_each() -> None:
    plan = plan_of(
        planned("a"), planned("b", S.UNCHANGED), planned("c", S.BLOCKED), planned("d", S.OFFLINE), planned("e")
    )
    assert plan.counts == {"changes": 2, "unchanged": 1, "blocked": 1, "offline": 1}
    assert plan.bytes_total == 2 * 571_000
    assert plan.models == ("cls",)
    assert [row.device for row in plan.rows] == list("abcde")


def test_a_device_that_did_not_answer_is_offline_even_while_its_row_is_pending() -> None:
    assert planned("a").effect == "changes"
    assert plan_of(planned("a"), planned("b")).counts == {"changes": 2}
    away = planned("a", S.OFFLINE)
    assert (away.reachable, away.effect) == (False, "offline")


@pytest.mark.parametrize(
    ("state", "codes"),  # the exit code with never, blocked, offline and change
    [
        (S.UNCHANGED, [0, 0, 0, 0]),
        (S.PENDING, [0, 0, 0, 1]),
        (S.OFFLINE, [0, 0, 1, 1]),
        (S.BLOCKED, [0, 1, 1, 1]),
        (S.FAILED, [0, 1, 1, 1]),
    ],
)
def test_what_makes_the_exit_code_of_plan_1(state: DeviceState, codes: list[int]) -> None:
    counts = plan_of(planned("a", S.UNCHANGED), planned("b", state)).counts
    assert [int(bool(counts.keys() & set(level.effects))) for level in FailOn] == codes


def test_every_device_has_a_wave_and_the_first_has_one_of_every_kind() -> None:
    devices = [planned(f"d{i:02d}", part="Cortex-A53" if i % 2 else "Cortex-A72") for i in range(20)]
    plan = plan_of(*devices)
    assert sum(wave.size for wave in plan.waves) == 20
    first = plan.in_wave(0)
    assert {p.row.part for p in first} == {"Cortex-A53", "Cortex-A72"}
    assert [len(plan.in_wave(i)) for i in range(len(plan.waves))] == [wave.size for wave in plan.waves]


def test_unchanged_and_blocked_devices_are_in_no_wave() -> None:
    plan = plan_of(planned("a"), planned("b", S.UNCHANGED), planned("c", S.BLOCKED))
    assert [p.row.device for i in range(len(plan.waves)) for p in plan.in_wave(i)] == ["a"]


def test_the_json_form_is_whole() -> None:
    plan = plan_of(planned("a", S.PENDING, finding("LF314", "x"), files=(("model file", 571_000),)), planned("b"))
    data = json.loads(document(plan.to_dict()))
    assert (data["schema"], data["command"], data["fleet"]) == (1, "plan", "hall")
    assert [wave["devices"] for wave in data["waves"]] == [["a"], ["b"]]
    assert data["policy"]["waves"] == [1, "10%", "50%", "100%"]
    assert data["bytes_to_send"] == 1_142_000
    first = data["devices"][0]
    assert (first["device"], first["what"], first["wave"]) == ("a", "changes", 1)
    assert (first["runs"], first["release"]) == (OLD, NEW)
    assert first["files"] == [{"what": "model file", "bytes": 571_000}]
    assert first["findings"][0]["code"] == "LF314"


def test_the_same_device_and_model_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="cls on a is planned twice"):
        plan_of(planned("a"), planned("b"), planned("a"))


def test_an_empty_fleet_is_an_empty_plan() -> None:
    plan = make_plan([], Policy(), lambda name: frozenset(), fleet="hall", created_at="", models=["cls"])
    assert (plan.counts, plan.bytes_total, plan.models) == ({}, 0, ("cls",))
    assert plan.to_dict()["devices"] == []


def sent(name: str, *files: tuple[str, int], shares: bool = True) -> PlannedDevice:
    total = sum(size for _, size in files)
    return replace(planned(name), files=files, bytes_to_send=total, shares=shares)


def test_a_large_file_travels_once_over_the_line_of_a_site() -> None:
    model, whole, small = ("aa", 400_000), ("aa", 700_000), ("bb", 1_000)
    devices = [sent("a", model, small), sent("b", whole, small), sent("c", model), sent("old", model, shares=False)]
    devices += [sent("away", model), sent("z", small), planned("unchanged", DeviceState.UNCHANGED)]
    sites = {**dict.fromkeys(("a", "b", "c", "old", "unchanged"), "site hall"), "z": "jump gate", "away": ""}
    gate, hall = site_traffic(devices, sites, 64 << 10)
    assert gate == SiteTraffic("jump", "gate", 1, 1_000, 1_000)
    # The first one may be any: the largest counts.  What is small, and what an older agent needs, goes to each.
    assert hall == SiteTraffic("site", "hall", 4, 700_000 + 2 * 1_000 + 400_000, 400_000 * 3 + 700_000 + 2_000)


def test_it_is_shown_where_there_is_a_site_cache_only() -> None:
    plain = plan_of(sent("a", ("aa", 400_000)))
    assert "sites" not in plain.to_dict()
    assert "Sites" not in plan_text(plain) + plan_markdown(plain)
    made = replace(plain, sites=(SiteTraffic("jump", "gate", 40, 742_000, 22_900_000),))
    assert made.to_dict()["sites"] == [
        {"kind": "jump", "name": "gate", "devices": 40, "bytes_to_send": 742_000, "bytes_without": 22_900_000}
    ]
    assert "gate   jump host        40          742 kB                  22.9 MB" in plan_text(made)
    assert "| gate | jump host | 40 | 742 kB | 22.9 MB |" in plan_markdown(made)
    with speaking(Lang.ZH):
        assert "跳板机" in plan_text(made)
        assert "| gate | 跳板机 | 40 | 742 kB | 22.9 MB |" in plan_markdown(made)
