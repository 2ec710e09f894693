"""The comparison against numpy's own arithmetic, its rules, and its speed."""

from __future__ import annotations

import json
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.errors import AgentError
from litefleet_agent.formats.npz import Array
from litefleet_agent.verification.compare import Tolerance, compare, default_tolerance

FP32 = default_tolerance("fp32")


def tensor(value: np.ndarray) -> Array:
    return Array(value.dtype.name, value.shape, value.tobytes())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int64", "uint8"])
def test_figures_are_numpys(dtype: str) -> None:
    rng = np.random.RandomState(3)
    want = (rng.rand(4, 50) * 100).astype(dtype)
    got = (want + rng.rand(4, 50)).astype(dtype)
    found = compare(tensor(want), tensor(got), FP32)
    off = np.abs(got.astype("float64") - want.astype("float64"))
    assert found.max_abs == pytest.approx(off.max())
    assert found.mean_abs == pytest.approx(off.mean())
    a, b = want.astype("float64").ravel(), got.astype("float64").ravel()
    assert found.cosine == pytest.approx(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-10, 10, width=32), st.floats(-(2**-10), 2**-10, width=32)), min_size=1, max_size=50)
)
def test_the_item_rule_is_allclose(pairs: list[tuple[float, float]]) -> None:
    want = np.array([p[0] for p in pairs], "float32")
    got = (want + np.array([p[1] for p in pairs], "float32")).astype("float32")
    rule = Tolerance(max_abs=1e-4, max_rel=1e-4, cosine_min=-1, mean_abs=1)
    excess = np.abs(got.astype("f8") - want) - 1e-4 * np.abs(want.astype("f8"))
    if abs(excess.max() - 1e-4) > 1e-12:
        assert compare(tensor(want), tensor(got), rule).ok == bool(excess.max() <= 1e-4)


def test_the_sentence_has_the_figures() -> None:
    found = compare(tensor(np.array([0.5, 0.5], "f4")), tensor(np.array([0.81, 0.5], "f4")), FP32)
    assert found.reason == "max abs error 0.31 (allowed 0.0001 + 0.001 of the value), cosine 0.9731"


def test_zeros_for_a_tiny_reference_are_wrong_though_every_item_is_close() -> None:
    found = compare(tensor(np.full(100, 1e-8, "f4")), tensor(np.zeros(100, "f4")), FP32)
    assert not found.ok
    assert found.reason.startswith("cosine 0.00000 (allowed 0.9999 or more)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_counted(bad: float) -> None:
    want = tensor(np.ones(4, "f4"))
    found = compare(want, tensor(np.array([1, bad, bad, 1], "f4")), FP32)
    assert (found.ok, found.non_finite, found.reason) == (False, 2, "2 of 4 items are NaN or Inf")
    assert "reference itself" in compare(tensor(np.array([1, bad, 1, 1], "f4")), want, FP32).reason


def test_shape_and_type_must_be_the_same() -> None:
    want = tensor(np.ones((2, 2), "f4"))
    assert "[4]" in compare(want, tensor(np.ones(4, "f4")), FP32).reason
    assert "float64" in compare(want, tensor(np.ones((2, 2), "f8")), FP32).reason


def test_top1_counts_rows_of_classes_and_nothing_else() -> None:
    want = np.array([[0.1, 0.9], [0.8, 0.2]], "f4")
    assert compare(tensor(want), tensor(want[:, ::-1].copy()), FP32).top1 == 0.0
    assert compare(tensor(want), tensor(np.array([[0.2, 0.8], [0.4, 0.6]], "f4")), FP32).top1 == 0.5
    picture = np.random.RandomState(0).rand(1, 1, 8, 8).astype("f4")
    assert compare(tensor(picture), tensor(picture), FP32).top1 is None


def test_empty_and_all_zero_tensors_agree_with_themselves() -> None:
    for value in (np.zeros((0, 3), "f4"), np.zeros(5, "f4"), np.zeros((), "i8")):
        assert compare(tensor(value), tensor(value), FP32).ok


def test_absolute_limits_scale_with_raw_scores() -> None:
    assert default_tolerance("fp32", peak=250.0).max_abs == pytest.approx(250 * FP32.max_abs)
    assert default_tolerance("fp32", peak=1e-9) == FP32


def test_a_tolerance_is_read_strictly() -> None:
    assert Tolerance.from_dict({"max_abs": 1}, FP32) == Tolerance(1.0, FP32.max_rel, FP32.cosine_min, FP32.mean_abs)
    for wrong in ({"max": 1}, {"max_abs": -1}, {"max_abs": "1"}, {"max_rel": float("nan")}, {"mean_abs": True}, []):
        with pytest.raises(AgentError, match="tolerance"):
            Tolerance.from_dict(wrong, FP32)


def test_the_largest_output_takes_well_under_half_a_second() -> None:
    value = tensor(np.random.RandomState(0).rand(1, 40, 6625).astype("f4"))
    begun = time.process_time()
    assert compare(value, value, FP32).ok
    assert time.process_time() - begun < 0.5


def test_figures_that_overflow_are_capped() -> None:

    huge = [struct.pack("<2d", *pair) for pair in ((1.7e308, -1.7e308), (-1.7e308, 1.7e308))]
    found = compare(Array("float64", (2,), huge[0]), Array("float64", (2,), huge[1]), default_tolerance("fp32"))
    assert not found.ok
    assert (found.max_abs, found.mean_abs) == (1e300, 1e300)
    assert "Infinity" not in json.dumps(vars(found))
