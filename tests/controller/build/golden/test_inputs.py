"""What golden inputs are made of: litefleet.yaml, the program's tables, and names with one meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from litefleet_controller.build.golden.inputs import draw_inputs, plan_inputs
from litefleet_controller.build.golden.own_inputs import read_inputs
from litefleet_controller.common.errors import ConfigError, LitefleetError, UsageError
from litefleet_controller.config.choices import InputSpec
from litefleet_controller.config.inputs import InputConfig
from litefleet_controller.config.preprocess import PreprocessConfig
from PIL import Image
from pydantic import ValidationError


@dataclass(frozen=True)
class Spec:
    name: str
    dtype: str
    dims: tuple[int, ...]
    lod_level: int = 0


X = Spec("x", "float32", (-1, 3, 48, 192))
DETECTOR = [
    Spec("im_shape", "float32", (-1, 2)),
    Spec("image", "float32", (-1, 3, 320, 256)),
    Spec("scale_factor", "float32", (-1, 2)),
]


def given(**inputs: object) -> dict[str, InputSpec]:
    return {name: InputConfig.model_validate(value).spec() for name, value in inputs.items()}


def drawn(
    specs: list[Spec], rows: dict[str, int] | None = None, seed: int = 0, **stated: object
) -> dict[str, np.ndarray]:
    return draw_inputs(plan_inputs(specs, given(**stated), "m", rows), seed)


def refused(specs: list[Spec], rows: dict[str, int] | None = None, **stated: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        plan_inputs(specs, given(**stated), "m", rows)
    return caught.value.problems


def test_free_dims_say_what_to_write() -> None:
    det = Spec("x", "float32", (-1, 3, -1, -1))
    assert refused([det]) == (
        "models.m: input 'x' has free dims [-1, 3, -1, -1]; write `inputs: {x: [1, 3, N, N]}` with a number for each "
        "N under `m:` in litefleet.yaml.",
    )
    assert drawn([det], x=[1, 3, 32, 40])["x"].shape == (1, 3, 32, 40)
    assert drawn([det], x={"dims": [2, 3, 8, 8], "range": [-1, 1]})["x"].min() < -0.5


def test_what_does_not_fit_is_all_named() -> None:
    assert refused([X], x=[1, 1, 48, 192], image=[1]) == (
        "models.m.inputs: the model has no input 'image'; it has x.",
        "models.m.inputs.x: [1, 1, 48, 192] does not fit the model's [-1, 3, 48, 192] (-1: free).",
    )
    ids = Spec("ids", "int64", (1, 4))
    assert refused([ids], {"ids": 10}, ids={"range": [0, 11]}) == (
        "models.m.inputs.ids: the range [0, 11] goes beyond the 10 rows of the table that it indexes (0 to 9).",
    )
    assert refused([ids], ids={"range": [0, 0.5]}) == ("models.m.inputs.ids: the range [0, 0.5] does not fit int64.",)
    assert refused([ids], ids={"value": [1, 2, 3]}) == ("models.m.inputs.ids: the value does not make int64 [1, 4].",)
    assert "takes no sequences (no LoD)" in refused([ids], ids={"lengths": [4]})[0]


def test_values_by_dtype_are_the_same_for_a_seed_everywhere() -> None:
    specs = [
        Spec("f", "float16", (4,)),
        Spec("i", "int64", (50,)),
        Spec("b", "bool", (50,)),
        Spec("u", "uint8", (900,)),
    ]
    made = drawn(specs, seed=3)
    assert {n: a.dtype.name for n, a in made.items()} == {s.name: s.dtype for s in specs}
    assert (made["i"].min(), made["i"].max(), made["u"].min(), made["u"].max()) == (0, 9, 0, 255)
    assert all(np.array_equal(made[n], a) for n, a in drawn(specs, seed=3).items())
    assert np.array_equal(drawn([X])["x"], np.random.RandomState(0).rand(1, 3, 48, 192).astype("float32"))
    with pytest.raises(LitefleetError, match="input 'z' is bfloat16, which no golden can hold"):
        drawn([Spec("z", "bfloat16", (1,))])
    with pytest.raises(LitefleetError, match="larger than 536870912 bytes"):
        drawn([Spec("z", "float32", (1 << 20, 1 << 20))])


def test_token_ids_stay_below_their_tables_rows() -> None:
    ids, types = Spec("input_ids", "int64", (2, 500)), Spec("token_type_ids", "int64", (2, 500))
    made = drawn([ids, types], {"input_ids": 3, "token_type_ids": 4})
    assert (made["input_ids"].max(), made["token_type_ids"].max()) == (2, 1)
    assert drawn([ids], {"input_ids": 18000}, input_ids={"range": [0, 18000]})["input_ids"].max() > 17000


def test_names_with_one_meaning() -> None:
    made = drawn(DETECTOR)
    assert (made["im_shape"].tolist(), made["scale_factor"].tolist()) == ([[320, 256]], [[1, 1]])
    stated = drawn(DETECTOR, im_shape=[320, 320], scale_factor=0.5)
    assert (stated["im_shape"].tolist(), stated["scale_factor"].tolist()) == ([[320, 320]], [[0.5, 0.5]])
    specs = [Spec("ids", "int64", (2, 16)), Spec("attention_mask", "int64", (2, 16)), Spec("seq_len", "int64", (2,))]
    made = drawn([*specs, Spec("position_ids", "int64", (2, 16))])
    assert made["seq_len"][0] == 16
    assert all(8 <= n <= 16 for n in made["seq_len"])
    assert all(row.tolist() == sorted(row.tolist(), reverse=True) and row[0] == 1 for row in made["attention_mask"])
    assert made["position_ids"].tolist() == [list(range(16))] * 2


def test_sequences_are_as_long_as_stated() -> None:
    words = Spec("words", "int64", (-1, 1), 1)
    plan = plan_inputs([words], {}, "lac", {"words": 100})["words"]
    assert (plan.dims, plan.lengths) == ((11, 1), (7, 4))
    plan = plan_inputs([words], given(words={"lengths": [5, 1]}), "lac")["words"]
    assert (plan.dims, plan.lengths) == ((6, 1), (5, 1))
    plan = plan_inputs([words], given(words=[5, 1]), "lac")["words"]
    assert (plan.dims, plan.lengths) == ((5, 1), (5,))
    assert "nested (LoD level 2)" in refused([Spec("w", "int64", (-1, 1), 2)])[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"range": [3, 1]}, "ends before it begins"),
        ({"value": 1, "range": [0, 1]}, "give `value` or `range`, not both"),
        ({"value": "cat"}, "'cat' is no number"),
        ({}, "give sizes as a list, one number, or some of dims, value, range, lengths"),
        ({"plain": [1]}, "unknown key 'plain'"),
    ],
)
def test_what_an_input_may_state(value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        InputConfig.model_validate(value)


def test_a_picture_of_a_model_with_several_inputs(tmp_path: Path) -> None:
    Image.new("RGB", (128, 160), "red").save(tmp_path / "cat.png")
    how = PreprocessConfig.model_validate({"resize": [320, 256]})
    ((name, arrays),) = read_inputs([tmp_path / "cat.png"], DETECTOR, [], how, "det")
    assert name == "cat"
    assert arrays["image"].shape == (1, 3, 320, 256)
    assert arrays["im_shape"].tolist() == [[320, 256]]
    assert arrays["scale_factor"].tolist() == [[2, 2]]  # 320 of 160, 256 of 128: as PaddleDetection counts it
    # A constant in litefleet.yaml counts before what follows from the picture.
    ((_, arrays),) = read_inputs([tmp_path / "cat.png"], DETECTOR, [], how, "det", given(scale_factor=1.0))
    assert arrays["scale_factor"].tolist() == [[1, 1]]
    np.savez(tmp_path / "ids.npz", ids=np.zeros((1, 2), "int64"))
    two = [Spec("ids", "int64", (1, 2)), Spec("len", "int64", (1,))]
    assert list(read_inputs([tmp_path / "ids.npz"], two, [], None, "m")[0][1]) == [
        "ids"
    ]  # whoever checks names the other
    assert set(read_inputs([tmp_path / "ids.npz"], two, [], None, "m", given(len=2))[0][1]) == {"ids", "len"}
    pair = [X, Spec("y", "float32", (1, 3, 48, 192))]
    with pytest.raises(UsageError, match="none or several of which take pictures"):
        read_inputs([tmp_path / "cat.png"], pair, [], how, "m")
