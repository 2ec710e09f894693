"""Messages in Chinese: every sentence of the modules that operators meet most has a translation with the same values."""

import json
import re
from importlib.resources import files
from pathlib import Path

import litefleet_controller
import pytest
from litefleet_controller.catalogue.language import choose
from litefleet_controller.catalogue.translate import tr, translated, translated_sentence

from tests.controller.catalogue.translatable import templates_of

ROOT = Path(litefleet_controller.__file__).parent
MESSAGES = files("litefleet_controller.catalogue") / "messages"
# Grows command by command; what is not listed yet is shown in English.
MODULES = [
    "reports/terminal",
    "reports/grouping",
    "reports/values",
    "reports/plan_text",
    "reports/rollout_summary",
    "reports/status_text",
    "reports/device_text",
    "reports/progress",
    "rollout/gates",
    "operations/rollback",
    "operations/resume",
    "operations/open_rollouts",
    "operations/context",
    "cli/rollouts",
    "cli/devices",
    "cli/fleet",
    "cli/state",
]
# Text that no person reads as a sentence: commands to type, units, types, styles.
NOT_SENTENCES = re.compile(
    r"litefleet [a-z-]+( .*)?|\{1\} (TB|ms)|\{1\} min \{2\} s|Coroutine.*|UTC|or|.* run\{2\} .*|.*litefleet explain .*"
    r"|(ID|Name|Only|Show|Path|At most|Do not)\b.*"
)


def texts(group: str) -> dict[str, str]:
    return json.loads((MESSAGES / f"{group}.zh.json").read_text(encoding="utf-8"))


SENTENCES = texts("output") | texts("sentences")


@pytest.fixture
def chinese():
    choose("zh")
    yield
    choose(None)


@pytest.mark.parametrize("module", MODULES)
def test_every_sentence_has_a_translation(module, chinese):
    missing = [
        text
        for text in templates_of(ROOT / f"{module}.py")
        if not NOT_SENTENCES.fullmatch(text)
        and not any(char >= "\u4e00" for char in text)
        and text not in texts("help")
        and text not in SENTENCES
        and "{count} " + text not in SENTENCES  # a noun that `plural` counts
        and all(translated(line) == line for line in text.split("\n"))
    ]
    assert missing == []


@pytest.mark.parametrize("group", ["help", "output", "sentences"])
def test_translations_have_the_values_of_the_english_text(group):
    for english, chinese in texts(group).items():
        if group == "help" and "default" not in english:
            continue
        assert set(re.findall(r"\{\w+\}", chinese)) <= set(re.findall(r"\{\w+\}", english)), english
        left_out = set(re.findall(r"\{\w+\}", english)) - set(re.findall(r"\{\w+\}", chinese))
        assert len(left_out) <= 1, english  # an English plural's "s"


def test_a_stored_sentence_is_translated_with_the_sentences_in_it(chinese):
    said = "1 of 3 devices in the first wave failed; the limit is 1: cam-01"
    assert translated(said) == "第一波的 3 台设备中有 1 台失败；限值为 1：cam-01"
    refused = "r-1 is paused: it is a rollback, and this command would be a new rollout.  "
    refused += "`litefleet resume r-1` continues it, `litefleet rollout --supersede` replaces it, "
    refused += "`litefleet abort r-1` ends it"
    assert translated(refused) == (
        "r-1 已暂停：它是一次退回，而此命令会是新的部署。`litefleet resume r-1` 继续它，`litefleet rollout --supersede` 取代它，"
        "`litefleet abort r-1` 结束它"
    )
    assert tr("{count} devices", count=7) == "7 台设备"


def test_what_no_template_fits_is_quoted_as_the_devices_words(chinese):
    assert translated_sentence("a score of row 3 differs by 0.5") == "设备原文：a score of row 3 differs by 0.5"
    assert translated_sentence("outputs match the reference") == "输出与参考一致"
    assert translated("a score of row 3 differs by 0.5") == "a score of row 3 differs by 0.5"


def test_a_hostile_sentence_costs_little(chinese):
    said = " of  in  is  to  and  by  for " * 120
    assert translated(said).count("of") <= 120


def test_english_is_left_alone():
    choose("en")
    assert translated("outputs match the reference") == "outputs match the reference"
    assert tr("{count} devices", count=7) == "7 devices"
    choose(None)
