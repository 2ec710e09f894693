"""What a golden can tell, by tables: constants, permutations and damaged weights, and the sentence for each verdict."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.verification.comparison import ComparisonSpec, OutputPair, compare_output
from litefleet_controller.build.golden.power import Answers, Damaged, GoldenPower, measure_power

from tests.agent.verification.comparison.tensors import PICODET, PICODET_SPEC, tensor

RANDOM = np.random.RandomState(0)
TOPK = ComparisonSpec("topk")
BOXES = ComparisonSpec.from_dict(PICODET_SPEC)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype("f4")


def cases(*values: np.ndarray) -> list[Answers]:
    return [{"out": value} for value in values]


def power(values: list[np.ndarray], spec: ComparisonSpec | None = None, precision: str = "fp32") -> GoldenPower:
    return measure_power(cases(*values), {"out": spec} if spec else {}, precision)


LOGITS = [RANDOM.randn(1, 1000) * 3 for _ in range(3)]


def test_a_trained_classifier_can_tell() -> None:
    found = power([softmax(one) for one in LOGITS], TOPK)
    assert found.verdict == "strong"
    assert found.outputs[0].apart_min > 100
    assert found.outputs[0].constant == ""
    assert (
        found.sentence
        == f"The golden can tell: the cases lie at least {found.outputs[0].apart_min:.3g} tolerances apart."
    )
    assert not found.more_cases_may_help


def test_untrained_probabilities_that_hardly_differ_are_refused() -> None:
    flat = [softmax(1e-4 * one) for one in LOGITS[:2]]
    found = power(flat, TOPK)
    assert found.verdict == "refused"
    assert found.sentence == (
        "The golden cannot tell this model from constants: a model that ignores its input would be accepted in all 2 cases "
        f"(out: the middle of all cases); the cases lie at most {found.outputs[0].apart_max:.3g} tolerances apart. Give inputs "
        "for which the answers differ (`golden: {files: [a.npz, b.npz]}`), or narrow `tolerance:`."
    )
    assert found.more_cases_may_help


def test_the_middle_of_two_cases_is_a_constant_too() -> None:
    apart = [np.full(50, 0.5, "f4"), np.full(50, 0.5 + 2 * 5e-4, "f4")]
    spec = ComparisonSpec.from_dict({"compare": "tensor", "max_abs": 6e-4, "max_rel": 0, "mean_abs": 1})
    found = power(apart, spec)
    assert found.outputs[0].apart_min == pytest.approx(1 / 0.6, rel=1e-3)
    assert (found.verdict, found.outputs[0].constant) == ("refused", "the middle of all cases")


def test_one_case_that_stands_out_makes_constants_fail() -> None:
    flat = [softmax(1e-4 * one) for one in LOGITS[:2]]
    assert power([*flat, softmax(LOGITS[2])], TOPK).verdict == "strong"


def detections(seed: int) -> np.ndarray:
    random = np.random.RandomState(seed)
    corner = random.rand(8, 2) * 300
    return np.column_stack([random.randint(0, 80, 8), np.sort(random.rand(8))[::-1], corner, corner + 60]).astype("f4")


def test_a_detectors_cases_can_tell() -> None:
    found = power([detections(1), detections(2)], BOXES)
    assert found.verdict == "strong"
    assert found.outputs[0].permuted == ()
    assert power([PICODET, PICODET[::-1] + np.array([1, 0, 9, 9, 9, 9], "f4")], BOXES).verdict == "strong"


def test_a_detectors_columns_are_permuted_by_their_names() -> None:
    order = ["x", "y", "w", "h", "-", "class", "score"]
    rows = [np.column_stack([one[:, 2:], one[:, 1], one[:, :2]]).astype("f4") for one in (detections(1), detections(2))]
    found = power(rows, ComparisonSpec.from_dict({"compare": "detections", "columns": order}))
    assert (found.verdict, found.outputs[0].permuted) == ("strong", ())
    any_place = ComparisonSpec.from_dict({"compare": "detections", "columns": order, "iou": 0.1, "box": 1.0})
    assert power(rows, any_place).outputs[0].permuted == ("boxes of other rows",)


def test_a_detector_that_finds_nothing_is_weak_and_says_what_to_do() -> None:
    found = measure_power(
        [{"out": np.zeros((0, 6), "f4"), "n": np.zeros(1, "i4")}] * 2,
        {"out": BOXES, "n": ComparisonSpec.from_dict({"compare": "counts", "rows": "out"})},
        "fp32",
    )
    assert (found.verdict, found.outputs[0].empty) == ("weak", True)
    assert found.sentence.startswith("The reference finds nothing in any of the 2 cases")


def test_a_detector_with_junk_alone_is_refused_at_int8() -> None:
    junk = []
    for seed in (1, 2):
        rows = detections(seed)
        rows[:, 1] = np.linspace(0.08, 0.03, 8)
        junk.append(rows)
    assert power(junk, BOXES, "int8").verdict == "refused"
    assert power(junk, BOXES, "fp32").verdict == "strong"


def test_one_row_for_all_classes_cannot_tell_boxes_apart() -> None:
    same_box = detections(1)
    same_box[:, 2:] = [10, 10, 90, 90]
    other = same_box.copy()
    other[:, 0] += 5
    found = power([same_box, other], BOXES)
    assert found.outputs[0].permuted == ()  # equal boxes in other rows are the right answer itself
    same_score = detections(3)
    same_score[:, 1] = np.linspace(0.9, 0.899, 8)
    weak = power([same_score, detections(4)], BOXES)
    assert weak.verdict == "strong"  # the other case tells


def test_labels() -> None:
    found = np.zeros((1, 64, 64), "i4")
    found[0, 10:40, 10:40] = 3
    labels = ComparisonSpec("labels")
    assert power([found, np.roll(found, 15, 1)], labels).verdict == "strong"
    background = power([np.zeros((1, 64, 64), "i4"), np.zeros((1, 64, 64), "i4")], labels)
    assert (background.verdict, background.outputs[0].same) == ("refused", True)
    speck = found * 0
    speck[0, 0, :3] = 3
    found_speck = power([speck, speck * 0], labels)
    assert found_speck.verdict == "refused"
    assert found_speck.outputs[0].constant == "case 1's answer"


def test_an_output_that_is_constant_by_nature_does_not_weaken_the_others() -> None:
    values = [{"anchors": np.arange(9, dtype="f4"), "out": softmax(one)} for one in LOGITS]
    found = measure_power(values, {"out": TOPK}, "fp32")
    assert found.verdict == "strong"
    assert [one.same for one in found.outputs] == [True, False]


def test_an_output_that_could_be_constant_is_named() -> None:
    values = [{"weak": np.array([[0.5 + 1e-6 * i]], "f4"), "out": softmax(one)} for i, one in enumerate(LOGITS)]
    found = measure_power(values, {"out": TOPK}, "fp32")
    assert found.verdict == "weak"
    assert "weak could be constant (the middle of all cases)" in found.sentence


def test_a_symmetric_reference_cannot_tell_a_mirrored_answer() -> None:
    map_ = np.tile(np.linspace(0, 1, 16, dtype="f4"), (1, 1, 16, 1))
    both = [map_ + map_[..., ::-1].transpose(0, 1, 3, 2), 3 * map_.transpose(0, 1, 3, 2) * map_[..., ::-1]]
    found = power([both[0], both[0] * 2])
    assert found.verdict == "strong"
    random = np.random.RandomState(1)
    even = [np.abs(np.linspace(-1, 1, 16, dtype="f4")) * np.ones((1, 1, 16, 1), "f4") * factor for factor in (1, 2)]
    even = [value + 1e-6 * random.rand(*value.shape).astype("f4") for value in even]
    found = power(even)
    assert found.verdict == "weak"
    assert found.outputs[0].permuted == ("the last axis reversed", "the last axis but one reversed")
    assert "it would accept the last axis reversed in out" in found.sentence


def damaged(name: str, factor: float, harmless: bool = False) -> Damaged:
    answers = tuple({"out": softmax(one + factor * RANDOM.randn(*one.shape))} for one in LOGITS)
    return Damaged(name, f"weights with {name}", harmless, answers)


def test_damages_are_rejected_or_named() -> None:
    right = cases(*(softmax(one) for one in LOGITS))
    all_seen = measure_power(right, {"out": TOPK}, "fp32", [damaged("noise", 0.2), damaged("int8", 0.1)])
    assert all_seen.verdict == "strong"
    assert all_seen.sentence.endswith("and 2 of 2 ways of damaging the weights are rejected.")
    missed = measure_power(
        right, {"out": TOPK}, "fp32", [damaged("noise", 1e-5), damaged("int8", 1e-5), damaged("scaled", 0.2)]
    )
    assert missed.verdict == "weak"
    assert "it would accept weights with noise; it would accept weights with int8" in missed.sentence
    swapped = measure_power(
        right, {"out": TOPK}, "fp32", [damaged("swapped", 1e-5), damaged("noise", 1), damaged("int8", 1)]
    )
    assert swapped.verdict == "weak"


def test_which_damages_count_depends_on_the_precision() -> None:
    right = cases(*(softmax(one) for one in LOGITS))
    each = [damaged(name, 1e-5) for name in ("scaled", "noise", "int8", "swapped")]
    counted = {
        precision: [one.name for one in measure_power(right, {"out": TOPK}, precision, each).damages if one.counts]
        for precision in ("fp32", "int16", "fp16", "int8")
    }
    assert counted == {
        "fp32": ["scaled", "noise", "int8", "swapped"],
        "int16": ["noise", "int8", "swapped"],
        "fp16": ["noise", "swapped"],
        "int8": ["swapped"],
    }


def test_a_damage_without_effect_does_not_count() -> None:
    right = cases(*(softmax(one) for one in LOGITS))
    found = measure_power(
        right, {"out": TOPK}, "fp32", [Damaged("swapped", "two classes swapped", False, tuple(right))]
    )
    assert (found.verdict, found.damages[0].no_effect, found.damages[0].counts) == ("strong", True, False)


def test_a_tolerance_that_rejects_a_harmless_change_is_said() -> None:
    right = cases(*(softmax(one) for one in LOGITS))
    narrow = {"out": ComparisonSpec.from_dict({"compare": "topk", "score": 1e-9})}
    found = measure_power(right, narrow, "fp32", [damaged("tiny", 1e-5, True), damaged("fp16", 1e-3, True)])
    assert found.verdict == "weak"
    assert found.sentence.startswith("The tolerance is too narrow: it rejects a model with weights with tiny; widen")
    assert not found.more_cases_may_help
    fp16_alone = measure_power(right, {"out": TOPK}, "fp32", [damaged("fp16", 0.1, True)])
    assert fp16_alone.verdict == "strong"


def test_answers_that_lack_an_output_are_an_error() -> None:
    right = cases(*(softmax(one) for one in LOGITS))
    with pytest.raises(ValueError, match="gave no output 'out'"):
        measure_power(right, {}, "fp32", [Damaged("noise", "noise", False, ({"other": LOGITS[0]},))])
    with pytest.raises(ValueError, match="the same outputs"):
        measure_power([{"a": LOGITS[0]}, {"b": LOGITS[0]}], {}, "fp32")
    with pytest.raises(ValueError, match="the same outputs"):
        measure_power([], {}, "fp32")


def test_the_record_is_json() -> None:
    found = measure_power(cases(*(softmax(one) for one in LOGITS)), {"out": TOPK}, "fp16", [damaged("noise", 1)])
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["verdict"] == found.verdict
    assert record["outputs"][0]["apart_min"] == found.outputs[0].apart_min
    assert math.isfinite(record["damages"][0]["distance"])


def test_a_large_output_is_sampled_and_its_power_not_overstated() -> None:
    want, got = RANDOM.rand(1, 3, 640, 640).astype("f4"), RANDOM.rand(1, 3, 640, 640).astype("f4")
    sampled = power([want, got]).outputs[0].apart_min
    whole = compare_output(OutputPair(tensor(want), tensor(got)), ComparisonSpec("tensor"), "fp32").distance
    assert 0.5 * whole < sampled <= 1.01 * whole


@given(st.integers(0, 1000), st.sampled_from(["fp32", "fp16", "int8"]), st.floats(0, 2), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_refused_means_that_one_answer_passes_every_case(seed: int, precision: str, spread: float, count: int) -> None:
    random = np.random.RandomState(seed)
    base = random.randn(1, 20)
    values = [softmax(base + spread * random.randn(1, 20)) for _ in range(count)]
    found = power(values, TOPK, precision)
    middle = ((np.min(values, 0).astype("f8") + np.max(values, 0)) / 2).astype("f4")
    tried = [middle, *values]
    passing = [
        all(compare_output(OutputPair(tensor(want), tensor(answer)), TOPK, precision).passed for want in values)
        for answer in tried
    ]
    assert (found.verdict == "refused") == any(passing)
    assert found.outputs[0].apart_min <= found.outputs[0].apart_median <= found.outputs[0].apart_max
