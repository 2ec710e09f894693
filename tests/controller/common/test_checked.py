"""Checked values: whatever JSON holds, a reader returns its type within its bounds, or says where it is wrong."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefleet_controller.common import checked

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HUGE = [10**400, -(10**400), math.inf, -math.inf, math.nan, True, None, "1", [], {}]


@given(ANY)
def test_lenient_readers_return_their_type_within_bounds(value: object) -> None:
    assert isinstance(checked.mapping_or_empty(value), dict)
    assert not isinstance(checked.sequence_or_empty(value), str)
    assert len(checked.text_or_empty(value, 5)) <= 5
    assert 0 <= checked.number_or(value, 0, 10) <= 10
    number = checked.integer_or(value, 0, 10, default=3)
    assert type(number) is int
    assert 0 <= number <= 10


@pytest.mark.parametrize("value", HUGE)
def test_what_is_no_number_is_the_default(value: object) -> None:
    assert checked.number_or(value, -1e12, 1e12, default=-1) == -1
    assert checked.integer_or(value, -(10**12), 10**12, default=-1) == -1


@given(ANY)
def test_strict_readers_return_or_name_the_place(value: object) -> None:
    for read in (
        lambda: checked.mapping(value, "a.b"),
        lambda: checked.text(value, "a.b", 5),
        lambda: checked.number(value, "a.b", 0, 1),
        lambda: checked.integer(value, "a.b", 0, 1),
    ):
        try:
            read()
        except ValueError as error:
            message = str(error)
        else:
            continue
        assert message.startswith("a.b ")


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda: checked.mapping([1], "outcome"), "outcome should be an object, it is an array"),
        (lambda: checked.text(3, "name", 5), "name should be a text, it is 3"),
        (lambda: checked.text("abcdef", "name", 5), "name has 6 characters; at most 5 are read"),
        (lambda: checked.number(True, "p50", 0, 1), "p50 should be a finite number, it is true or false"),
        (lambda: checked.number(json.loads("1e999"), "p50", 0, 1), "p50 should be a finite number, it is inf"),
        (lambda: checked.number(2, "p50", 0, 1), "p50 should be from 0 to 1"),
        (lambda: checked.integer(None, "port", 1, 9), "port should be an integer, it is null"),
        (lambda: checked.integer(0, "port", 1, 9), "port should be from 1 to 9"),
    ],
)
def test_the_sentences(read: object, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        read()  # type: ignore[operator]
    assert str(caught.value) == sentence
