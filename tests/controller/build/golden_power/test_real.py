"""Real models: what PaddlePaddle and Paddle-Lite answer is accepted, what damaged weights answer is rejected."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.verification.comparison import ComparisonSpec, OutputComparison, compare_outputs
from litefleet_controller.build.conversion.program import Program, read_program
from litefleet_controller.build.golden.make import run_reference
from litefleet_controller.build.golden.perturb import classes_to_swap, find_head, perturbations
from litefleet_controller.build.golden.power import Answers, Damaged, measure_power
from litefleet_controller.build.golden.recognise import recognise

from tests.agent.verification.comparison.tensors import tensor
from tests.conftest import _once, lite_environment, paddle_environment, source_models

pytestmark = pytest.mark.toolchain
EXPORT = Path(__file__).with_name("export_models.py")


@dataclass(frozen=True)
class _Python:
    python: Path


class Toolchains:
    """The reference engines of the tests' cache."""

    async def paddle(self) -> _Python:
        return _Python(paddle_environment())

    async def paddle_version(self) -> str:
        return "2.6.2"

    async def lite(self, version: str) -> _Python:
        return _Python(lite_environment(version))


@dataclass(frozen=True)
class Model:
    """A model on disk and what is known of it."""

    program_path: Path
    params_path: Path
    program: Program
    inputs: tuple[dict[str, np.ndarray], ...]
    answers: tuple[Answers, ...]  # PaddlePaddle's

    @property
    def specs(self) -> dict[str, ComparisonSpec]:
        return {name: found.spec for name, found in recognise(self.program).items()}

    def run(self, params: Path | None = None, nb: Path | None = None) -> tuple[Answers, ...]:
        """Return the answers of PaddlePaddle (with other parameters) or of Paddle-Lite (nb), by the program's names."""
        sources = (nb,) if nb else (self.program_path, params or self.params_path)
        version = "2.13rc0" if nb else ""
        _, found = asyncio.run(run_reference(sources, self.inputs, Toolchains(), version))
        names = [spec.name for spec in self.program.outputs]
        return tuple(dict(zip(names, one.values(), strict=True)) for one in found)


def picture(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return patches of colour as a photograph has them, with some grain: noise alone looks the same to most models."""
    random = np.random.RandomState(seed)
    coarse = random.rand(*shape[:2], shape[2] // 16, shape[3] // 16)
    return (coarse.repeat(16, 2).repeat(16, 3) + 0.05 * random.rand(*shape)).astype("f4")


def load(base: Path, name: str, shape: tuple[int, ...]) -> Model:
    program_path, params_path = base.with_suffix(".pdmodel"), base.with_suffix(".pdiparams")
    inputs = tuple({name: picture(seed, shape)} for seed in (0, 1))
    model = Model(program_path, params_path, read_program(program_path.read_bytes()), inputs, ())
    return Model(program_path, params_path, model.program, inputs, model.run())


@pytest.fixture(scope="module")
def exported() -> Path:
    recipe = hashlib.sha256(EXPORT.read_bytes()).hexdigest()[:12]
    python = paddle_environment()
    with _once(f"power-models-{recipe}") as folder:
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            subprocess.run([python, EXPORT, folder], check=True, capture_output=True)
            (folder / "done").touch()
        return folder


@pytest.fixture(scope="module", params=["detector", "matrix", "heads", "cls"])
def model(request: pytest.FixtureRequest, exported: Path) -> Model:
    if request.param == "cls":
        return load(source_models()["cls"] / "inference", "x", (1, 3, 48, 192))
    return load(exported / request.param, "image", (1, 3, 96, 96))


KINDS = {
    "detector": ["detections", "counts"],
    "matrix": ["detections", "counts"],
    "heads": ["topk", "tensor", "labels", "labels", "embedding", "mask", "tensor"],
    "inference": ["topk"],
}


def test_the_outputs_are_recognised(model: Model) -> None:
    assert [spec.kind for spec in model.specs.values()] == KINDS[model.program_path.stem]
    rows = next(iter(model.specs.values())).to_dict()
    if model.program_path.stem == "detector":
        assert rows == {"compare": "detections", "floor": 0.05, "keep": 20, "overlap": 0.45}
    if model.program_path.stem == "matrix":
        assert rows == {"compare": "detections", "floor": 0.02, "keep": 20}


def against(model: Model, got: tuple[Answers, ...], precision: str) -> list[OutputComparison]:
    return [
        one
        for right, answer in zip(model.answers, got, strict=True)
        for one in compare_outputs(
            {name: tensor(value) for name, value in right.items()},
            {name: tensor(value) for name, value in answer.items()},
            model.specs,
            precision,
        ).values()
    ]


def test_paddle_lite_agrees_by_a_wide_margin(model: Model, tmp_path: Path) -> None:
    opt = lite_environment().parent / "paddle_lite_opt"
    call = [opt, f"--model_file={model.program_path}", f"--param_file={model.params_path}", "--valid_targets=x86"]
    call += ["--optimize_out_type=naive_buffer", f"--optimize_out={tmp_path / 'model'}"]
    subprocess.run(call, check=True, capture_output=True)
    found = against(model, model.run(nb=tmp_path / "model.nb"), "fp32")
    assert all(one.passed for one in found), [one.reason for one in found]
    assert max(one.distance for one in found) < 0.1


@pytest.fixture(scope="module")
def damaged(model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Damaged]:
    """What PaddlePaddle answers with each kind of damaged weights."""
    heads = {name: find_head(model.program, name) for name in model.answers[0]}
    pairs = [(h, classes_to_swap([case[name] for case in model.answers], h.classes)) for name, h in heads.items() if h]
    head, classes = next(((head, classes) for head, classes in pairs if classes), (None, None))
    folder, made = tmp_path_factory.mktemp("damaged"), {}
    for one in perturbations(model.program, model.params_path.read_bytes(), head, classes or (0, 1)):
        path = folder / f"{one.name}.pdiparams"
        path.write_bytes(one.params)
        made[one.name] = Damaged(one.name, one.sentence, one.harmless, model.run(params=path))
    return made


def test_the_golden_tells_damaged_weights_from_right_ones(model: Model, damaged: dict[str, Damaged]) -> None:
    power = measure_power(model.answers, model.specs, "fp32", list(damaged.values()))
    found = {one.name: one for one in power.damages}
    assert power.verdict != "refused", power.sentence
    assert found["noise"].distance > 5 * found["fp16"].distance
    assert found["noise"].rejected or "it would accept 1 % noise on all weights" in power.sentence
    assert not found["tiny"].rejected, "a factor of 1.0001 is no fault"
    if model.program_path.stem in ("heads", "inference"):
        assert found["swapped"].rejected
    else:
        assert not found["fp16"].rejected, "boxes and scores of weights rounded to fp16 are right"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_weights_are_right_at_their_precision(
    model: Model, damaged: dict[str, Damaged], precision: str
) -> None:
    found = against(model, damaged[precision].answers, precision)
    assert all(one.passed for one in found), [(one.kind, one.reason) for one in found]
