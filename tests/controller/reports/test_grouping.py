"""Names folded into ranges and back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefleet_controller.reports.grouping import fold, folded
from litefleet_inventory.ranges import expand


def unfold(ranges: tuple[str, ...]) -> list[str]:
    return [member.name for text in ranges for member in expand(text)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["desk"], "desk"),
        (["cam-1", "cam-2"], "cam-1, cam-2"),
        (["cam-1", "cam-2", "cam-3"], "cam-[1:3]"),
        ([f"cam-{i:03d}" for i in range(1, 241)] + ["door-3"], "cam-[001:240], door-3"),
        (["a8", "a9", "a10"], "a[8:10]"),
        (["a08", "a09", "a10"], "a[08:10]"),
        (["a01", "a02", "a03", "a1", "a2", "a3"], "a[01:03], a[1:3]"),
        (["a1", "a2", "a3", "a5"], "a[1:3], a5"),
        (["n1x2", "n2x2", "n3x2"], "n[1:3]x2"),
        ([f"h{h}-cam-{c:02d}" for h in (1, 2) for c in range(1, 13)], "h[1:2]-cam-[01:12]"),
        (["x", "a1", "x", "a2", "a3"], "x, a[1:3]"),
        (["a[1:3]", "a]"], "a[1:3], a]"),
        (["id1234567890", "id1234567891", "id1234567892"], "id1234567890, id1234567891, id1234567892"),
        (["a٣", "a٤", "a٥"], "a٣, a٤, a٥"),
    ],
)
def test_folding(names: list[str], said: str) -> None:
    assert folded(names) == said


parts = st.sampled_from(["", "a", "-", "cam-", "0", "1", "2", "3", "9", "10", "08", "09", "099", "100", "003", "002"])


@given(st.lists(st.tuples(parts, parts, parts, parts).map("".join).filter(bool), unique=True, max_size=60))
def test_what_is_folded_unfolds_to_the_same_names_each_once(names: list[str]) -> None:
    assert sorted(unfold(fold(names))) == sorted(names)


@given(st.integers(0, 99999), st.integers(2, 300), st.integers(0, 6))
def test_a_range_folds_back_to_itself(first: int, length: int, width: int) -> None:
    start = str(first).zfill(width)
    padding = len(start) if start.startswith("0") else 0
    text = f"cam-[{start}:{str(first + length).zfill(padding)}]x"
    assert fold(unfold((text,))) == (text,)


def test_the_order_is_that_of_the_first_name() -> None:
    assert fold(["b3", "z", "a1", "b1", "a2", "b2", "a3"]) == ("b[1:3]", "z", "a[1:3]")


def test_what_would_be_too_many_for_one_range_is_several() -> None:
    names = [f"d{i}" for i in range(100_001)]
    began = time.process_time()
    ranges = fold(names)
    assert time.process_time() - began < 5
    assert len(ranges) == 2
    assert unfold(ranges) == names


def test_a_long_list_ends_with_how_many_more_and_is_clean() -> None:
    assert folded([f"{c}x" for c in "abcdefg"], 3) == "ax, bx, cx and 4 more"
    assert folded(["\x1b[31mred"]) == "\\x1b[31mred"
