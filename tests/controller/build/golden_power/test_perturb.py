"""Damaged weights: the same file but for what was meant to change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_controller.build.conversion.params import ParamsError, ParamsReader, read_params
from litefleet_controller.build.conversion.program import Program
from litefleet_controller.build.golden import perturb
from litefleet_controller.build.golden.perturb import (
    Head,
    classes_to_swap,
    find_head,
    is_rounded_to_fp16,
    perturbations,
)

from tests.controller.build.golden_power.programs import combined, op, program

RANDOM = np.random.RandomState(0)
TENSORS = {
    "bias": RANDOM.randn(10).astype("f4"),
    "conv": RANDOM.randn(8, 3, 3, 3).astype("f4"),
    "fc": RANDOM.randn(8, 10).astype("f4"),
    "norm": RANDOM.randn(8).astype("f4"),
    "steps": np.arange(3, dtype="i8"),
}


def classifier() -> Program:
    ops = [
        op("conv2d", {"Input": "x", "Filter": "conv"}, {"Output": "c"}),
        op("batch_norm", {"X": "c", "Scale": "norm"}, {"Y": "n"}),
        op("matmul_v2", {"X": "n", "Y": "fc"}, {"Out": "m"}, trans_x=False, trans_y=False),
        op("elementwise_add", {"X": "m", "Y": "bias"}, {"Out": "a"}),
        op("softmax", {"X": "a"}, {"Out": "p"}, axis=-1),
        op("scale", {"X": "p"}, {"Out": "out"}, scale=1.0),
    ]
    return program(
        ops, {"out": ("float32", (-1, 10))}, parameters={name: value.shape for name, value in TENSORS.items()}
    )


def tensors_of(params: bytes) -> dict[str, np.ndarray]:
    """Read a combined file again, by the order of the names."""
    found, at = {}, 0
    for name, (dtype, dims) in zip(sorted(TENSORS), read_params(params), strict=True):
        size = int.from_bytes(params[at + 16 : at + 20], "little")
        at += 20 + size
        found[name] = np.frombuffer(params, np.dtype(dtype), int(np.prod(dims)), at).reshape(dims)
        at += found[name].nbytes
    assert at == len(params)
    return found


PARAMS = combined(TENSORS)
HEAD = Head("fc", 1, "bias", 10)
DAMAGED = {one.name: one for one in perturbations(classifier(), PARAMS, HEAD, (2, 7))}


def test_every_damage_is_a_file_of_the_same_size_that_the_reader_takes() -> None:
    assert list(DAMAGED) == ["scaled", "noise", "int8", "swapped", "fp16", "tiny"]
    assert [one.harmless for one in DAMAGED.values()] == [False, False, False, False, True, True]
    for one in DAMAGED.values():
        assert len(one.params) == len(PARAMS)
        assert list(read_params(one.params)) == list(read_params(PARAMS))
        assert one.params != PARAMS


@pytest.mark.parametrize(
    ("name", "touched"),
    [
        ("scaled", {"fc"}),
        ("tiny", {"fc"}),
        ("noise", {"fc", "conv"}),
        ("int8", {"fc", "conv"}),
        ("swapped", {"fc", "bias"}),
        ("fp16", {"fc", "conv", "bias", "norm"}),
    ],
)
def test_a_damage_changes_what_it_names_and_nothing_else(name: str, touched: set[str]) -> None:
    found = tensors_of(DAMAGED[name].params)
    assert {key for key, value in TENSORS.items() if not np.array_equal(value, found[key])} == touched


def test_how_far_each_damage_goes() -> None:
    found = {name: tensors_of(one.params) for name, one in DAMAGED.items()}
    np.testing.assert_allclose(found["scaled"]["fc"], TENSORS["fc"] * 1.01, rtol=1e-6)
    np.testing.assert_allclose(found["tiny"]["fc"], TENSORS["fc"], rtol=1.1e-4)
    relative = found["noise"]["conv"] / TENSORS["conv"] - 1
    assert 0.005 < relative.std() < 0.02
    np.testing.assert_array_equal(found["fp16"]["fc"], TENSORS["fc"].astype("f2").astype("f4"))
    step = np.abs(TENSORS["conv"]).max((1, 2, 3), keepdims=True) / 127
    assert (np.abs(found["int8"]["conv"] - TENSORS["conv"]) <= step / 2 + 1e-6).all()
    assert all(len(np.unique(channel)) <= 255 for channel in found["int8"]["conv"])
    np.testing.assert_array_equal(found["swapped"]["fc"][:, [2, 7]], TENSORS["fc"][:, [7, 2]])
    np.testing.assert_array_equal(found["swapped"]["bias"][[2, 7]], TENSORS["bias"][[7, 2]])


def test_damages_are_the_same_every_time() -> None:
    again = {one.name: one.params for one in perturbations(classifier(), PARAMS, HEAD, (2, 7))}
    assert again == {name: one.params for name, one in DAMAGED.items()}


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_file_is_damaged_alike_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(perturb, "_PIECE", piece)
    original, made = tmp_path / "original", tmp_path / "made"
    original.write_bytes(PARAMS)
    for head, classes in ((HEAD, (2, 7)), (Head("fc", 0, "", 6), (1, 4))):
        for one in perturbations(classifier(), original, head, classes):
            one.write(made)
            if one.name != "swapped" or head is HEAD:
                assert made.read_bytes() == DAMAGED[one.name].params, one.name
            else:
                rows = tensors_of(made.read_bytes())["fc"]
                np.testing.assert_array_equal(rows[[1, 4]], TENSORS["fc"][[4, 1]])
                np.testing.assert_array_equal(rows[[0, 2, 3, 5]], TENSORS["fc"][[0, 2, 3, 5]])


def test_weights_that_fp16_holds_are_told_from_others() -> None:
    assert not is_rounded_to_fp16(classifier(), ParamsReader.of(PARAMS))
    assert is_rounded_to_fp16(classifier(), ParamsReader.of(DAMAGED["fp16"].params))
    with pytest.raises(ParamsError):
        is_rounded_to_fp16(classifier(), ParamsReader.of(DAMAGED["fp16"].params[:-1]))


@pytest.mark.parametrize("classes", [(2, 2), (0, 10), (-1, 3)])
def test_classes_that_are_none_are_not_swapped(classes: tuple[int, int]) -> None:
    assert "swapped" not in {one.name for one in perturbations(classifier(), PARAMS, HEAD, classes)}
    assert "swapped" not in {one.name for one in perturbations(classifier(), PARAMS, None, (2, 7))}


def test_parameters_without_weights_have_no_damage() -> None:
    steps = program(
        [op("assign", {"X": "steps"}, {"Out": "out"})], {"out": ("int64", (3,))}, parameters={"steps": (3,)}
    )
    assert list(perturbations(steps, combined({"steps": TENSORS["steps"]}))) == []


@given(st.integers(0, len(PARAMS) - 1), st.binary(max_size=8))
@settings(max_examples=50, deadline=None)
def test_damaged_files_are_refused_or_damaged_further(at: int, junk: bytes) -> None:
    cut = PARAMS[:at] + junk
    try:
        made = [one.params for one in perturbations(classifier(), cut, HEAD)]
    except ParamsError:
        return
    assert all(len(params) == len(cut) for params in made)


def test_the_head_of_a_classifier_and_of_a_segmentation_model() -> None:
    assert find_head(classifier(), "out") == HEAD
    ops = [
        op("conv2d", {"Input": "x", "Filter": "conv"}, {"Output": "c"}),
        op("reshape2", {"X": "norm"}, {"Out": "wide"}),
        op("elementwise_add", {"X": "c", "Y": "wide"}, {"Out": "a"}),
        op("bilinear_interp_v2", {"X": "a"}, {"Out": "large"}),
        op("arg_max", {"X": "large"}, {"Out": "ids"}),
        op("cast", {"X": "ids"}, {"Out": "out"}),
    ]
    shapes = {"conv": (8, 3, 3, 3), "norm": (8,)}
    found = program(ops, {"out": ("int32", (1, 8, 8))}, parameters=shapes)
    assert find_head(found, "out") == Head("conv", 0, "norm", 8)


def test_a_transposed_head_has_its_classes_first() -> None:
    ops = [op("matmul_v2", {"X": "x", "Y": "fc"}, {"Out": "out"}, trans_y=True)]
    assert find_head(program(ops, {"out": ("float32", (-1, 8))}, parameters={"fc": (8, 10)}), "out") == Head(
        "fc", 0, "", 8
    )


@pytest.mark.parametrize(
    "ops",
    [
        [],
        [op("concat", {"X": "a"}, {"Out": "out"})],
        [op("elementwise_add", {"X": "a", "Y": "b"}, {"Out": "out"})],
        [op("matmul_v2", {"X": "a", "Y": "b"}, {"Out": "out"})],
        [op("softmax", {"X": "out"}, {"Out": "out"})],
    ],
    ids=["nothing", "another operator", "no parameter added", "no parameter multiplied", "a circle"],
)
def test_a_head_that_is_not_certain_is_none(ops: list) -> None:
    assert find_head(program(ops, {"out": ("float32", (-1, 8))}, parameters={"fc": (8, 10)}), "out") is None


def test_the_classes_to_swap_are_those_that_the_cases_answer() -> None:
    scores = [np.eye(10, dtype="f4")[[4]], np.eye(10, dtype="f4")[[9]]]
    assert classes_to_swap(scores, 10) == (4, 9)
    same = [np.array([[0.1, 0.7, 0.2]], "f4")] * 2
    assert classes_to_swap(same, 3) == (1, 2)
    assert classes_to_swap(same, 10) is None
    assert classes_to_swap([np.array([[3, 3, 3, 1, 1, 0]])], 10) == (3, 1)
    assert classes_to_swap([np.array([[99]])], 10) is None
    assert classes_to_swap([], 10) is None
