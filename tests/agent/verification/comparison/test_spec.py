"""Specifications: what is read, what is refused with which sentence, and the defaults by precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.errors import AgentError
from litefleet_agent.verification.compare import default_tolerance
from litefleet_agent.verification.comparison import (
    DETECTION_COLUMNS,
    KINDS,
    PRECISIONS,
    TENSOR,
    ComparisonSpec,
    OutputPair,
    compare_output,
)
from litefleet_agent.verification.comparison.rules import DEFAULTS, probability_tolerance

from tests.agent.verification.comparison.tensors import tensor

GOOD: list[dict[str, Any]] = [
    {"compare": "tensor"},
    {"compare": "tensor", "max_abs": 1, "cosine_min": -1.0, "scale": "peak"},
    {"compare": "labels", "agree": 0.99, "iou": 0.5, "least": 10, "order": "free", "scores": "scale_0.tmp_0"},
    {"compare": "topk", "k": 1, "score": 0.02, "tie": 0.0, "agree": 0.9},
    {"compare": "detections", "iou": 0.9, "score": 0.02},
    {"compare": "detections", "columns": ["image", "cx", "cy", "w", "h", "class", "score", "-", "-"]},
    {"compare": "detections", "columns": ["score", "class", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"]},
    {"compare": "counts", "rows": "检测/out 0", "differ": 0.5},
    {"compare": "mask", "threshold": 0.3, "off": 0.1, "outliers": 0.0, "iou": 1},
    {"compare": "embedding", "cosine": 0.99, "length": 0.1},
]


@pytest.mark.parametrize("data", GOOD, ids=str)
def test_a_specification_is_read_and_written_back(data: dict[str, Any]) -> None:
    spec = ComparisonSpec.from_dict(data)
    assert spec.to_dict() == data
    assert ComparisonSpec.from_dict(spec.to_dict()) == spec
    assert hash(spec) == hash(ComparisonSpec.from_dict(dict(reversed(list(data.items())))))
    for precision in PRECISIONS:
        rule = spec.rule(precision)
        given_here = {name: tuple(v) if isinstance(v, list) else v for name, v in spec.given if hasattr(rule, name)}
        assert {name: getattr(rule, name) for name in given_here} == given_here


BAD = [
    ("detections", "outputs is 'detections'; it must be an object such as {compare: labels}"),
    ({}, "outputs.compare is None; it must be one of tensor, labels, topk, detections, counts, mask, embedding"),
    ({"compare": "boxes"}, "outputs.compare is 'boxes'; it must be one of"),
    (
        {"compare": "labels", "score": 1},
        "outputs has no 'score' with compare: labels; known are agree, iou, tie, least",
    ),
    ({"compare": "detections", "iou": 1.5}, "outputs.iou is 1.5; it must be a number from 0.1 to 1"),
    ({"compare": "detections", "iou": True}, "outputs.iou is True; it must be a number"),
    ({"compare": "detections", "score": float("nan")}, "outputs.score is nan; it must be a number"),
    ({"compare": "tensor", "max_abs": 10**400}, "it must be a number from 0 to 1e+30"),
    ({"compare": "tensor", "max_abs": -1}, "outputs.max_abs is -1; it must be a number"),
    ({"compare": "topk", "k": 2.5}, "outputs.k is 2.5; it must be a whole number from 1 to 1000"),
    ({"compare": "topk", "score": 1.0}, "it must be a number from 0 to 0.999"),
    ({"compare": "labels", "order": "any"}, "outputs.order is 'any'; it must be one of kept, free"),
    ({"compare": "labels", "order": ["kept"]}, "it must be one of kept, free"),
    ({"compare": "labels", "scores": ""}, "it must be the name of an output"),
    ({"compare": "labels", "scores": "a\nb"}, "it must be the name of an output"),
    ({"compare": "detections", "columns": []}, "it must be a list of 1 to 64 column names"),
    ({"compare": "detections", "columns": ["class", 1]}, "it must be a list of column names"),
    ({"compare": "detections", "columns": ["x1", "y1", "x2", "y2"]}, "class and score among them"),
    ({"compare": "detections", "columns": ["class", "class", "score", "x1", "y1", "x2", "y2"]}, "used once"),
    ({"compare": "detections", "columns": ["class", "score", "x1", "y1", "w", "h"]}, "a box as x1 y1 x2 y2"),
    ({"compare": "detections", "columns": ["class", "score"]}, "a box as x1 y1 x2 y2"),
    ({"compare": "tensor", 3: 1}, "it must be an object"),
]


@pytest.mark.parametrize(("data", "words"), BAD, ids=lambda value: str(value)[:50])
def test_a_wrong_specification_is_one_sentence(data: Any, words: str) -> None:
    with pytest.raises(AgentError) as caught:
        ComparisonSpec.from_dict(data)
    assert words in str(caught.value)
    assert caught.value.code == "bad-request"
    assert len(str(caught.value)) < 300


def test_the_sentence_names_the_place() -> None:
    with pytest.raises(AgentError, match=r"^models\.det\.outputs\.boxes\.iou is 7"):
        ComparisonSpec.from_dict({"compare": "detections", "iou": 7}, "models.det.outputs.boxes")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS) | JSON,
    rest=st.dictionaries(
        st.sampled_from(["iou", "score", "k", "columns", "scores", "agree", "order", "max_abs", "scale"]),
        JSON,
        max_size=4,
    ),
)
def test_any_json_is_read_or_refused_in_words(kind: Any, rest: dict[str, Any]) -> None:
    refusal = ""
    try:
        spec = ComparisonSpec.from_dict(dict(rest, compare=kind))
    except AgentError as refused:
        refusal = str(refused)
    if refusal:
        assert refusal.startswith("outputs")
    else:
        assert ComparisonSpec.from_dict(spec.to_dict()) == spec
        spec.rule("fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_rule_for_every_precision(kind: str) -> None:
    spec = ComparisonSpec(kind)
    assert [type(spec.rule(precision)).__name__.lower() for precision in PRECISIONS] == [kind + "rule"] * 4
    with pytest.raises(KeyError):
        spec.rule("fp8")


def test_limits_widen_with_the_precision() -> None:
    order = ("fp32", "int16", "fp16", "int8")
    detections = [DEFAULTS["detections"][precision] for precision in order]
    assert [rule.iou for rule in detections] == sorted((rule.iou for rule in detections), reverse=True)
    for name in ("score", "box", "missing"):
        assert [getattr(rule, name) for rule in detections] == sorted(getattr(rule, name) for rule in detections)
    labels = [DEFAULTS["labels"][precision] for precision in order]
    assert [rule.agree for rule in labels] == sorted((rule.agree for rule in labels), reverse=True)
    assert detections[0].columns == DETECTION_COLUMNS


def normal(count: int, deviation: float = 1.0, seed: int = 0) -> npt.NDArray[np.float32]:
    return (deviation * np.random.RandomState(seed).standard_normal(count)).astype("f4")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_limits_of_items_are_the_ones_they_always_had(precision: str) -> None:
    for peak in (0.0, 1e-6, 0.5, 1.0, 250.0):
        limits, default = (
            TENSOR.tolerance(precision, tensor(np.array([peak], "f4"))),
            default_tolerance(precision, peak),
        )
        assert (limits.max_abs, limits.max_rel) == (pytest.approx(default.max_abs), default.max_rel)
        assert limits.mean_abs >= default.mean_abs
        assert limits.cosine_min <= default.cosine_min


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("want", [[0.5], [0.7, -0.02], [0.01, 0.03, -0.02, 0.04]])
def test_what_every_one_of_few_values_may_differ_by_passes(precision: str, want: list[float]) -> None:
    """The mean of few values is about the largest, and the cosine of small ones says nothing."""
    expected = np.array(want, "f4")
    limits = default_tolerance(precision, float(np.abs(expected).max()))
    off = 0.99 * (limits.max_abs + limits.max_rel * np.abs(expected)) * np.resize([1, -1], len(want))
    assert compare_output(OutputPair(tensor(expected), tensor((expected + off).astype("f4"))), TENSOR, precision).passed
    far = compare_output(OutputPair(tensor(expected), tensor((expected + 1.1 * off).astype("f4"))), TENSOR, precision)
    assert far.distance == pytest.approx(1.1 * 0.99, rel=0.01)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("deviation", [0.003, 0.03, 0.3, 30.0])
@pytest.mark.parametrize("count", [30, 1000, 30000])
def test_noise_whose_largest_item_is_within_its_limit_passes(precision: str, deviation: float, count: int) -> None:
    """No limit of the mean or of the angle rejects differences of a normal distribution that each item's own permits.

    Where the values stand far above the items' absolute limit, the cosine bounds the whole more tightly, on purpose.
    """
    want, noise = normal(count, deviation), normal(count, seed=1)
    limits = default_tolerance(precision, float(np.abs(want).max()))
    allowed = limits.max_abs + limits.max_rel * np.abs(want)
    off = noise * 0.9 * float((allowed / np.abs(noise)).min())
    relative = float(np.linalg.norm(off) / np.linalg.norm(want))
    found = compare_output(OutputPair(tensor(want), tensor((want + off).astype("f4"))), TENSOR, precision)
    assert found.passed or relative**2 / 2 > 0.8 * (1 - limits.cosine_min), found.reason


def test_zeros_and_another_direction_are_rejected_where_values_stand_clear() -> None:
    want = normal(1000, 0.5)
    for precision in PRECISIONS:
        for got in (np.zeros_like(want), -want, np.roll(want, 1), np.full_like(want, want.mean())):
            assert not compare_output(OutputPair(tensor(want), tensor(got)), TENSOR, precision).passed
    small = tensor(normal(1000, 1e-6))  # below every absolute limit: zeros still never pass
    assert not compare_output(OutputPair(small, tensor(np.zeros(1000, "f4"))), TENSOR, "int8").passed


def test_what_is_given_is_final() -> None:
    given_here = ComparisonSpec.from_dict({"compare": "tensor", "max_abs": 0.5, "cosine_min": 0.2})
    tolerance = given_here.tolerance("fp32", tensor(normal(1000, 0.3)))
    assert (tolerance.max_abs, tolerance.cosine_min) == (0.5, 0.2)
    assert 0.1 < tolerance.mean_abs < 0.5  # not given: it follows the items' limit, and does not contradict it
    exact = ComparisonSpec.from_dict({"compare": "tensor", "max_abs": 0.5, "mean_abs": 0.0})
    assert exact.tolerance("fp32", tensor(normal(3))).mean_abs == 0.0
    scaled = ComparisonSpec.from_dict({"compare": "tensor", "scale": "peak", "max_abs": 0.5})
    assert scaled.tolerance("fp32", tensor(np.array([1e-4], "f4"))).max_abs == 0.5


def test_probabilities_scale_with_their_peak_but_not_at_int8() -> None:
    spec = ComparisonSpec.from_dict({"compare": "tensor", "scale": "peak"})
    small, one = tensor(np.array([1e-4], "f4")), tensor(np.array([1.0], "f4"))
    assert spec.tolerance("fp32", small).max_abs == pytest.approx(1e-4 * spec.tolerance("fp32", one).max_abs)
    assert spec.tolerance("int8", small).max_abs == probability_tolerance("int8", 1.0).max_abs
    assert ComparisonSpec("mask").tolerance("fp16", small) == spec.tolerance("fp16", small)


def test_more_parameters_are_checked_too() -> None:
    spec = ComparisonSpec("detections").with_given(iou=0.8)
    assert spec.with_given(score=0.1).to_dict() == {"compare": "detections", "iou": 0.8, "score": 0.1}
    assert spec.gives("iou")
    assert not spec.gives("score")
    with pytest.raises(AgentError):
        spec.with_given(iou=3)
