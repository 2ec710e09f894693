"""Metrics against values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from litefleet_controller.build.golden.files import Array
from litefleet_controller.build.golden.labels import Boxes
from litefleet_controller.evaluate.metrics import Score, observe, score


def array(*values: Any, dtype: str = "float32") -> Array:
    return np.array(values, dtype)


def boxes(*rows: tuple[int, float, float, float, float]) -> Boxes:
    found = np.array(rows, np.float64).reshape(-1, 5)
    return Boxes(found[:, 0].astype(np.int64), found[:, 1:])


def values(found: Score) -> dict[int, float]:
    return {one.number: round(one.value, 6) for one in found.classes}


def test_top1_counts_right_answers_and_each_class() -> None:
    outputs = [array([0.7, 0.2, 0.1]), array([0.1, 0.2, 0.7]), array([0.4, 0.5, 0.1]), array([2], dtype="int64")]
    records = [
        observe("top1", out, array(label, dtype="int64")) for out, label in zip(outputs, (0, 2, 0, 1), strict=True)
    ]
    assert records == [[[0, 0]], [[2, 2]], [[0, 1]], [[1, 2]]]
    found = score("top1", records)
    assert (found.value, found.samples, values(found)) == (0.5, 4, {0: 0.5, 1: 0.0, 2: 1.0})
    assert [one.count for one in found.classes] == [2, 1, 1]


@pytest.mark.parametrize(
    ("output", "label", "said"),
    [
        (array([0.1, 0.9]), 5, "has 2 classes, numbered from 0, and the label is 5"),
        (array([0.1, 0.9], [0.2, 0.8]), 1, "has 2 rows of scores for 1 labels"),
        (array(), 1, "is empty"),
    ],
)
def test_outputs_that_top1_can_not_read(output: Array, label: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        observe("top1", output, array(label, dtype="int64"))


def test_map50_of_two_pictures() -> None:
    """Class 0 has 2 objects; found: hit 0.9, miss 0.8, hit 0.7: precisions 1, 1/2, 2/3, so AP = (1 + 2/3) / 2."""
    first = observe(
        "map50",
        array([0, 0.9, 0, 0, 10, 10], [0, 0.8, 50, 50, 60, 60], [1, 0.6, 0, 0, 10, 4]),
        boxes((0, 0, 0, 10, 10), (1, 0, 0, 10, 10)),
    )
    second = observe("map50", array([0, 0.7, 1, 0, 11, 10], [-1, -1, -1, -1, -1, -1]), boxes((0, 0, 0, 10, 10)))
    found = score("map50", [first, second])
    assert values(found) == {0: round(5 / 6, 6), 1: 0.0}  # class 1's box has an IoU of 0.4
    assert found.value == pytest.approx(5 / 12)
    assert [one.count for one in found.classes] == [2, 1]


def test_a_second_detection_of_one_object_is_a_miss_and_pictures_scale() -> None:
    output = array([0, 0.9, 0, 0, 5, 5], [0, 0.8, 0, 0, 5, 5])
    record = observe("map50", output, boxes((0, 0, 0, 10, 20)), (2.0, 4.0))
    assert record == [[[0, 1]], [[0, pytest.approx(0.9), 1], [0, pytest.approx(0.8), 0]]]


def test_map50_without_detections_and_without_objects() -> None:
    empty = np.zeros((0, 6), "float32")
    assert score("map50", [observe("map50", empty, boxes((3, 0, 0, 1, 1)))]).value == 0.0
    assert score("map50", [observe("map50", empty, boxes())]).classes == ()
    with pytest.raises(ValueError, match=r"has dims \[1, 1\]"):
        observe("map50", array([1.0]), boxes())


def test_iou_over_all_pixels_without_those_that_are_ignored() -> None:
    """Class 0: common 2, predicted 3, labelled 2: 2/3.  Class 1: common 1, predicted 1, labelled 2: 1/2."""
    label = array([0, 0, 1, 255], [1, 255, 255, 255], dtype="uint8")
    record = observe("iou", array([[0, 0, 1, 1], [0, 1, 0, 0]], dtype="int32"), label)
    assert record == [[0, 2, 3, 2], [1, 1, 1, 2]]
    found = score("iou", [record])
    assert values(found) == {0: round(2 / 3, 6), 1: 0.5}
    assert found.value == pytest.approx(7 / 12)


def test_iou_of_scores_of_one_channel_and_of_another_size() -> None:
    scores = np.zeros((1, 2, 2, 2), "float32")
    scores[0, 1, :, 1] = 1  # the right column is class 1
    label = np.repeat(np.repeat([[0, 1], [0, 1]], 3, 0), 3, 1)
    assert observe("iou", scores, label) == [[0, 2, 2, 2], [1, 2, 2, 2]]
    one = np.array([[[[0.2, 0.9], [0.4, 0.6]]]], "float32")
    assert observe("iou", one, array([0, 1], [0, 1], dtype="int64")) == [[0, 2, 2, 2], [1, 2, 2, 2]]


def test_exact_needs_every_number() -> None:
    label = array(0, 2, 3, 3, 3, dtype="int64")
    records = [
        observe("exact", array([0, 2, 3, 3, 3], dtype="int64"), label),
        observe("exact", array([0, 2, 3, 3, 1], dtype="int64"), label),
        observe("exact", array([0, 2, 3], dtype="int64"), label),
        observe("exact", np.eye(4, dtype="float32")[[0, 2, 3, 3, 3]][None], label),  # scores
    ]
    assert records == [[1], [0], [0], [1]]
    assert score("exact", records).value == 0.5


def test_cer_of_decoded_scores() -> None:
    """The best path a a blank b b blank b is "abb"; against "abc" one of three characters is wrong."""
    path = np.eye(5, dtype="float32")[[1, 1, 0, 2, 2, 0, 2]][None]
    assert observe("cer", path, "abc", characters=("a", "b", "c")) == [1, 3]
    assert observe("cer", path, "abb", characters=("a", "b", "c")) == [0, 3]
    assert observe("cer", np.eye(5, dtype="float32")[[4]][None], " ", characters=("a", "b", "c")) == [0, 1]
    assert observe("cer", array([1, 2, 2], dtype="int64"), (1, 2)) == [1, 2]
    assert score("cer", [[1, 3], [0, 3], [1, 2]]).value == pytest.approx(1 - 2 / 8)
    assert score("cer", [[9, 3]]).value == 0.0
    with pytest.raises(ValueError, match=r"has class 4, and golden\.characters has 2 lines"):
        observe("cer", np.eye(5, dtype="float32")[[4]][None], " ", characters=("a", "b"))
