"""What happened, as sentences: every code that is stored has one, in both languages, also entries of earlier versions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from litefleet_controller.catalogue.language import choose
from litefleet_controller.catalogue.translate import translated
from litefleet_controller.operations.device_records import TimelineEntry
from litefleet_controller.reports.event_sentences import _ACTIONS, _MOVES, action_sentence, entry_sentence
from litefleet_controller.rollout import DeviceEvent, RolloutEvent

_ENGLISH = re.compile(r"\b[a-z]{3,} [a-z]{2,}\b")  # two English words


@pytest.fixture
def chinese() -> Iterator[None]:
    choose("zh")
    yield
    choose(None)


def test_every_event_of_rollouts_and_devices_has_a_sentence() -> None:
    assert {event.value for event in RolloutEvent} <= set(_ACTIONS)
    assert {event.value for event in DeviceEvent} == set(_MOVES)


@pytest.mark.parametrize("action", sorted(_ACTIONS))
def test_an_action_is_a_chinese_sentence_also_without_values_and_with_odd_ones(action: str, chinese: None) -> None:
    odd = {key: {"x": [1]} for key in ("rollout", "devices", "models", "wave", "why", "reason", "rollouts", "left_out")}
    for what in ({}, {"rollout": "r-1", "wave": 2, "devices": 3, "kind": "rollback", "rollouts": ["r-0"]}, odd):
        shown = action_sentence("ann@desk", action, what)
        assert "ann@desk" in shown
        assert not _ENGLISH.search(shown), shown


def test_a_created_rollout_names_its_kind_devices_models_and_selection() -> None:
    what = {"rollout": "r-1", "kind": "rollout", "devices": 1200, "models": ["cls", "det"], "limit": "hall-a"}
    assert action_sentence("ann@desk", "rollout created", what) == (
        "ann@desk created the rollout r-1: 1,200 devices. Models: cls, det. Chosen by `--limit hall-a`."
    )
    named = {"rollout": "r-2", "kind": "rollback", "devices": ["a", "b", "c", "d", "e", "f"]}
    assert action_sentence("ann@desk", "rollout created", named) == (
        "ann@desk created r-2, which takes back a rollout: a, b, c, d, e, and 1 more."
    )


def test_a_gates_reason_is_said_in_the_readers_language(chinese: None) -> None:
    what = {"rollout": "r-1", "wave": 1, "reason": "canary: 1 of 1 devices failed in the first wave"}
    shown = action_sentence("ann@desk", "pause", what)
    assert shown.startswith("ann@desk 在第 1 波暂停了 r-1。")
    assert "原因：" in shown


def test_an_unknown_action_shows_its_code_and_what_is_stored() -> None:
    shown = action_sentence("ann@desk", "frobnicated", {"rollout": "r-1", "reason": "why not"})
    assert shown == "ann@desk: frobnicated (r-1, why not)."


def test_the_entries_of_a_time_line_are_sentences(chinese: None) -> None:
    move = TimelineEntry(
        1.0, "rollout", "fail: failed", "cls", text="softmax_0.tmp_0, case 1: 2 of 2 items are NaN or Inf"
    )
    assert entry_sentence(move).startswith("设备失败。 softmax_0.tmp_0")
    own = TimelineEntry(1.0, "device", "went-back", "cls")
    assert entry_sentence(own) == "服务退回到了之前的发布。"
    act = TimelineEntry(1.0, "audit", "device renamed", by="ann@desk", what={"from": "old", "to": "new"})
    assert entry_sentence(act) == "ann@desk 把设备 old 改名为 new。"
    assert entry_sentence(TimelineEntry(1.0, "device", "new-kind")) == "new-kind"


def test_the_finding_about_int8_weights_is_chinese(chinese: None) -> None:
    shown = translated("It has int8 weights in 83 of 106 parameters; this device is x86_64.")
    assert shown == "其中有 83 个 int8 权重（共 106 个参数）；此设备为 x86_64。"
