"""The zoo: small models of every kind, saved once by PaddlePaddle, with litefleet's inputs and both engines' answers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from litefleet_controller.build.conversion.preflight import Source, load_source
from litefleet_controller.build.golden.files import LOD, Array, canonical_npz
from litefleet_controller.build.golden.inputs import draw_inputs, plan_inputs
from litefleet_controller.common.errors import FindingError
from litefleet_controller.config.choices import InputSpec

from tests.conftest import _once, _run, lite_environment, paddle_environment

HERE = Path(__file__).parent
# Sizes of free dimensions, as a user states them in litefleet.yaml.
SIZES: Mapping[str, Mapping[str, InputSpec]] = {
    "superresolution": {"x": InputSpec(dims=(1, 3, 16, 16))},
    "fully_convolutional": {"x": InputSpec(dims=(1, 3, 16, 16))},
    "transformer": {name: InputSpec(dims=(1, 16)) for name in ("input_ids", "token_type_ids")},
    "sequence_lod": {"words": InputSpec(lengths=(5, 3))},
}


def zoo_models() -> Path:
    """Return the folder with a folder per model, saved once by PaddlePaddle 2.6.2."""
    script = HERE / "export_zoo.py"
    recipe = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    with _once(f"zoo-{recipe}") as folder:
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(paddle_environment(), script, folder)
            (folder / "done").touch()
        return folder


@dataclass
class Specimen:
    """One model of the zoo: its source as litefleet reads it, and what both engines said of it.

    `truth` holds PaddlePaddle's golden files, one per case; empty where it cannot run the model.  `ended` says how raw
    Paddle-Lite's steps ended, "" for well: "x86" and "arm" its conversions, "run" the run for x86; `answers` are its outputs.
    """

    name: str
    folder: Path
    source: Source | None = None
    refused: str = ""  # the sentence with which litefleet refuses the files
    truth: tuple[Path, ...] = ()
    ended: dict[str, str] = field(default_factory=dict)
    answers: tuple[dict[str, Array], ...] = ()


def specimens(names: Sequence[str], work: Path, version: str = "2.13rc0") -> dict[str, Specimen]:
    """Return models with the truth about them, found by one PaddlePaddle and one Paddle-Lite process."""
    root, found = zoo_models(), {}
    models = []
    for name in names:
        found[name] = specimen = Specimen(name, root / name)
        try:
            specimen.source = load_source(root / name)
        except FindingError as error:
            specimen.refused = error.findings[0].observed
            continue
        models.append(_request(specimen, work / name))
    request = work / "request.json"
    request.write_text(json.dumps({"models": models}), encoding="utf-8")
    _run(paddle_environment(), HERE / "answer_paddle.py", request)
    _run(lite_environment(version), HERE / "answer_lite.py", request, work / "result.json")
    result = json.loads((work / "result.json").read_text())
    for model in models:
        _learn(found[model["name"]], model, result[model["name"]])
    return found


def _request(specimen: Specimen, folder: Path) -> dict[str, object]:
    """Write a model and litefleet's own inputs for it, and return its part of the engines' request."""
    source = specimen.source
    assert source is not None
    folder.mkdir(parents=True)
    program, params = folder / "source.pdmodel", folder / "source.pdiparams"
    program.write_bytes(source.program)
    params.write_bytes(b"".join(source.pieces()))
    plan = plan_inputs(source.facts.inputs, SIZES.get(specimen.name, {}), specimen.name, source.facts.vocabularies)
    cases = []
    for case in (0, 1):
        path = folder / f"in{case}.npz"
        path.write_bytes(canonical_npz(draw_inputs(plan, case)))
        cases.append(str(path))
    return {"name": specimen.name, "program": str(program), "params": str(params), "cases": cases}


def _learn(specimen: Specimen, model: Mapping[str, object], result: Mapping[str, Mapping[str, object]]) -> None:
    cases = [Path(str(path)) for path in model["cases"]]  # type: ignore[attr-defined]
    truth = [path.with_name(f"out{path.stem[-1]}.npz") for path in cases]
    specimen.truth = tuple(path for path in truth if path.exists())
    specimen.ended = {step: str(one["ended"]) for step, one in result.items()}
    answers = result.get("run", {}).get("outputs", ())
    specimen.answers = tuple(dict(np.load(path)) for path in answers)  # type: ignore[attr-defined]


def right(specimen: Specimen) -> bool:
    """Whether raw Paddle-Lite answers as PaddlePaddle does, by our own rule: 0.1 % of the largest value, shapes equal."""
    if not specimen.answers or not specimen.truth:
        return False
    for path, answer in zip(specimen.truth, specimen.answers, strict=True):
        golden = dict(np.load(path))
        assert specimen.source is not None
        given = {name for t in specimen.source.facts.inputs for name in (t.name, t.name + LOD)}
        wanted = [value for name, value in golden.items() if name not in given]
        # By position: the converter renames outputs that are inputs too.
        for want, got in zip(wanted, answer.values(), strict=True):
            expected = np.atleast_1d(want)
            if expected.shape != got.shape or not _close(expected, got):
                return False
    return True


def _close(want: Array, got: Array) -> bool:
    if want.size == 0:
        return True
    if want.dtype.kind in "iub":
        return bool((want == got).mean() > 0.999)
    difference = np.abs(want.astype("float64") - got.astype("float64"))
    return bool(np.isfinite(difference).all() and difference.max() <= 1e-3 * max(1e-3, float(np.abs(want).max())))
