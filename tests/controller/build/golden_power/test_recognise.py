"""What is recognised of an output, and what is left a tensor because it is not certain."""

from __future__ import annotations

from typing import Any

import pytest
from litefleet_controller.build.conversion.program import Op, Program
from litefleet_controller.build.golden.recognise import recognise

from tests.controller.build.golden_power.programs import op, program

FLOAT, INT = ("float32", (-1, 10)), ("int64", (-1,))


def spec_of(found: Program, name: str = "out") -> dict[str, Any]:
    return recognise(found)[name].spec.to_dict()


def copied(name: str = "made") -> Op:
    """The scale by 1 that PaddlePaddle puts behind each output it exports."""
    return op("scale", {"X": name}, {"Out": "out"}, scale=1.0, bias=0.0, bias_after_scale=True)


def nms(kind: str = "multiclass_nms3", **attributes: Any) -> list[Op]:
    outputs = {"Out": "rows", "Index": "index", "RoisNum" if kind == "matrix_nms" else "NmsRoisNum": "num"}
    return [
        op(kind, {"BBoxes": "boxes", "Scores": "scores"}, outputs, **attributes),
        op("scale", {"X": "rows"}, {"Out": "out"}, scale=1.0, bias=0.0),
        op("assign", {"X": "num"}, {"Out": "count"}),
    ]


@pytest.mark.parametrize("kind", ["multiclass_nms", "multiclass_nms2", "multiclass_nms3"])
def test_the_end_of_a_detector(kind: str) -> None:
    ops = nms(kind, score_threshold=0.025, keep_top_k=100, nms_threshold=0.6, nms_top_k=1000)
    found = program(
        ops, {"out": ("float32", (3598, 6)), "count": ("int32", (-1,))}, {"boxes": ("float32", (-1, 3598, 4))}
    )
    assert spec_of(found) == {"compare": "detections", "floor": 0.025, "keep": 100, "overlap": 0.6}
    assert spec_of(found, "count") == {"compare": "counts", "rows": "out"}
    assert recognise(found)["out"].why == f"the rows of {kind}: class, score, box"


def test_matrix_nms_has_its_own_threshold_and_no_overlap() -> None:
    ops = nms("matrix_nms", score_threshold=0.1, post_threshold=0.05, keep_top_k=-1, nms_threshold=0.5)
    found = program(ops, {"out": ("float32", (-1, 6))}, {"boxes": ("float32", (-1, -1, 4))})
    assert spec_of(found) == {"compare": "detections", "floor": 0.05}


