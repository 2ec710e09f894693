"""Plain numbers, maps of probabilities and embeddings, against numpy's arithmetic and by tables of what must pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.verification.compare import compare, default_tolerance, in_agreement
from litefleet_agent.verification.comparison import OutputPair, compare_outputs

from tests.agent.verification.comparison.tensors import compared, tensor

PRECISION = st.sampled_from(["fp32", "int16", "fp16", "int8"])


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(-50, 50, width=32), st.floats(-1, 1, width=32)), min_size=1, max_size=40),
    exponent=st.integers(-7, 0),
    precision=PRECISION,
)
def test_a_tensor_is_judged_item_by_item(pairs: list[tuple[float, float]], exponent: int, precision: str) -> None:
    want = np.array([p[0] for p in pairs], "f4")
    got = (want + np.array([p[1] for p in pairs], "f4") * np.float32(10.0**exponent)).astype("f4")
    limits = in_agreement(default_tolerance(precision, float(np.abs(want).max())), want.tolist())
    before = compare(tensor(want), tensor(got), limits)
    now = compared(want, got, precision, compare="tensor")
    if before.ok and not got.any() and want.any():
        assert "every item is 0" in now.reason  # the one difference: zeros never pass
        return
    assert (now.passed, now.reason) == (before.ok, before.reason)
    assert now.elementwise == before
    assert (now.distance <= 1.0) == now.passed


def test_the_distance_counts_in_tolerances() -> None:
    want = np.linspace(-1, 1, 100, dtype="f4")
    for factor in (0.25, 0.75, 2.0, 40.0):
        found = compared(
            want, want + np.float32(factor * 0.1), compare="tensor", max_abs=0.1, max_rel=0.0, mean_abs=1, cosine_min=-1
        )
        assert found.distance == pytest.approx(factor, rel=1e-3)
    assert compared(want, want, compare="tensor").distance == 0.0
    one_limit = {"compare": "tensor", "max_abs": 0.0, "max_rel": 0.5, "mean_abs": 9, "cosine_min": -1}
    assert compared(want, want * np.float32(1.25), **one_limit).distance == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("want", "got", "note"),
    [
        (np.arange(4, dtype="i8"), np.arange(4, dtype="i4"), "the reference is int64, the output int32"),
        (np.arange(4, dtype="f8"), np.arange(4, dtype="f4"), "the reference is float64, the output float32"),
        (np.ones(4, "f2"), np.ones(4, "f4"), "the reference is float16, the output float32"),
        (np.ones(2, "?"), np.ones(2, "u1"), "the reference is bool, the output uint8"),
        (np.array([7], "u8"), np.array([7], "i8"), "the reference is uint64, the output int64"),
        (np.float32(3.5), np.array([3.5], "f4"), "the reference has shape [], the output [1]"),
    ],
)
def test_widths_and_a_missing_dimension_are_no_difference(want: np.ndarray, got: np.ndarray, note: str) -> None:
    found = compared(want, got, compare="tensor")
    assert (found.passed, found.note) == (True, note)
    assert not compared(want, got - got.dtype.type(1), compare="tensor").passed


@pytest.mark.parametrize("kind", ["tensor", "labels", "topk", "mask", "embedding"])
def test_other_shapes_and_kinds_of_numbers_are_a_difference(kind: str) -> None:
    want = np.ones((2, 3), "i4" if kind == "labels" else "f4")
    for got in (want.reshape(3, 2), want.reshape(6), want[:1], want.astype("f4" if kind == "labels" else "i4")):
        found = compared(want, got, compare=kind)
        assert (found.passed, found.problem) == (False, "shape")
        assert "where the reference is" in found.reason


@pytest.mark.parametrize("kind", ["tensor", "labels", "topk", "mask", "embedding", "detections", "counts"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_two_empty_outputs_are_equal_with_a_note(kind: str, precision: str) -> None:
    dtype = "i4" if kind in ("labels", "counts") else "f4"
    for shape in ((0, 6), (0,), (1, 0, 4)):
        found = compared(np.zeros(shape, dtype), np.zeros((0, 6), dtype), precision, compare=kind)
        assert (found.passed, found.distance) == (True, 0.0)
        assert "empty" in found.note
    one = compared(np.zeros((0, 6), dtype), np.ones((2, 6), dtype), precision, compare=kind)
    assert not one.passed


@pytest.mark.parametrize("kind", ["tensor", "topk", "mask", "embedding", "detections", "labels"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_said(kind: str, bad: float) -> None:
    want = np.full((2, 6), 0.5, "f4")
    got = want.copy()
    got[1, 2] = bad
    found = compared(want, got, "int8", compare=kind)
    assert (found.passed, found.problem, found.reason) == (False, "non-finite", "1 of 12 items are NaN or Inf")
    reference = compared(got, want, "int8", compare=kind)
    assert not reference.passed
    assert "the reference itself" in reference.reason


@pytest.mark.parametrize("precision", ["fp32", "int16", "fp16", "int8"])
@pytest.mark.parametrize("kind", ["tensor", "topk", "mask", "embedding"])
@pytest.mark.parametrize("peak", [1e-7, 1e-3, 0.04, 0.9])
def test_zeros_never_pass_for_a_reference_that_has_values(precision: str, kind: str, peak: float) -> None:
    want = np.random.RandomState(0).rand(3, 40).astype("f4") * np.float32(peak)
    found = compared(want, np.zeros_like(want), precision, compare=kind)
    assert not found.passed
    assert found.distance > 1


def test_a_right_angle_is_not_called_zero() -> None:
    want, got = np.array([1, 0], "f4"), np.array([0, 1], "f4")
    wide = {"compare": "tensor", "max_abs": 9, "mean_abs": 9, "cosine_min": -1}
    assert compared(want, got, **wide).passed
    assert compared(want, got * 0, **wide).reason == "every item is 0 where the reference's largest is 1"


def blob(shift: int = 0, noise: float = 0.0) -> np.ndarray:
    """A map as a text detector gives: a region of 0.95 with an outline of two pixels, in 1e-4."""
    y, x = np.mgrid[0:64, 0:96]
    distance = np.maximum(np.abs(y - 30) - 12, np.abs(x - 48 - shift) - 30).astype("f8")
    logits = np.clip(-2.5 * distance, -9, 3) + noise * np.random.RandomState(1).randn(64, 96)
    return (1 / (1 + np.exp(-logits)))[None, None].astype("f4")


def test_a_mask_forgives_an_outline_and_not_a_shift() -> None:
    int8 = compared(blob(), blob(noise=0.3), "int8", compare="mask")
    assert int8.passed
    fp16 = compared(blob(), blob(noise=0.05), "fp16", compare="mask")
    assert fp16.passed
    assert compared(blob(), blob(noise=0.001), "fp32", compare="mask").passed
    for precision in ("fp32", "fp16", "int8"):
        moved = compared(blob(), blob(shift=12), precision, compare="mask")
        assert not moved.passed
        assert "the cut-out at 0.5 has IoU" in moved.reason


def test_a_mask_accepted_by_its_cut_out_says_so() -> None:
    want, got = blob(), blob()
    got[0, 0, 3, 3] = 0.04  # one item of 6144, far outside
    found = compared(want, got, "fp32", compare="mask")
    assert found.passed
    assert found.note.startswith("accepted by its cut-out at 0.5; the items alone differ: max abs error")
    assert found.measures["iou"] == 1.0
    assert found.elementwise is not None
    assert found.elementwise.ok


def test_a_mask_without_a_cut_out_is_judged_by_its_items() -> None:
    flat = np.full((1, 1, 8, 8), 1e-5, "f4")
    flat[0, 0, 0, 0] = 3e-5
    assert compared(flat, flat * np.float32(1.0001), "fp32", compare="mask").passed
    other = compared(flat, flat[:, :, ::-1].copy(), "fp32", compare="mask")
    assert not other.passed
    assert "the whole reference lies on one side of 0.5" in other.reason


@settings(deadline=None)
@given(
    scale=st.floats(0.01, 100),
    noise=st.floats(0, 0.5),
    precision=PRECISION,
)
def test_embeddings_are_judged_by_angle_and_length(scale: float, noise: float, precision: str) -> None:
    random = np.random.RandomState(5)
    want = random.randn(3, 128)
    got = want * scale + noise * random.randn(3, 128)
    found = compared(want.astype("f4"), got.astype("f4"), precision, compare="embedding")
    norms = np.linalg.norm(want, axis=1), np.linalg.norm(got, axis=1)
    cosine = ((want * got).sum(1) / norms[0] / norms[1]).min()
    length = np.abs(norms[1] / norms[0] - 1).max()
    assert found.measures["cosine"] == pytest.approx(cosine, abs=1e-6)
    assert found.measures["length"] == pytest.approx(length, abs=1e-5)
    limits = {"fp32": (0.9998, 8e-3), "int16": (0.9998, 1e-2), "fp16": (0.9995, 2e-2), "int8": (0.98, 0.15)}[precision]
    clear = abs(cosine - limits[0]) > 1e-5 and abs(length - limits[1]) > 1e-4
    if clear:
        assert found.passed == (cosine >= limits[0] and length <= limits[1])
    assert found.passed or "vectors has cosine" in found.reason


def test_a_zero_vector_agrees_with_a_zero_vector_only() -> None:
    want = np.array([[0, 0, 0], [1, 2, 3]], "f4")
    assert compared(want, want, compare="embedding").passed
    assert not compared(want, want + np.array([[1], [0]], "f4"), "int8", compare="embedding").passed


def test_all_outputs_of_a_case_by_name() -> None:
    want = {"a": tensor(np.ones(3, "f4")), "b": tensor(np.arange(3, dtype="i8"))}
    got = {"b": tensor(np.arange(3, dtype="i8")), "a": tensor(np.zeros(3, "f4"))}
    found = compare_outputs(want, got, {}, "fp32")
    assert [(name, one.kind, one.passed) for name, one in found.items()] == [
        ("a", "tensor", False),
        ("b", "tensor", True),
    ]
    with pytest.raises(KeyError):
        compare_outputs(want, {"a": want["a"]}, {}, "fp32")
    assert OutputPair(want["a"], got["a"]).expected is want["a"]


def test_the_figures_of_a_report_keep_the_names_that_they_had() -> None:
    figures = compared(np.ones((2, 3), "f4"), np.ones((2, 3), "f4"), compare="tensor").figures()
    had = {"max_abs", "mean_abs", "max_rel", "mean_rel", "cosine", "top1", "non_finite", "ok"}
    assert had | {"compare", "distance", "measures"} == set(figures)
    boxes = compared(np.zeros((0, 6), "f4"), np.zeros((0, 6), "f4"), compare="detections").figures()
    assert had <= set(boxes)
    assert (boxes["ok"], boxes["cosine"], boxes["compare"]) == (True, 1.0, "detections")
    assert "proves little" in boxes["note"]
