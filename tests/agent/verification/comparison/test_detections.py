"""A detector's rows: what is no fault (order, ties, thresholds), what always is, and by which sentence."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.verification.comparison.tensors import PICODET, PICODET_SPEC, compared

PRECISIONS = ("fp32", "int16", "fp16", "int8")


def judged(got: np.ndarray, precision: str = "fp32", want: np.ndarray = PICODET, **more: Any) -> Any:
    return compared(want, got.astype("f4"), precision, **dict(PICODET_SPEC, **more))


def changed(rows: Any, columns: Any, value: Any) -> np.ndarray:
    got = PICODET.copy()
    got[rows, columns] = value
    return got


def test_rows_that_swap_for_a_score_of_3e_5_are_no_fault() -> None:
    got = PICODET[[0, 1, 3, 2, 4, 5, 6, 7, 8, 9]].copy()
    for precision in PRECISIONS:
        found = judged(got, precision)
        assert (found.passed, found.distance) == (True, 0.0)


@settings(deadline=None)
@given(st.permutations(range(len(PICODET))), st.floats(0, 2e-3), st.integers(0, 100))
def test_any_order_and_an_engines_rounding_pass(order: list, pixels: float, seed: int) -> None:
    random = np.random.RandomState(seed)
    noise = np.hstack([np.zeros((10, 1)), 1e-6 * random.randn(10, 1), pixels * random.randn(10, 4)])
    found = judged((PICODET + noise)[list(order)])
    assert found.passed
    assert found.measures["matched"] == 10


def scores(value: Any) -> np.ndarray:
    return changed(slice(None), 1, value)


@pytest.mark.parametrize(
    ("name", "got", "accepted"),
    [
        ("equal", PICODET, PRECISIONS),
        ("all scores zero", scores(0), ()),
        ("all scores nearly zero", scores(1e-7), ()),
        ("all scores -0.0", scores(-0.0), ()),
        ("all scores one", scores(1), ()),
        ("all scores halved", scores(PICODET[:, 1] / 2), ()),
        ("the best score 0.6 off by 0.1", changed(0, 1, 0.51), ("int8",)),
        ("a score off by 0.01", changed(1, 1, 0.3592), PRECISIONS),
        ("a score off by 0.02", changed(1, 1, 0.3692), ("fp16", "int8")),
        ("classes one up", changed(slice(None), 0, PICODET[:, 0] + 1), ()),
        ("two classes swapped", changed([0, 1, 2, 3, 5], 0, [0, 0, 8, 8, 8]), ()),
        ("boxes of other rows", changed(slice(None), slice(2, 6), np.roll(PICODET[:, 2:], 1, 0)), ()),
        ("scores of other rows", scores(np.roll(PICODET[:, 1], 1)), ()),
        ("boxes a tenth larger", changed(slice(None), slice(2, 6), PICODET[:, 2:] * 1.1), ()),
        ("boxes moved by 1 pixel", changed(slice(None), slice(2, 6), PICODET[:, 2:] + 1), ("int8",)),
        ("x and y exchanged", PICODET[:, [0, 1, 3, 2, 5, 4]], ()),
        ("the best row missing", PICODET[1:], ()),
        ("the three best rows missing", PICODET[3:], ()),
        ("the row at the threshold missing", PICODET[:9], PRECISIONS),
        ("a row at the threshold more", np.vstack([PICODET, [[3, 0.0255, 5, 5, 50, 50]]]), PRECISIONS),
        ("a sure row more", np.vstack([PICODET, [[3, 0.9, 5, 5, 50, 50]]]), ()),
        ("every row twice", np.vstack([PICODET, PICODET]), ()),
        ("no row", PICODET[:0], ()),
    ],
)  # fmt: skip
def test_what_is_a_fault(name: str, got: np.ndarray, accepted: tuple) -> None:
    for precision in PRECISIONS:
        found = judged(got, precision)
        assert found.passed == (precision in accepted), (name, precision, found)
        assert (found.distance <= 1) == found.passed
        assert bool(found.reason) != found.passed


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("peak", [0.9, 0.05, 0.003])
def test_all_scores_zero_is_a_fault_however_small_the_references_are(precision: str, peak: float) -> None:
    want = PICODET.copy()
    want[:, 1] *= peak / want[:, 1].max()
    got = want.copy()
    got[:, 1] = 0
    found = judged(got, precision, want, floor=0.0)
    assert (found.passed, found.reason) == (False, "every score is 0, or nearly (10 rows)")
    reference = judged(want, precision, got, floor=0.0)
    assert (reference.passed, reference.reason) == (False, "every score of the reference itself is 0 (10 rows)")


def test_the_sentence_says_what_became_of_the_best_row() -> None:
    required = "the same class, IoU 0.97 and a score within 0.0123 are required"
    assert judged(changed(0, 0, 3)).reason == (
        "1 of 10 rows of the reference have no counterpart, 1 of 10 rows are extra; "
        "class 8 with score 0.613 is nearest to class 3 with score 0.613, IoU 1.000; " + required
    )
    assert judged(PICODET[1:]).reason == (
        "1 of 10 rows of the reference have no counterpart, 0 of 9 rows are extra; "
        "class 8 with score 0.613 is missing: no row overlaps it; " + required
    )
    assert "class 8 with score 0.613 is missing, as every other row is" in judged(PICODET[:0]).reason
    assert judged(np.vstack([PICODET, [[3, 0.9, 5, 5, 50, 50]]])).reason.startswith(
        "0 of 10 rows of the reference have no counterpart, 1 of 11 rows are extra; the same class"
    )


@pytest.mark.parametrize("nothing", [np.zeros((0, 6)), np.full((1, 1), -1.0), np.array([[-1, 0, 0, 0, 0, 0]] * 3)])
def test_nothing_found_is_nothing_found_however_it_is_written(nothing: np.ndarray) -> None:
    found = judged(nothing, want=np.zeros((0, 6), "f4"))
    assert found.passed
    assert "proves little" in found.note
    assert not judged(nothing).passed
    assert not judged(PICODET, want=nothing.astype("f4")).passed


def test_only_rows_at_the_threshold_may_all_be_gone_and_are_said_to_prove_little() -> None:
    weak = PICODET[9:].copy()
    weak[0, 1] = 0.0252
    found = judged(weak[:0], want=weak)
    assert (found.passed, found.note) == (True, "only rows at a threshold, so this case proves little")
    assert not judged(weak[:0], want=weak, floor=0.0).passed


def test_a_full_list_may_end_with_another_row() -> None:
    got = PICODET.copy()
    got[9] = [44, 0.0272, 300, 20, 340, 60]
    assert judged(got, floor=0.0, keep=10).passed
    assert not judged(changed(0, 0, 44), floor=0.0, keep=10).passed
    assert not judged(got, floor=0.0, keep=0, missing=0.001).passed


def near_suppression(overlap: float) -> np.ndarray:
    """A second row of class 8 whose IoU with the first is `overlap`; the suppression drops it from 0.6 on."""
    width, height = PICODET[0, 4] - PICODET[0, 2], PICODET[0, 5] - PICODET[0, 3]
    step = width * (1 - overlap) / (1 + overlap)
    row = [8, 0.4, PICODET[0, 2] + step, PICODET[0, 3], PICODET[0, 2] + step + width, PICODET[0, 3] + height]
    return np.vstack([PICODET, [row]])


def test_a_row_at_the_suppressions_threshold_may_be_missing() -> None:
    with_both = near_suppression(0.59)
    assert judged(PICODET, want=with_both.astype("f4")).passed
    assert judged(with_both).passed
    assert not judged(near_suppression(0.2)).passed
    assert not judged(near_suppression(0.8)).passed  # a right suppression never leaves both
    assert not judged(with_both, overlap=0.0).passed


def test_a_picture_per_row_and_other_columns() -> None:
    order = ["image", "cx", "cy", "w", "h", "class", "-", "score"]
    box = PICODET[:, 2:]
    got = np.column_stack([
        np.arange(10) % 2, (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2, box[:, 2] - box[:, 0],
        box[:, 3] - box[:, 1], PICODET[:, 0], np.random.RandomState(0).rand(10), PICODET[:, 1],
    ]).astype("f4")  # fmt: skip
    other = got[::-1].copy()
    other[:, 6] = 9  # "-" is not compared
    assert compared(got, other, compare="detections", columns=order).passed
    other[:, 0] = 0
    assert not compared(got, other, compare="detections", columns=order).passed
    corners = np.column_stack([box[:, 0], box[:, 1], got[:, 3:5], PICODET[:, :2]]).astype("f4")
    assert compared(corners, corners, compare="detections", columns=["x", "y", "w", "h", "class", "score"]).passed


def test_boxes_with_four_points_and_pictures_in_a_batch() -> None:
    x1, y1, x2, y2 = PICODET[:, 2:].T
    points = np.column_stack([PICODET[:, :2], x1, y1, x2, y1, x2, y2, x1, y2]).astype("f4")
    columns = ["class", "score", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"]
    assert compared(points, points[::-1].copy(), compare="detections", columns=columns).passed
    moved = points.copy()
    moved[:, 2:] += 20
    assert not compared(points, moved, "int8", compare="detections", columns=columns).passed
    batch = np.stack([PICODET[:5], PICODET[5:]])
    assert compared(batch, batch[:, ::-1].copy(), **PICODET_SPEC).passed
    assert not compared(batch, batch[::-1].copy(), "int8", **PICODET_SPEC).passed


def test_rows_that_do_not_fit_the_columns_are_said() -> None:
    found = judged(PICODET[:, :5].copy())
    assert (found.passed, found.problem) == (False, "shape")
    assert found.reason == (
        "the output does not fit its columns: it has shape [10, 5], and its columns are class score x1 y1 x2 y2"
    )
    assert "at most 50000 are matched" in judged(np.ones((50001, 6), "f4")).reason


def test_points_and_lines_are_matched_by_their_coordinates() -> None:
    want = np.array([[1, 0.9, 50, 50, 50, 50], [2, 0.8, 10, 10, 90, 10]], "f4")
    spec = {"compare": "detections"}
    assert compared(want, want[::-1].copy(), **spec).passed
    assert not compared(want, want + np.array([0, 0, 5, 5, 5, 5], "f4"), **spec).passed


PLACE, SIZE = st.floats(0, 400), st.floats(1, 200)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.05, 1), PLACE, PLACE, SIZE, SIZE), min_size=1, max_size=25),
    st.randoms(use_true_random=False),
    st.sampled_from(PRECISIONS),
)  # fmt: skip
def test_detections_equal_themselves_in_any_order(rows: list, random: Any, precision: str) -> None:
    want = np.array([[c, s, x, y, x + w, y + h] for c, s, x, y, w, h in rows], "f4")
    order = list(range(len(rows)))
    random.shuffle(order)
    found = compared(want, want[order], precision, compare="detections")
    assert found.passed
    assert found.measures["matched"] == len(rows)
    assert found.distance < 0.01


@settings(deadline=None)
@given(st.integers(0, 9), st.sampled_from(PRECISIONS), st.integers(0, 50))
def test_a_sure_row_that_is_lost_is_found_wherever_it_stood(index: int, precision: str, seed: int) -> None:
    random = np.random.RandomState(seed)
    corner = random.rand(10, 2) * 300
    want = np.column_stack([np.arange(10), 0.5 + 0.5 * random.rand(10), corner, corner + 50 + 50 * random.rand(10, 2)])
    got = np.delete(want, [index, (index + 1) % 10, (index + 2) % 10], 0)
    found = compared(want.astype("f4"), got.astype("f4"), precision, **PICODET_SPEC)
    assert not found.passed
    assert found.measures["missing"] == 3


def test_crowded_rows_take_well_under_a_second() -> None:
    random = np.random.RandomState(0)
    corner = random.rand(3598, 2) * 600
    spread = np.column_stack([np.zeros(3598), random.rand(3598), corner, corner + 20 + 80 * random.rand(3598, 2)])
    heap = np.column_stack([np.zeros(2000), random.rand(2000), np.tile([9, 9, 99, 99], (2000, 1))])
    for rows in (spread, heap):
        begun = time.process_time()
        assert compared(rows.astype("f4"), random.permutation(rows).astype("f4"), compare="detections").passed
        assert time.process_time() - begun < 3.0