def test_boxes_with_more_points_and_boxes_of_unknown_width() -> None:
    points = program(nms(), {"out": ("float32", (-1, 10))}, {"boxes": ("float32", (-1, -1, 8))})
    assert spec_of(points)["columns"] == ["class", "score", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"]
    declared = program(nms(), {"out": ("float32", (-1, 6))}, {"rows": ("float32", (-1, 6))})
    assert spec_of(declared)["compare"] == "detections"
    assert spec_of(program(nms(), {"out": ("float32", (-1, -1))})) == {"compare": "tensor"}


def test_rows_that_are_worked_on_after_the_suppression_are_not_certain() -> None:
    ops = [*nms()[:1], op("slice", {"Input": "rows"}, {"Out": "out"}, axes=1)]
    assert spec_of(program(ops, {"out": ("float32", (-1, 4))}, {"boxes": ("float32", (-1, -1, 4))})) == {
        "compare": "tensor"
    }
    scaled = [*nms()[:1], op("scale", {"X": "rows"}, {"Out": "out"}, scale=0.5)]
    assert spec_of(program(scaled, {"out": ("float32", (-1, 6))}, {"boxes": ("float32", (-1, -1, 4))})) == {
        "compare": "tensor"
    }


@pytest.mark.parametrize(
    ("maker", "kind"),
    [("arg_max", "labels"), ("arg_min", "labels"), ("crf_decoding", "labels"), ("greater_than", "labels")],
)
def test_operators_that_make_labels(maker: str, kind: str) -> None:
    ops = [op(maker, {"X": "logits"}, {"Out": "made"}), op("cast", {"X": "made"}, {"Out": "narrow"}), copied("narrow")]
    variables = {"made": ("int64", (-1,)), "narrow": ("int32", (-1,))}
    assert spec_of(program(ops, {"out": ("int32", (-1,))}, variables)) == {"compare": kind}


def test_other_whole_numbers_are_labels_by_their_dtype() -> None:
    for dtype in ("bool", "uint8", "int32", "int64"):
        assert spec_of(program([op("custom", {"X": "a"}, {"Out": "out"})], {"out": (dtype, (-1,))})) == {
            "compare": "labels"
        }
    assert spec_of(program([], {"out": INT})) == {"compare": "labels"}


def test_floats_made_whole_may_be_off_by_one() -> None:
    ops = [op("clip", {"X": "a"}, {"Out": "pixels"}), op("cast", {"X": "pixels"}, {"Out": "made"}), copied()]
    variables = {"pixels": ("float32", (1, 3, 8, 8)), "made": ("uint8", (1, 3, 8, 8))}
    found = spec_of(program(ops, {"out": ("uint8", (1, 3, 8, 8))}, variables))
    assert (found["compare"], found["max_abs"]) == ("tensor", 1.0)


def test_labels_that_became_floats_stay_labels() -> None:
    ops = [op("arg_max", {"X": "a"}, {"Out": "ids"}), op("cast", {"X": "ids"}, {"Out": "out"})]
    variables = {"ids": INT}
    assert spec_of(program(ops, {"out": ("float32", (-1,))}, variables)) == {"compare": "labels"}


def test_top_k_and_its_scores() -> None:
    ops = [
        op("softmax", {"X": "logits"}, {"Out": "prob"}, axis=-1),
        op("top_k_v2", {"X": "prob"}, {"Out": "best", "Indices": "ids"}, k=5),
        op("scale", {"X": "best"}, {"Out": "v"}, scale=1.0),
        op("scale", {"X": "ids"}, {"Out": "i"}, scale=1.0),
    ]
    both = program(ops, {"v": ("float32", (1, 5)), "i": ("int64", (1, 5))})
    assert spec_of(both, "i") == {"compare": "labels", "scores": "v"}
    assert spec_of(both, "v") == {"compare": "tensor", "scale": "peak"}
    assert spec_of(program(ops, {"i": ("int64", (1, 5))}), "i") == {"compare": "labels", "order": "free"}
    logits = program([op("top_k_v2", {"X": "a"}, {"Out": "out", "Indices": "ids"})], {"out": ("float32", (1, 5))})
    assert spec_of(logits) == {"compare": "tensor"}


@pytest.mark.parametrize(("axis", "dims", "spec"), [
    (-1, (-1, 1000), {"compare": "topk"}),
    (1, (-1, 1000), {"compare": "topk"}),
    (2, (-1, 40, 6625), {"compare": "topk"}),
    (1, (1, 19, 512, 512), {"compare": "tensor", "scale": "peak"}),
])  # fmt: skip
def test_softmax_by_its_axis(axis: int, dims: tuple[int, ...], spec: dict[str, Any]) -> None:
    ops = [op("softmax", {"X": "logits"}, {"Out": "made"}, axis=axis), copied()]
    assert spec_of(program(ops, {"out": ("float32", dims)}, {"made": ("float32", dims)})) == spec


def test_a_softmax_that_is_reshaped_afterwards_is_not_certain() -> None:
    ops = [op("softmax", {"X": "a"}, {"Out": "made"}, axis=-1), op("reshape2", {"X": "made"}, {"Out": "out"})]
    assert spec_of(program(ops, {"out": FLOAT}, {"made": FLOAT})) == {"compare": "tensor"}


def test_sigmoids_of_maps_and_of_vectors() -> None:
    ops = [
        op("sigmoid", {"X": "a"}, {"Out": "p"}),
        op("bilinear_interp_v2", {"X": "p"}, {"Out": "made"}),
        copied(),
    ]
    assert spec_of(program(ops, {"out": ("float32", (-1, 1, -1, -1))})) == {"compare": "mask"}
    vector = [op("sigmoid", {"X": "a"}, {"Out": "made"}), copied()]
    assert spec_of(program(vector, {"out": ("float32", (-1, 1))})) == {"compare": "tensor", "scale": "peak"}
    assert spec_of(program(vector, {"out": ("float32", (1, 80, 1, 1))})) == {"compare": "tensor", "scale": "peak"}


def test_quantised_exports_end_in_the_same_operators() -> None:
    ops = [
        op("softmax", {"X": "a"}, {"Out": "p"}, axis=-1),
        op("quantize_linear", {"X": "p", "Scale": "s"}, {"Y": "q"}),
        op("dequantize_linear", {"X": "q", "Scale": "s"}, {"Y": "made"}),
        copied(),
    ]
    assert spec_of(program(ops, {"out": FLOAT}, {"p": FLOAT})) == {"compare": "topk"}


def test_normalised_vectors() -> None:
    ops = [
        op("p_norm", {"X": "v"}, {"Out": "length"}),
        op("clip", {"X": "length"}, {"Out": "bounded"}),
        op("elementwise_div", {"X": "v", "Y": "bounded"}, {"Out": "made"}),
        copied(),
    ]
    assert spec_of(program(ops, {"out": ("float32", (-1, 512))})) == {"compare": "embedding"}
    assert spec_of(
        program([*ops[:2], op("elementwise_div", {"X": "w", "Y": "bounded"}, {"Out": "out"})], {"out": FLOAT})
    ) == {"compare": "tensor"}


def test_two_writers_of_one_variable_are_not_certain() -> None:
    ops = [op("softmax", {"X": "a"}, {"Out": "made"}, axis=-1), op("assign", {"X": "b"}, {"Out": "made"}), copied()]
    assert spec_of(program(ops, {"out": FLOAT}, {"made": FLOAT})) == {"compare": "tensor"}


def test_a_circle_of_operators_ends() -> None:
    ops = [op("assign", {"X": "out"}, {"Out": "b"}), op("assign", {"X": "b"}, {"Out": "out"})]
    assert spec_of(program(ops, {"out": FLOAT})) == {"compare": "tensor"}


def test_two_outputs_of_one_value_each_have_their_specification() -> None:
    ops = [*nms(), op("assign", {"X": "rows"}, {"Out": "again"})]
    outputs = {"out": ("float32", (-1, 6)), "again": ("float32", (-1, 6)), "count": ("int32", (-1,))}
    found = program(ops, outputs, {"boxes": ("float32", (-1, -1, 4))})
    assert [spec_of(found, name)["compare"] for name in outputs] == ["detections", "detections", "counts"]
    assert spec_of(found, "count") == {"compare": "counts", "rows": "out"}


def test_a_hostile_program_is_recognised_with_defaults() -> None:
    ops = nms(score_threshold=float("inf"), keep_top_k=-5, nms_threshold=float("nan"))
    found = program(ops, {"out": ("float32", (-1, 6))}, {"boxes": ("float32", (-1, -1, 4))})
    assert spec_of(found) == {"compare": "detections"}
    name = "a\nname\x00that no configuration can hold"
    ops = [*nms()[:1], op("assign", {"X": "rows"}, {"Out": name}), op("assign", {"X": "num"}, {"Out": "count"})]
    outputs = {name: ("float32", (-1, 6)), "count": ("int32", (-1,))}
    assert spec_of(program(ops, outputs, {"boxes": ("float32", (-1, -1, 4))}), "count") == {"compare": "counts"}
