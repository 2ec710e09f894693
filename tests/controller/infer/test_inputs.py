"""Files as cases: what fits the model is taken, what does not is one sentence before any device is met."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litefleet_agent.formats.nb import Tensor
from litefleet_controller.build.conversion.program import TensorSpec
from litefleet_controller.common.errors import UsageError
from litefleet_controller.config.preprocess import PreprocessConfig
from litefleet_controller.infer.cases import Case, agent_too_old, check_cases, header_of, parts_of, read_cases
from PIL import Image

X = Tensor("x", "float32", (-1, 3, 4, -1))
Y = Tensor("y", "float32", (-1, 2))
IDS = Tensor("ids", "int64", (1, 2))


def good(width: int = 5) -> np.ndarray[Any, Any]:
    return np.random.RandomState(0).rand(1, 3, 4, width).astype("float32")


def read(*files: Path, inputs: tuple[Tensor, ...] = (X,), how: PreprocessConfig | None = None) -> tuple[Case, ...]:
    return read_cases(files, inputs, (Y,), how, "m")


def test_each_kind_of_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=good(), y=np.zeros((1, 2), "float32"))  # a golden's file
    np.save(tmp_path / "b.npy", good(6))
    Image.new("RGB", (7, 4), "red").save(tmp_path / "c.png")
    cases = read(tmp_path / "a.npz", tmp_path / "b.npy", tmp_path / "c.png", how=PreprocessConfig())
    assert [case.name for case in cases] == ["a", "b", "c"]
    assert [list(case.arrays) for case in cases] == [["x"]] * 3
    assert [case.arrays["x"].shape[-1] for case in cases] == [5, 6, 7]


WORDS = TensorSpec("words", "int64", (-1, 1), 1)


def sentences(*offsets: int, **more: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {"words": np.zeros((5, 1), "int64"), "words@lod0": np.array(offsets), **more}


def test_sequences_are_sent_with_their_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", **sentences(0, 3, 5))
    np.savez(tmp_path / "one.npz", words=np.zeros((5, 1), "int64"))
    cases = read(tmp_path / "two.npz", tmp_path / "one.npz", inputs=(WORDS,))
    sent = [header_of(case, [WORDS])["inputs"] for case in cases]
    tensor = {"name": "words", "dtype": "int64", "dims": [5, 1]}
    assert sent == [[{**tensor, "lod": [[0, 3, 5]]}], [{**tensor, "lod": [[0, 5]]}]]  # rows alone are one sequence
    assert parts_of(cases[0], [WORDS]) == [bytes(40)]
    assert agent_too_old({"lod_levels": 4}, cases) == agent_too_old({}, [Case("a", {"x": good()})]) == ()
    (found,) = agent_too_old({"lod_levels": None}, cases)
    assert (found.code, "words is an input of sequences" in found.observed) == ("LF422", True)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (sentences(0, 3), r"a: words has sequences \(LoD\) that are not int64 offsets rising from 0 to 5"),
        (
            sentences(0, 2, **{"words@lod1": np.array([0, 3, 5])}),
            r"a: words comes with nested sequences \(LoD level 2\); litefleet carries level 1",
        ),
        (sentences(*[0] * 4096, 5), r"a has 4096 sequences \(LoD\); one input takes 4095: split it into several"),
    ],
)
def test_sequences_that_can_not_be_sent_are_a_sentence(
    tmp_path: Path, arrays: dict[str, np.ndarray[Any, Any]], words: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=words):
        read(tmp_path / "a.npz", inputs=(WORDS,))
    nested = TensorSpec("words", "int64", (-1, 1), 2)
    with pytest.raises(UsageError, match=r"takes nested sequences \(LoD level 2\); litefleet carries level 1"):
        read(tmp_path / "a.npz", inputs=(nested,))


def test_files_of_one_name_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "a.npy", tmp_path / "d" / "a.npy"):
        np.save(path, good())
    assert [case.name for case in read(tmp_path / "a.npy", tmp_path / "d" / "a.npy")] == ["a-1", "a-2"]
    np.save(tmp_path / "a-1.npy", good())
    with pytest.raises(UsageError, match="two inputs would have the same name"):
        read(tmp_path / "a.npy", tmp_path / "d" / "a.npy", tmp_path / "a-1.npy")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": good()}, r"a holds nothing; the model m takes x"),
        ({"x": good(), "z": good()}, r"a holds x, z; the model m takes x"),
        (
            {"x": good().astype("float64")},
            r"a: x is float64, and the model's is float32: save it as x.astype\('float32'\)",
        ),
        ({"x": good()[:, :2]}, r"a: x is 1 x 2 x 4 x 5, and the model's is \? x 3 x 4 x \? \(\?: any\)"),
        ({"x": good()[0]}, r"a: x is 3 x 4 x 5, and the model's"),
        ({"x": good()[:0]}, r"a: x is empty"),
        ({"x": good() * np.float32(np.inf)}, r"a: x holds NaN or Inf"),
        ({"x": np.float32(1)}, r"a: x is a single value, and the model's"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=words):
        read(tmp_path / "a.npz")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3")
    (tmp_path / "b.npy").write_bytes(b"nothing")
    (tmp_path / "c.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "d.npz", x=good())
    (tmp_path / "d.npz").rename(tmp_path / "d.npy")
    np.save(tmp_path / "e.npy", np.array([{}], dtype=object), allow_pickle=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "f.png")
    output = {
        "a.txt": "an input is .npz, .npy, or a picture",
        "b.npy": "is not a readable .npy of plain numbers",
        "c.npz": "is not a readable .npz",
        "d.npy": "is not a .npy: an .npz needs that ending",
        "e.npy": "is not a readable .npy of plain numbers",
        "f.png": "does not say how a picture becomes an input of m: write `preprocess:` under `m:`",
        "g.npy": "No such file or directory",
        "h.npz": "is missing",
    }
    for name, words in output.items():
        with pytest.raises(UsageError) as caught:
            read(tmp_path / name)
        assert words in str(caught.value), name
        assert str(tmp_path / name) in str(caught.value)


def test_a_model_with_two_inputs_wants_them_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", good())
    with pytest.raises(UsageError, match=r"m takes x, ids, so give a \.npz that holds each by name"):
        read(tmp_path / "a.npy", inputs=(X, IDS))
    np.savez(tmp_path / "a.npz", ids=np.array([[1, 2]]), x=good())
    (case,) = read(tmp_path / "a.npz", inputs=(X, IDS))
    assert header_of(case, (X, IDS)) == {
        "inputs": [
            {"name": "x", "dtype": "float32", "dims": [1, 3, 4, 5]},
            {"name": "ids", "dtype": "int64", "dims": [1, 2]},
        ]
    }
    assert b"".join(parts_of(case, (X, IDS))) == good().tobytes() + np.array([1, 2], "<i8").tobytes()


def test_big_endian_and_strided_arrays_travel_little_endian_in_c_order() -> None:
    given = np.asfortranarray(good().astype(">f4"))
    case = Case("a", {"x": given})
    check_cases([case], (X,), "m")
    assert parts_of(case, (X,)) == [good().tobytes()]


def test_too_many_and_too_much_are_refused() -> None:
    one = Case("a", {"x": good()})
    with pytest.raises(UsageError, match="257 inputs were given; a run takes 1 to 256"):
        check_cases([one] * 257, (X,), "m")
    with pytest.raises(UsageError, match="0 inputs were given"):
        check_cases([], (X,), "m")
    large = Case("a", {"x": np.zeros((1, 3, 4, 3_000_000), "float32")})
    with pytest.raises(UsageError, match="the inputs have 288000000 bytes together; a run takes 268435456"):
        check_cases([large, large], (X,), "m")


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=good())
    np.save(tmp_path / "whole.npy", good())
    chance, rejected = random.Random(5), 0
    for number in range(400):
        for kind in ("npz", "npy"):
            data = bytearray((tmp_path / f"whole.{kind}").read_bytes())
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data) if kind == "npz" else 128)] = chance.randrange(256)
            path = tmp_path / f"{number}.{kind}"
            path.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
            try:
                (case,) = read(path)
            except UsageError as error:
                rejected += 1
                sentence = str(error)
                assert sentence.isprintable(), sentence  # one line
                assert 20 < len(sentence) < 1000, sentence
                assert not any(word in sentence for word in ("Error:", "Traceback", "<class")), sentence
                assert str(number) in sentence, sentence  # the file, or the input that is named after it
            else:
                assert case.arrays["x"].shape[:3] == (1, 3, 4)  # the damage was where it does not matter
    assert rejected > 400


def test_what_an_npz_holds_besides_arrays_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(UsageError, match=r"is not a readable \.npz of plain arrays \(x is none\)"):
        read(tmp_path / "a.npz")
