"""The catalogue's articles: whole, well formed, pages of the site, and shown by `litefleet explain`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from litefleet_agent.findings import CATALOGUE, Certainty, Finding
from litefleet_controller.catalogue.articles import advice, article, find_code, near_codes, title_of
from litefleet_controller.catalogue.details import DETAILS
from litefleet_controller.catalogue.language import Lang, lang_of
from litefleet_controller.catalogue.text import index_text, to_text
from litefleet_controller.catalogue.words import Words, words
from litefleet_controller.catalogue.zh import ZH
from litefleet_controller.cli import app
from litefleet_controller.common.errors import UsageError

from tools.docs_site.findings import finding_pages

ROOT = Path(__file__).parents[3]
CODES = sorted(CATALOGUE)
THREAD = re.compile(r"^[\w-]+/[\w-]+#\d{2,6}: \S.*$")
MEASURED = re.compile(r"^measured with Paddle-Lite [\d.a-z]+( and [\d.a-z]+)? on (x86_64|aarch64)\b.*$")


# --- what is told


def test_every_code_has_details_and_no_other():
    assert sorted(DETAILS) == CODES


@pytest.mark.parametrize("code", CODES)
def test_details_are_whole_and_of_bounded_size(code: str):
    details = DETAILS[code]
    assert details.detected.endswith(".")
    assert details.example
    assert details.where
    assert details.sure
    assert 1 <= len(details.steps) <= 5
    for text in (details.detected, details.example, *details.steps, *details.symptoms, *details.references):
        assert text == text.strip() != ""
        assert len(text) <= 320, text
        assert text.isprintable()
        assert text.count("`") % 2 == 0 or text in (*details.symptoms, details.example), text


@pytest.mark.parametrize("code", CODES)
def test_references_are_public_threads_or_measurements(code: str):
    for reference in DETAILS[code].references:
        assert THREAD.match(reference) or MEASURED.match(reference), reference


def test_certainty_is_listed_from_the_surest_on():
    order = list(Certainty)
    for code, details in DETAILS.items():
        assert list(details.sure) == sorted(set(details.sure), key=order.index), code


def test_what_is_only_likely_never_decides_by_accident():
    """A row that is never certain says so in its article, and a merely possible one weighs less than the row says."""
    for code, details in DETAILS.items():
        if Certainty.POSSIBLE in details.sure:
            lighter = Finding(code, "seen", Certainty.POSSIBLE).severity
            assert (lighter is CATALOGUE[code].severity) == (CATALOGUE[code].severity.value == "note"), code


def _typed(text: str) -> list[str]:
    spans = re.findall(r"`([^`]+)`", text)
    return [command for span in spans for command in re.findall(r"(?:^|[|;&] ?)(litefleet [a-z][^|;&]*)", span)]


def test_the_steps_are_found_to_hold_commands():
    assert _typed("`x 2>&1 | litefleet doctor --log -`.") == ["litefleet doctor --log -"]
    assert sum(len(_typed(step)) for details in DETAILS.values() for step in details.steps) > 100


@pytest.mark.parametrize("code", CODES)
def test_every_command_in_the_steps_parses(code: str):
    for lang in Lang:
        reported = article(code, lang)
        for text in (reported.why, reported.do, reported.detected, *reported.steps):
            for line in _typed(text):
                _parse(line, f"{code} {lang}")


def _parse(line: str, where: str) -> None:
    """Parse a command as the command line does, without running it."""
    commands = vars(typer.main.get_command(app))["commands"]
    name, *args = re.findall(r"'[^']*'|\S+", line)[1:]
    assert name in commands, (where, line)
    options = {"--help"} | {text for p in commands[name].params for text in (*p.opts, *p.secondary_opts)}
    plain = [word.strip("'") for word in args]
    assert [w for w in plain if w.startswith("--") and w not in options] == [], (where, line)
    if plain:  # else the command is only named
        commands[name].make_context(name, plain)


# --- the articles


def test_an_article_in_both_languages():
    english, chinese = article("LF101"), article("LF101", "zh")
    assert english.title == "target-mismatch"
    assert english.why == CATALOGUE["LF101"].why
    assert chinese.title == ZH["LF101"].title
    assert chinese.why == ZH["LF101"].why
    assert english.details is chinese.details


def test_an_unknown_code_or_language_is_refused():
    with pytest.raises(KeyError):
        article("LF999")
    with pytest.raises(ValueError):
        article("LF101", "fr")


@pytest.mark.parametrize("code", CODES)
def test_the_chinese_article_has_as_many_steps(code: str):
    assert len(ZH[code].steps) == len(DETAILS[code].steps)
    assert ZH[code].detected


@pytest.mark.parametrize("text", ["LF101", "lf101", "101", "target-mismatch", " Target-Mismatch "])
def test_a_code_is_found_by_its_names(text: str):
    assert find_code(text) == "LF101"


@pytest.mark.parametrize(
    ("text", "near"), [("target-mismach", "target-mismatch"), ("LF1011", "LF101"), ("numpy2", "numpy-2")]
)
def test_near_misses_are_named(text: str, near: str):
    assert find_code(text) == ""
    assert near in near_codes(text)


def test_nothing_is_near_to_nonsense():
    assert near_codes("xyzzy" * 1000) == []


def test_words_cover_the_closed_sets_in_both_languages():
    english, chinese = map(words, Lang)
    assert isinstance(chinese, Words)
    assert set(english.headings) == set(chinese.headings)
    assert set(english.blocks) == set(chinese.blocks) == {code[:3] for code in CODES}
    assert set(english.places) == set(chinese.places) >= {p for d in DETAILS.values() for p in d.where}


@pytest.mark.parametrize(
    ("environment", "lang"),
    [
        ({}, Lang.EN),
        ({"LANG": "zh_CN.UTF-8"}, Lang.ZH),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "de_DE.UTF-8"}, Lang.EN),
        ({"LC_ALL": "zh_TW", "LANG": "C"}, Lang.ZH),
        ({"LC_ALL": "", "LANG": "ZH"}, Lang.ZH),
    ],
)
def test_the_locale_chooses_the_language(environment: dict[str, str], lang: Lang):
    assert lang_of(environment) is lang


# --- the terminal


@pytest.mark.parametrize("code", CODES)
def test_the_text_never_breaks_a_command(code: str):
    for lang in Lang:
        reported = article(code, lang)
        text = to_text(reported, 60)
        assert text.startswith(f"{code} ")
        assert "\0" not in text
        for step in reported.steps:
            for command in re.findall(r"`[^`]+`", step):
                assert command in text
    for line in to_text(article(code), 80).splitlines():
        assert len(line) <= 80 or "`" in line or line.strip() in DETAILS[code].symptoms or " " not in line.strip(), line


def test_the_index_has_a_line_for_each():
    lines = index_text([article(code) for code in CODES]).splitlines()
    assert [line.split()[0] for line in lines] == CODES
    assert lines[0].split() == ["LF101", "error", "target-mismatch"]


# --- the pages of the site


def test_every_page_is_linked_and_every_link_leads_somewhere():
    made = finding_pages()
    assert len(made) == 2 * (len(CODES) + 1)
    for name, text in made.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert target.startswith("https://github.com/") or f"findings/{target}" in made, (name, target)
    for lang in Lang:
        index = made[f"findings/index{lang.suffix}.md"]
        assert [code for code in CODES if f"[{code}]({code}.md)" not in index] == []


@pytest.mark.parametrize("code", CODES)
def test_both_pages_have_the_same_bones(code: str):
    made = finding_pages()
    english, chinese = made[f"findings/{code}.md"], made[f"findings/{code}.zh.md"]
    for bone in (r"^## ", r"^\d\. ", r"^- ", r"^```"):
        assert len(re.findall(bone, english, re.MULTILINE)) == len(re.findall(bone, chinese, re.MULTILINE)), bone
    assert english.count("```") % 2 == 0


# --- the command


def run(*codes: str, lang: str | None = None, as_json: bool = False) -> None:
    options = [*(["--lang", lang] if lang else []), *(["--json"] if as_json else [])]
    app(args=["explain", *codes, *options], standalone_mode=False)


def test_explain_shows_several(capsys: pytest.CaptureFixture[str]):
    run("101", "libc-too-old", "LF101", lang="en")
    shown = capsys.readouterr().out
    assert re.findall(r"^LF\d{3} .*", shown, re.MULTILINE) == [
        "LF101 target-mismatch (error, verdict refused)",
        "LF309 libc-too-old (error, verdict refused)",
    ]


def test_explain_in_chinese(capsys: pytest.CaptureFixture[str]):
    run("LF101", lang="zh")
    assert ZH["LF101"].do in capsys.readouterr().out


def test_explain_as_json(capsys: pytest.CaptureFixture[str]):
    run("LF101", lang="en", as_json=True)
    one = json.loads(capsys.readouterr().out)
    assert (one["code"], one["verdict"], one["certainty"]) == ("LF101", "refused", ["certain"])
    assert one["steps"] == list(DETAILS["LF101"].steps)
    run("all", as_json=True)
    assert [each["code"] for each in json.loads(capsys.readouterr().out)] == list(CATALOGUE)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (["target-mismach"], "did you mean target-mismatch"),
        (["LF999"], "LF999 is no finding"),
        (["Segmentation fault (core dumped)"], "`litefleet doctor --log FILE`"),
        (["Segmentation", "fault", "core", "dumped"], "`litefleet doctor --log FILE`"),
        (["LF101", "nosuch"], "nosuch is no finding"),
    ],
)
def test_what_is_no_finding_is_one_sentence(codes: list[str], said: str):
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        run(*codes)
    assert "\n" not in str(refused.value)


def test_an_unknown_language_is_refused():
    with pytest.raises(UsageError, match="Available: en, zh"):
        run("LF101", lang="fr")


def test_no_other_command_loads_the_articles():
    code = "import sys, litefleet_controller.cli; print([m for m in sys.modules if 'controller.catalogue.' in m])"
    env = {"PYTHONPATH": ":".join(str(ROOT / part) for part in ("agent", "inventory", "controller"))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['litefleet_controller.catalogue.language']"  # chooses a language, and reads nothing


def test_a_code_of_a_later_version_has_no_words_and_is_no_error() -> None:
    assert title_of("LF999") == ""
    assert advice("LF999") == ("", "")
