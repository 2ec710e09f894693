"""Messages in Chinese: every sentence of the controller has a translation with the same values."""

import json
import re
from importlib.resources import files
from pathlib import Path

import litefleet_controller
import pytest
from litefleet_controller.catalogue.language import choose
from litefleet_controller.catalogue.translate import GROUPS, tr, translated, translated_sentence

from tests.controller.catalogue.translatable import templates_of

ROOT = Path(litefleet_controller.__file__).parent
MESSAGES = files("litefleet_controller.catalogue") / "messages"
OTHERS = (
    "catalogue/words",  # catalogue/zh.py has its Chinese
    "reports/fleet_metrics",  # Prometheus' texts are for machines
    "serve/metrics/text",
    "state/migrations",
    "devices/bootstrap",  # the program that is sent first
    "serve/api",  # for programs, as `--json` is: docs/api.md says so
)
MODULES = sorted(
    name
    for path in ROOT.rglob("*.py")
    if not (name := path.relative_to(ROOT).with_suffix("").as_posix()).startswith(OTHERS)
)
# Text that no person reads as a sentence: commands to type, units, types, names of products.
NOT_SENTENCES = re.compile(
    r"litefleet [a-z-]+( .*)?|\{1\} (TB|ms)|\{1\} min \{2\} s|Coroutine.*|UTC|or|.* run\{2\} .*|.*litefleet explain .*"
    r"|(ID|Name|Only|Show|Path|At most|Do not)\b.*"
    r"|(glibc|numpy|CPython) \{1\}(\.\{2\})?|TensorFlow.*|Keras HDF5|ncnn param|TensorRT engine|Ascend OM|Core ML"
    r"|OpenVINO IR|1 - CER|No solution found|\{1\} (status|serve|inspect|explain|rollout|demo|plan) .*|NONCE, SHA.*"
    r"|exit \{1\}\n.*|attachment; filename.*|\{1\} port \{2\}"
    r"|LFBOOT \{1\}|too many authentication|max auth|Value error,|\{1\}.*(sh -c|mine|litefleet|@media).*|\{1\}\n\nruntimes.*"
    r"|agent \{1\}|\{\{1\}: FILE\}|def keep.*|database is locked|np\..*|latency \{1\}|file is not a database|Port \{port\}.*"
    r"|data: \{1\}|id: \{1\}.*|nobody can log in: %s|the state cannot be read: %s|cannot follow a rollout"
    r"|notices are delivered as before.*|cannot look at the receivers of notices"
    r"|jump \{1\}|as \{1\}|job \{1\}"
    r"|.*\b(AND|AS BIGINT|EXISTS|IS NULL|LIKE|OR|ORDER BY|THEN|WHERE)\b.*|r\.wave, .*"  # SQL
    r"|; Secure|; Max-Age=0|.*SameSite=.*|Bearer realm.*|Accept-Language, Cookie|camera=\(\).*",
    re.DOTALL,
)


def texts(group: str) -> dict[str, str]:
    return json.loads((MESSAGES / f"{group}.zh.json").read_text(encoding="utf-8"))


PROSE = re.compile(r"\b[a-z]{2,} [a-z]{2,}\b")  # two English words
SENTENCES = {english.strip(): chinese for group in GROUPS for english, chinese in texts(group).items()}


def is_translated(text: str) -> bool:
    """Whether a template of the code has its Chinese: alone, as a counted noun, or as the predicate of a longer sentence."""
    if "{arch}" in text:  # a template of `str.format`
        text = text.replace("{arch}", "{1}").replace("{{", "{").replace("}}", "}")
    counted = re.sub(r"^\{1\} (\w+)\{2\}$", r"{count} \1s", text)
    forms = (
        text,
        counted,
        text.replace("{1}", "{count}", 1),
        "{count} " + text,
        f"{{1}} {text} ({{2}})",
        f"litefleet: {text}",
    )
    shown = translated(text)
    return any(form in SENTENCES for form in forms) or (
        shown != text and not PROSE.search(re.sub(r"`[^`]*`", "", shown))
    )


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
        if not NOT_SENTENCES.fullmatch(text) and not any(char >= "\u4e00" for char in text) and not is_translated(text)
    ]
    assert missing == []


@pytest.mark.parametrize("group", GROUPS)
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
