"""Values from JSON are believed only within their type and bounds."""

import json
import time

import pytest
from litefleet_agent.formats import checked

HOSTILE = ("1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400, "true", "null", '"1"', "[1]", "{}", "1e308")


@pytest.mark.parametrize("words", HOSTILE)
def test_what_json_lets_through_is_no_number_here(words):
    value = json.loads(words)
    for read in (checked.number, checked.whole):
        with pytest.raises(ValueError, match=r"^limits\.cpu must be a (whole )?number from .* to .*, not .{1,62}$"):
            read(value, name="limits.cpu")
    assert checked.number_or(7.0, value) == 7.0


def test_numbers_keep_their_kind_and_their_bounds():
    assert [checked.number(v, 0, 2) for v in (0, 1.5, 2)] == [0, 1.5, 2]
    assert type(checked.number(1, 0, 2)) is int
    assert checked.whole(2, 2, 2) == 2
    assert checked.number_or(7.0, 1.5) == 1.5
    for value in (-0.001, 2.001):
        with pytest.raises(ValueError, match=r"^the value must be a number from 0 to 2, not "):
            checked.number(value, 0, 2)
    with pytest.raises(ValueError, match=r"a whole number from 0 to 3, not 2\.0$"):
        checked.whole(2.0, 0, 3)


def test_texts_objects_and_lists_are_bounded():
    assert checked.text("", 3) == ""
    assert checked.texts(["a", "b"], 2, 1) == ("a", "b")
    assert checked.mapping({"a": 1}, most=1) == {"a": 1}
    assert checked.items((1, 2), 2) == [1, 2]
    assert checked.flag(False) is False
    assert checked.each({"a": 1}, lambda v, path: checked.whole(v, 0, 1, path), 1) == {"a": 1}
    for read, words in (
        (lambda: checked.text("abcd", 3, "name"), "name must be a text of 0 to 3 characters, not 'abcd'"),
        (lambda: checked.text(None, 3, "name", 1), "name must be a text of 1 to 3 characters, not None"),
        (lambda: checked.texts(["a", "bb"], 2, 1, "tags"), "tags[1] must be a text of 0 to 1 characters, not 'bb'"),
        (lambda: checked.texts("ab", 2, 1, "tags"), "tags must be a list of 0 to 2 items, not 'ab'"),
        (lambda: checked.mapping([1], "it"), "it must be an object of at most 100000 entries, not a list of 1 items"),
        (lambda: checked.mapping({1: 2}, "it"), "it must be an object of at most 100000 entries, not an object of 1 items"),
        (lambda: checked.items([], 2, "it", 1), "it must be a list of 1 to 2 items, not a list of 0 items"),
        (lambda: checked.flag(1, "it"), "it must be true or false, not 1"),
        (lambda: checked.each({"a": 2}, lambda v, path: checked.whole(v, 0, 1, path), 1, "it"),
         "it.a must be a whole number from 0 to 1, not 2"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            read()
        assert str(caught.value) == words


def test_a_rejected_value_is_shown_short_and_quickly():
    begun = time.process_time()
    shown = [checked.shown(v) for v in ("x" * 10_000_000, "\x1b[2J\n", 10**1_000_000, [[0] * 10**6], 10**400, 5)]
    assert time.process_time() - begun < 1
    assert all(len(words) <= 60 and words.isprintable() for words in shown)
    assert shown[1] == "'\\x1b[2J\\n'"


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("One. Two.", 9, "One. Two."),
        ("The op is unknown. Convert it with another version of the converter: 2.12", 70, "The op is unknown."),
        ("first line of the log\nsecond line of the log, which is longer than the first", 70, "first line of the log"),
        (
            "a first cause | b second cause | c a third cause of all of this, as it seems",
            70,
            "a first cause | b second cause",
        ),
        (
            "there is no sentence that ends within the seventy characters that are kept",
            70,
            "there is no sentence that ends within",
        ),
        ("x" * 200, 100, "x" * 68),
    ],
)
def test_a_text_is_shortened_at_the_end_of_a_sentence_a_line_or_a_word(text, most, kept):
    shortened = checked.shortened(text, most)
    assert shortened == (kept if kept == text else f"{kept} … ({len(text) - len(kept)} more characters)")
    assert len(shortened) <= most
    assert checked.shortened(shortened, most) == shortened
