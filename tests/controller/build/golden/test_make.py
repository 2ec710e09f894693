"""Golden outputs: made by the real engines, and the user's own files checked before anything is converted."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from litefleet_controller.build.golden.files import canonical_npz, misfits, read_npz
from litefleet_controller.build.golden.make import make_golden
from litefleet_controller.common.errors import EngineError, FindingError, LitefleetError, UsageError
from litefleet_controller.config.choices import GoldenSpec


@dataclass(frozen=True)
class Spec:
    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class At:
    python: Path


@dataclass(frozen=True)
class Pythons:
    """Both engines' environments, where they already are; None for one that a test must not start."""

    paddle_python: Path | None = None
    lite_python: Path | None = None

    async def paddle(self) -> At:
        assert self.paddle_python is not None, "PaddlePaddle was started"
        return At(self.paddle_python)

    async def paddle_version(self) -> str:
        return "2.6.2"

    async def lite(self, version: str, /) -> At:
        assert self.lite_python is not None, "Paddle-Lite was started"
        return At(self.lite_python)


NOBODY = Pythons()
X = Spec("x", "float32", (-1, 3, 48, 192))
Y = Spec("softmax_0.tmp_0", "float32", (-1, 2))


def source(models: dict[str, Path], name: str) -> tuple[Path, Path]:
    return models[name] / "inference.pdmodel", models[name] / "inference.pdiparams"


@pytest.mark.toolchain
async def test_paddle_gives_the_known_figures_and_the_same_bytes_again(
    models: dict[str, Path], paddle_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "new"))  # PaddlePaddle makes ~/.cache/paddle, which the sandbox forbids
    program, params = source(models, "cls")
    made = await make_golden(program, params, [X], GoldenSpec(), Pythons(paddle_python), tmp_path / "a", outputs=[Y])
    assert len(made) == 2
    first, second = read_npz(made[0]), read_npz(made[1])
    assert sorted(first) == ["softmax_0.tmp_0", "x"]
    assert np.array_equal(first["x"], np.random.RandomState(0).rand(1, 3, 48, 192).astype("float32"))
    assert first["softmax_0.tmp_0"].max() == pytest.approx(0.56828862, abs=3e-6)
    assert not np.array_equal(first["x"], second["x"])
    again = await make_golden(program, params, [X], GoldenSpec(), Pythons(paddle_python), tmp_path / "b", outputs=[Y])
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in made]
    assert [p.name for p in again] == [p.name for p in made]
    # From the cache no engine is started; another seed is another golden.
    cached = await make_golden(program, params, [X], GoldenSpec(), NOBODY, tmp_path / "a", outputs=[Y])
    assert cached == made
    with pytest.raises(AssertionError, match="PaddlePaddle was started"):
        await make_golden(program, params, [X], GoldenSpec(seed=7), NOBODY, tmp_path / "a")


@pytest.mark.toolchain
async def test_paddlelite_agrees_with_paddle(
    models: dict[str, Path], lite_python: Path, nb_files: Callable[..., Path], tmp_path: Path
) -> None:
    program, params = source(models, "cls")
    spec = GoldenSpec("paddlelite", cases=3)
    nb = nb_files("cls", "x86")
    made = await make_golden(program, params, [X], spec, Pythons(None, lite_python), tmp_path, outputs=[Y], nb=nb)
    assert len(made) == 3
    assert read_npz(made[0])["softmax_0.tmp_0"].max() == pytest.approx(0.56828862, abs=3e-6)


@pytest.mark.toolchain
async def test_an_engine_that_crashes_is_a_sentence(
    models: dict[str, Path], lite_python: Path, nb_files: Callable[..., Path], tmp_path: Path
) -> None:
    program, params = source(models, "cls")
    nb = nb_files("cls", "arm")
    with pytest.raises(EngineError) as caught:
        await make_golden(
            program, params, [X], GoldenSpec("paddlelite"), Pythons(None, lite_python), tmp_path, outputs=[Y], nb=nb
        )
    assert str(caught.value).startswith(
        "Paddle-Lite 2.13rc0 could not run the model (killed by SIGSEGV), so there is no"
    )
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.toolchain
async def test_paddle_on_broken_parameters_is_a_sentence(
    models: dict[str, Path], paddle_python: Path, tmp_path: Path
) -> None:
    program, params = source(models, "cls")
    broken = tmp_path / "inference.pdiparams"
    broken.write_bytes(params.read_bytes()[:1000])
    with pytest.raises(EngineError) as caught:
        await make_golden(program, broken, [X], GoldenSpec(), Pythons(paddle_python), tmp_path / "store")
    text = str(caught.value)
    assert text.startswith("PaddlePaddle 2.6.2 could not run the model (")
    assert "Check the source model and `inputs:`" in text
    assert "Traceback" not in text


@pytest.mark.toolchain
async def test_the_time_limit_ends_the_engine(models: dict[str, Path], paddle_python: Path, tmp_path: Path) -> None:
    program, params = source(models, "cls")
    with pytest.raises(LitefleetError) as caught:
        await make_golden(program, params, [X], GoldenSpec(), Pythons(paddle_python), tmp_path, time_limit_s=0.05)
    output = "PaddlePaddle 2.6.2 did not finish within 0.05 s; use smaller `inputs:` or fewer `cases:`."
    assert str(caught.value) == output


async def test_an_environment_that_is_gone_is_a_sentence(models: dict[str, Path], tmp_path: Path) -> None:
    program, params = source(models, "cls")
    with pytest.raises(LitefleetError, match=r"cannot be started .* remove its environment and run again"):
        await make_golden(program, params, [X], GoldenSpec(), Pythons(tmp_path / "none"), tmp_path)


