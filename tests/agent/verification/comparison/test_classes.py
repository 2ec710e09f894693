"""Labels, counts and the scores of classes: tables of what is a fault and what is not, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.verification.comparison import ComparisonSpec, OutputComparison, OutputPair, compare_outputs

from tests.agent.verification.comparison.tensors import compared, tensor


def segmentation(seed: int = 0) -> np.ndarray:
    """A class map of 512 x 512 pixels: a background, two large regions and one of 150 pixels."""
    found = np.zeros((1, 512, 512), "i4")
    found[0, 100:400, 50:300] = 3
    found[0, 350:500, 200:500] = 7
    found[0, 20:30, 400:415] = 11
    return np.roll(found, seed, 2)


def test_one_pixel_of_262144_is_no_fault() -> None:
    want, got = segmentation(), segmentation()
    got[0, 99, 60] = 3
    found = compared(want, got, compare="labels")
    assert found.passed
    assert found.note == "1 of 262144 labels differ"
    assert found.distance == pytest.approx(1 / 262144 / 0.001)


def test_a_small_class_that_is_gone_is_a_fault_though_999_of_1000_pixels_agree() -> None:
    want, got = segmentation(), segmentation()
    got[got == 11] = 0
    for precision in ("fp32", "int16", "fp16", "int8"):
        found = compared(want, got, precision, compare="labels")
        assert not found.passed
        assert "class 11 has IoU 0.000" in found.reason
    assert compared(want, got, compare="labels", least=200).passed


@pytest.mark.parametrize(
    ("damage", "passes_at"),
    [
        (lambda m: np.roll(m, 40, 2), ()),
        (lambda m: np.where(m == 3, 7, np.where(m == 7, 3, m)), ()),
        (lambda m: np.zeros_like(m), ()),
        (lambda m: m + 1, ()),
        (lambda m: np.roll(m, 1, 2), ("fp16", "int8")),
        (lambda m: m, ("fp32", "int16", "fp16", "int8")),
    ],
    ids=["shifted", "two classes swapped", "background only", "every class one up", "outlines moved", "equal"],
)
def test_what_a_class_map_may_differ_by(damage: object, passes_at: tuple) -> None:
    want = segmentation()
    want[want == 11] = 0
    for precision in ("fp32", "int16", "fp16", "int8"):
        got = damage(want).astype("i4")  # type: ignore[operator]
        assert compared(want, got, precision, compare="labels").passed == (precision in passes_at)


def test_few_labels_must_all_agree() -> None:
    want = np.array([3, 1, 4, 1, 5], "i8")
    for precision in ("fp32", "fp16", "int8"):
        found = compared(want, np.array([3, 1, 4, 1, 6], "i8"), precision, compare="labels")
        assert found.reason == f"1 of 5 labels differ ({ {'fp32': 0.1, 'fp16': 1, 'int8': 5}[precision] } % may)"
    assert compared(want.astype("?"), want.astype("?"), compare="labels").passed


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=300), st.sampled_from([1, 5, 50]))
def test_share_and_iou_are_numpys(pairs: list, least: int) -> None:
    want, got = np.array(pairs, "i4").T
    found = compared(want, got, compare="labels", agree=0.0, iou=0.0, least=least)
    assert found.measures["agree"] == pytest.approx((want == got).mean())
    classes = [c for c in range(6) if max((want == c).sum(), (got == c).sum()) >= least]
    ious = [((want == c) & (got == c)).sum() / ((want == c) | (got == c)).sum() for c in classes]
    assert found.measures.get("iou") == (pytest.approx(min(ious)) if ious else None)
    strict = compared(want, got, compare="labels", agree=1.0, iou=1.0, least=least)
    assert strict.passed == bool((want == got).all())
    assert (strict.distance <= 1) == strict.passed


def test_labels_in_free_order_are_sets() -> None:
    want = np.array([[5, 2, 9], [1, 2, 3]], "i8")
    assert compared(want, want[:, ::-1].copy(), compare="labels", order="free").passed
    assert not compared(want, want[::-1].copy(), compare="labels", order="free").passed
    assert not compared(want, want[:, ::-1].copy(), compare="labels").passed


def top_k(ids: list, scores: list, got: list, precision: str = "fp32", **more: object) -> bool:
    spec = {"ids": ComparisonSpec.from_dict(dict(more, compare="labels", scores="scores"))}
    want = {"ids": tensor(np.array([ids], "i8")), "scores": tensor(np.array([scores], "f4"))}
    return compare_outputs(want, {"ids": tensor(np.array([got], "i8")), "scores": want["scores"]}, spec, precision)[
        "ids"
    ].passed


@pytest.mark.parametrize(
    ("got", "fp32", "int8"),
    [
        ([8, 3, 5, 1], True, True),
        ([8, 5, 3, 1], True, True),  # 0.2 and 0.19999 tie
        ([3, 8, 5, 1], False, False),  # 0.6 is not 0.2
        ([8, 3, 5, 7], True, True),  # the last one: who comes fifth is not known, but it cannot be far from 0.0001
        ([8, 3, 7, 1], False, False),  # a class that was not among them stands for 0.2
        ([8, 3, 1, 5], False, False),
        ([7, 3, 5, 1], False, False),
    ],
)
def test_the_indices_of_a_top_k_are_decided_by_its_scores(got: list, fp32: bool, int8: bool) -> None:
    scores = [0.6, 0.2, 0.19999, 0.0001]
    assert top_k([8, 3, 5, 1], scores, got) == fp32
    assert top_k([8, 3, 5, 1], scores, got, "int8") == int8


def test_without_the_scores_at_hand_the_order_is_kept() -> None:
    found = compared(np.array([[1, 2]], "i8"), np.array([[2, 1]], "i8"), compare="labels", scores="elsewhere")
    assert not found.passed


def detector(rows: int, counts: list, got_rows: int, got_counts: list) -> OutputComparison:
    spec = {"n": ComparisonSpec.from_dict({"compare": "counts", "rows": "boxes"})}
    boxes = {"boxes": tensor(np.ones((rows, 6), "f4")), "n": tensor(np.array(counts, "i4"))}
    got = {"boxes": tensor(np.ones((got_rows, 6), "f4")), "n": tensor(np.array(got_counts, "i4"))}
    return compare_outputs(boxes, got, spec, "fp32")["n"]


def test_counts_follow_the_rows_of_their_own_run() -> None:
    assert detector(10, [10], 9, [9]).note == "counts differ by 1 from the reference, as the rows do"
    assert detector(10, [4, 6], 10, [4, 6]).passed
    assert detector(3, [3], 0, [0]).passed
    wrong = detector(10, [10], 9, [10])
    assert (wrong.passed, wrong.reason) == (False, "the counts add up to 10, and boxes has 9 rows")
    assert "counts for 1 pictures" in detector(10, [4, 6], 10, [10]).reason
    assert not detector(10, [4, 6], 10, [-4, 14]).passed


def test_counts_alone_are_compared_with_the_reference() -> None:
    assert compared(np.array([20], "i4"), np.array([19], "i4"), compare="counts").passed
    far = compared(np.array([20], "i4"), np.array([9], "i4"), compare="counts")
    assert far.reason == "the counts differ by 11 from the reference's 20 (2 may)"


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype("f4")


LOGITS = np.random.RandomState(2).randn(1, 1000) * 3


@pytest.mark.parametrize(
    ("name", "logits", "accepted"),
    [
        (
            "another order of summation",
            LOGITS + 1e-5 * np.random.RandomState(3).randn(1, 1000),
            ("fp32", "fp16", "int8"),
        ),
        ("fp16 rounding", LOGITS + 5e-3 * np.random.RandomState(3).randn(1, 1000), ("fp16", "int8")),
        ("int8 rounding", LOGITS + 3e-1 * np.random.RandomState(3).randn(1, 1000), ("int8",)),
        ("a head times 1.01", LOGITS * 1.01, ("fp16", "int8")),
        ("classes shifted", np.roll(LOGITS, 1, -1), ()),
        ("equal probabilities", LOGITS * 0, ()),
        ("reversed", -LOGITS, ()),
    ],
)
def test_what_probabilities_may_differ_by(name: str, logits: np.ndarray, accepted: tuple) -> None:
    for precision in ("fp32", "fp16", "int8"):
        found = compared(softmax(LOGITS), softmax(logits), precision, compare="topk")
        assert found.passed == (precision in accepted), (name, precision, found)


def test_classes_that_tie_may_change_places() -> None:
    want = np.array([[0.4, 0.39999, 0.2, 0.00001]], "f4")
    assert compared(want, want[:, [1, 0, 2, 3]].copy(), compare="topk").passed
    wrong = compared(want, want[:, [2, 1, 0, 3]].copy(), compare="topk")
    assert (
        wrong.reason == "at rank 2 class 2 stands where the reference has class 1 (scores 0.5 apart)"
        or "at rank" in wrong.reason
    )
    assert wrong.measures["agree"] == 0.0


def test_the_sentence_names_classes_row_and_rank() -> None:
    want = softmax(np.random.RandomState(0).randn(40, 50) * 4)
    got = want.copy()
    top = int(want[7].argmax())
    got[7, top], got[7, (top + 1) % 50] = want[7, (top + 1) % 50], want[7, top]
    found = compared(want, got, compare="topk")
    assert found.reason.startswith(
        "1 of 40 rows differ (0 % may): at rank 1, row 8 "
        f"class {(top + 1) % 50} stands where the reference has class {top}"
    )
    assert found.measures["top1"] == pytest.approx(39 / 40)
    assert compared(want, got, "int8", compare="topk").passed  # a character of 40
    assert not compared(want[7:8], got[7:8], "int8", compare="topk").passed  # a picture of one


@settings(deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 1),
    st.sampled_from(["fp32", "fp16", "int8"]),
    st.integers(0, 1000),
)
def test_rows_agree_with_a_plain_reading_of_the_rule(
    rows: int, classes: int, noise: float, precision: str, seed: int
) -> None:
    random = np.random.RandomState(seed)
    want = softmax(random.randn(rows, classes) * 3)
    got = np.clip(want + noise * random.randn(rows, classes) * want.max(-1, keepdims=True), 0, 1).astype("f4")
    found = compared(want, got, precision, compare="topk")
    score, tie, agree = {"fp32": (1e-3, 2e-3, 1.0), "fp16": (5e-2, 5e-2, 0.99), "int8": (0.4, 0.3, 0.95)}[precision]
    good = 0
    for w, g in np.stack([want, got], 1).astype("f8"):
        peak = w.max()
        k = min(5, max(1, classes - 1))
        seen, wanted = np.argsort(-g, kind="stable")[:k], np.argsort(-w, kind="stable")[:k]
        good += bool((np.abs(w - g) <= score * peak).all() and (w[wanted] - w[seen] <= tie * peak).all())
    assert found.measures["agree"] == pytest.approx(good / rows)
    assert found.passed == (rows - good <= int((1 - agree) * rows + 1e-9)) or not got.any()
    assert (found.distance <= 1) == found.passed


@pytest.mark.parametrize("shape", [(500, 3), (3, 500), (1, 40, 66), (7,), (1, 1)])
def test_any_shape_has_its_classes_last(shape: tuple) -> None:
    want = softmax(np.random.RandomState(1).randn(*shape))
    found = compared(want, want * np.float32(1.0001), compare="topk")
    assert found.passed
    assert found.measures["rows"] == want.size / shape[-1]
    assert isinstance(OutputPair(tensor(want), tensor(want)), tuple)
