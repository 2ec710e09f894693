"""Kinds of models from export to verdict on a device with a real sshd: what a user types, and the sentence that he reads.

Beside test_zoo.py, which knows the truth by both engines: here the whole way is gone, with the defaults, by `litefleet verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.build.conversion.params import ParamsReader
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.build.conversion.program import read_program
from litefleet_controller.build.golden.perturb import is_rounded_to_fp16, perturbations
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import DeviceOutcome

from tests.conftest import paddle_goldens
from tests.e2e.conftest import Project, _shared_cache, fleet, project
from tests.zoo.zoo import SIZES, zoo_models

__all__ = ["_shared_cache", "fleet", "project"]
pytestmark = pytest.mark.toolchain
Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]
# kind -> what its verdict must be, and a part of the sentence where it is not verified
KINDS: Mapping[str, tuple[Verdict, str]] = {
    "segmentation_labels": (Verdict.VERIFIED, ""),
    "superresolution": (Verdict.VERIFIED, ""),
    "detector": (Verdict.VERIFIED, ""),
    "detector_of_nothing": (Verdict.VERIFIED, ""),
    "several_outputs": (Verdict.VERIFIED, ""),
    "top_five": (Verdict.VERIFIED, ""),
    "recommender": (Verdict.VERIFIED, ""),
    "bool_input": (Verdict.VERIFIED, ""),
    "uint8_input": (Verdict.VERIFIED, ""),
    "unicode_names": (Verdict.VERIFIED, ""),
    "small_regression": (Verdict.VERIFIED, ""),
    "gru": (Verdict.VERIFIED, ""),
    "file_per_parameter": (Verdict.VERIFIED, ""),
    "classifier_flatten": (Verdict.REFUSED, "converter"),
    "scalar_output": (Verdict.REFUSED, "x.sum(axis=[0, 1])"),
    "float64_input": (Verdict.REFUSED, "Export with a float32 input"),
    "quantised_onnx_format": (Verdict.REFUSED, "Give x86 devices the float model"),
}


def configured(name: str, folder: Path) -> dict[str, Any]:
    """Return a model's part of litefleet.yaml, as its user writes it."""
    inputs = {key: {"dims": list(given.dims)} for key, given in SIZES.get(name, {}).items() if given.dims}
    return {"source": str(folder), **({"inputs": inputs} if inputs else {})}


def told(outcomes: list[DeviceOutcome]) -> dict[str, DeviceOutcome]:
    """Print the table that the closing note shows, and return the outcomes by model."""
    print(f"\n{'model':24} {'verdict':10} sentence, and notes")
    for one in outcomes:
        notes = " | ".join(f"{f.code} {f.observed}" for f in one.findings if not f.decides)
        print(f"{one.model:24} {one.verdict.value:10} {one.sentence}{' | ' if notes else ''}{notes}")
    return {one.model: one for one in outcomes}


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_kinds_from_their_export_to_a_verdict_on_a_device(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        root = zoo_models()
        job.config(models={name: configured(name, root / name) for name in KINDS})
        outcomes = told(list((await job.run("verify")).outcomes))
    assert {name: one.verdict for name, one in outcomes.items()} == {
        name: verdict for name, (verdict, _) in KINDS.items()
    }
    assert [name for name, (_, part) in KINDS.items() if part not in outcomes[name].sentence] == []


async def test_weights_rounded_to_fp16_are_right_by_a_golden_of_the_original(
    fleet: Fleets, project: Projects, tmp_path: Path, models: dict[str, Path]
) -> None:
    """The classifier saved with fp16 weights, judged by answers of its float32 original: no fault; 1 % noise is one."""
    source = load_source(models["cls"])
    program = read_program(source.program)
    params = b"".join(source.pieces())
    assert not is_rounded_to_fp16(program, ParamsReader.of(params))
    damaged = {one.name: one.params for one in perturbations(program, params, None, (0, 0))}
    assert is_rounded_to_fp16(program, ParamsReader.of(damaged["fp16"]))
    async with fleet("a") as devices:
        job = project(devices)
        golden, made = [str(path) for path in paddle_goldens("cls")], {}
        for name in ("fp16", "noise"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "inference.pdmodel").write_bytes(source.program)
            (folder / "inference.pdiparams").write_bytes(damaged[name])
            made[name] = {
                "source": str(folder), "inputs": {"x": {"dims": [1, 3, 48, 192]}}, "golden": {"files": golden},
            }  # fmt: skip
        job.config(models=made)
        outcomes = told(list((await job.run("verify")).outcomes))
    assert {name: one.verdict for name, one in outcomes.items()} == {"fp16": Verdict.VERIFIED, "noise": Verdict.WRONG}


async def test_toolchain_auto_uses_the_whole_combination_that_works(fleet: Fleets, project: Projects) -> None:
    """2.13rc0's converter crashes at this model for x86: file and runtime of 2.12 are made and used together, by itself."""
    async with fleet("a") as devices:
        job = project(devices)
        model = {"classifier": {**configured("classifier_flatten", zoo_models() / "classifier_flatten")}}
        job.config(models=model, runtimes=None)
        refused = told(list((await job.run("verify")).outcomes))["classifier"]
        job.config(toolchain="auto")
        cured = told(list((await job.run()).outcomes))["classifier"]
        job.config(runtimes={"x86_64": "system"})  # the device's own 2.13rc0
        mixed = told(list((await job.run("verify")).outcomes))["classifier"]
    assert refused.verdict is Verdict.REFUSED
    assert cured.verdict is Verdict.VERIFIED
    assert cured.activated
    assert mixed.verdict is Verdict.CRASHED  # contained, and told what cures it
    (told_so,) = [one.observed for one in mixed.findings if one.code == "LF211"]
    assert "without that it gets Paddle-Lite 2.12 with the file" in told_so