async def test_a_source_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the model cannot be read: .*No such file"):
        await make_golden(tmp_path / "a", tmp_path / "b", [X], GoldenSpec(), NOBODY, tmp_path)


# --- files given by the user


def good(seed: int) -> dict[str, np.ndarray]:
    random = np.random.RandomState(seed)
    return {"x": random.rand(1, 3, 48, 192).astype("float32"), Y.name: random.rand(1, 2).astype("float32")}


async def adopt(tmp_path: Path, *cases: dict[str, np.ndarray]) -> tuple[Path, ...]:
    files = []
    for i, arrays in enumerate(cases):
        files.append(tmp_path / f"g{i}.npz")
        np.savez(files[-1], **arrays)
    spec = GoldenSpec("files", tuple(files))
    return await make_golden(tmp_path, tmp_path, [X], spec, NOBODY, tmp_path / "store", outputs=[Y])


async def test_good_files_are_kept_by_content(tmp_path: Path) -> None:
    kept = await adopt(tmp_path, good(0), good(1))
    assert [np.array_equal(read_npz(p)["x"], good(i)["x"]) for i, p in enumerate(kept)] == [True, True]
    assert kept == await adopt(tmp_path, good(0), good(1))


def broken(change: str) -> dict[str, np.ndarray]:
    case = good(1)
    if change == "name":
        case["image"] = case.pop("x")
    elif change == "dtype":
        case["x"] = case["x"].astype("float64")
    elif change == "dims":
        case["x"] = case["x"][:, :1]
    elif change == "nan":
        case[Y.name][0, 0] = np.nan
    elif change == "output":
        del case[Y.name]
    elif change == "same":
        case["x"] = good(0)["x"]
    return case


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "name",
            [
                "{1} lacks the model's input 'x' (it holds: image, softmax_0.tmp_0).",
                "{1} holds 'image', which is neither an input nor an output of the model.",
            ],
        ),
        ("dtype", ["{1}: input 'x' is float64; the model's is float32."]),
        ("dims", ["{1}: input 'x' has dims [1, 1, 48, 192]; the model's are [-1, 3, 48, 192] (-1: free)."]),
        ("nan", ["{1}: output 'softmax_0.tmp_0' holds NaN or Inf, so nothing can be compared with it."]),
        ("output", ["{1} lacks the model's output 'softmax_0.tmp_0' (it holds: x)."]),
        ("same", ["{1} has the same inputs as {0}: a model that ignores its input would pass."]),
    ],
)
async def test_files_that_do_not_fit_are_refused_in_words(tmp_path: Path, change: str, said: list[str]) -> None:
    with pytest.raises(FindingError) as caught:
        await adopt(tmp_path, good(0), broken(change))
    names = [tmp_path / "g0.npz", tmp_path / "g1.npz"]
    assert [(f.code, f.observed) for f in caught.value.findings] == [("LF412", s.format(*names)) for s in said]
    assert not (tmp_path / "store").exists()


async def test_one_file_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(FindingError) as caught:
        await adopt(tmp_path, good(0))
    assert caught.value.findings[0].observed == "1 golden case given; at least two with different inputs are needed."


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 60])
def test_a_file_that_is_no_npz_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(FindingError, match=r"LF412 .*a\.npz is not a readable \.npz of plain arrays"):
        read_npz(path)
    with pytest.raises(FindingError, match=r"LF412 .*b\.npz is missing"):
        read_npz(tmp_path / "b.npz")


def test_objects_and_bombs_are_never_loaded(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FindingError, match=r"not a readable \.npz of plain arrays"):
        read_npz(pickled)
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as out:
        for _ in range(513):
            out.write(bytes(1 << 20))
    with pytest.raises(FindingError, match="unpacks to 537919488 bytes; a golden file may hold 536870912"):
        read_npz(bomb)


def test_equal_arrays_give_equal_bytes_whatever_their_order() -> None:
    case = good(0)
    turned = {name: np.asfortranarray(case[name]) for name in reversed(list(case))}
    assert canonical_npz(case) == canonical_npz(turned)
    assert canonical_npz({"s": np.float32(3.0)}) != canonical_npz({"s": np.zeros((1,), "float32") + 3})


async def test_too_few_cases_and_no_nb_are_refused(tmp_path: Path) -> None:
    spec = GoldenSpec("paddlelite")
    with pytest.raises(UsageError, match="cases is 1; at least 2"):
        await make_golden(tmp_path, tmp_path, [X], replace(spec, cases=1), NOBODY, tmp_path)
    with pytest.raises(UsageError, match=r"needs the model's x86 \.nb"):
        await make_golden(tmp_path, tmp_path, [X], spec, NOBODY, tmp_path)


@pytest.mark.parametrize("declared", [(-1, 3, -2, -2), (-1, 3, -1), (3598, 6)])
def test_declared_dims_of_an_output_are_a_hint(declared: tuple[int, ...]) -> None:
    """Arithmetic on free dims gives -2 (pixel shuffle), and detectors return fewer rows than their program declares."""
    x, y = Spec("x", "float32", (-1, 3)), Spec("y", "float32", declared)
    arrays = {"x": np.zeros((1, 3), np.float32), "y": np.ones((1, 3, 64, 64), np.float32)}
    assert misfits("a.npz", arrays, [x], [y]) == []
    wrong = misfits("a.npz", {**arrays, "x": np.zeros((1, 4), np.float32)}, [x], [y])
    assert wrong == ["a.npz: input 'x' has dims [1, 4]; the model's are [-1, 3] (-1: free)."]
