"""The Chinese catalogue says of every code what the English one says, and is written as Chinese is."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from litefleet_agent.findings import CATALOGUE, Certainty, Severity, Verdict
from litefleet_controller.catalogue.details import DETAILS
from litefleet_controller.catalogue.zh import BLOCKS_ZH, CERTAINTIES_ZH, SEVERITIES_ZH, VERDICTS_ZH, ZH

CODES = sorted(CATALOGUE)
CHINESE = "\u4e00-\u9fff"


def commands(text: str) -> Counter[str]:
    """What stands in backticks, with how often."""
    return Counter(re.findall(r"`([^`]+)`", text))


def names(text: str) -> set[str]:
    """Settings, options, variables and codes: what must not be translated or lost."""
    return set(
        re.findall(r"\b(?:LF\d{3}|[A-Z]+_[A-Z_]+|(?:rollout|verify|ssh|toolchain)\.[a-z_.]*[a-z]|--[a-z-]+)", text)
    )


def test_every_code_has_an_entry_and_no_other():
    assert sorted(ZH) == CODES


@pytest.mark.parametrize("code", CODES)
def test_commands_and_names_are_as_in_english(code: str):
    entry, chinese = CATALOGUE[code], ZH[code]

    assert commands(chinese.why) == commands(entry.why)
    assert commands(chinese.do) == commands(entry.do)
    assert names(chinese.why) == names(entry.why)
    assert names(chinese.do) == names(entry.do)


@pytest.mark.parametrize("code", sorted(DETAILS))
def test_every_step_is_translated_with_its_commands(code: str):
    details, chinese = DETAILS[code], ZH[code]

    assert commands(chinese.detected) == commands(details.detected)
    assert [commands(step) for step in chinese.steps] == [commands(step) for step in details.steps]


@pytest.mark.parametrize("code", CODES)
def test_it_is_chinese_with_chinese_punctuation(code: str):
    entry = ZH[code]
    texts = [entry.title, entry.why, entry.do, entry.detected, *entry.steps]

    assert re.search(f"[{CHINESE}]", entry.title) or entry.title == "numpy 2"
    for text in filter(None, texts):
        assert text == text.strip()
        assert not re.search(rf"[{CHINESE}][,;:?!()]|[,;?!()][{CHINESE}]", text), text
        assert not re.search(rf"[{CHINESE}][A-Za-z0-9`]|[A-Za-z0-9`][{CHINESE}]", text), "no space: " + text
    for text in filter(None, [entry.why, entry.do, entry.detected]):
        assert text.endswith(("。", "`", "）。")), text


def test_titles_differ():
    assert len({entry.title for entry in ZH.values()}) == len(ZH)


def test_every_word_of_a_closed_set_is_translated():
    assert set(SEVERITIES_ZH) == {severity.value for severity in Severity}
    assert set(CERTAINTIES_ZH) == {certainty.value for certainty in Certainty}
    assert set(VERDICTS_ZH) == {verdict.value for verdict in Verdict}
    assert set(BLOCKS_ZH) == {code[:3] for code in CATALOGUE}
