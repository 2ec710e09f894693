"""From the source model to the verdict: goldens with their power, Paddle-Lite on this machine, outputs by their meaning."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict, decide
from litefleet_agent.verification.verify import VerifyResult
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.build.conversion.program import read_program
from litefleet_controller.build.golden.files import canonical_npz, read_npz
from litefleet_controller.build.golden.judged import JudgedGolden, Reference, judged_golden
from litefleet_controller.build.golden.make import make_golden
from litefleet_controller.build.golden.meaning import OutputMeaning, meanings_of
from litefleet_controller.build.golden.perturb import classes_to_swap, find_head, perturbations
from litefleet_controller.config.choices import GoldenSpec, InputSpec

from tests.agent.support.real_paddlelite import codes, verifier
from tests.conftest import lite_environment

from .test_real import Toolchains, exported

__all__ = ["exported"]
pytestmark = pytest.mark.toolchain
DIMS = {"image": InputSpec((1, 3, 96, 96))}


class Built:
    """One exported model with its golden."""

    def __init__(self, folder: Path, name: str, work: Path) -> None:
        self.program_path, self.params_path = folder / f"{name}.pdmodel", folder / f"{name}.pdiparams"
        self.source, self.work = load_source(self.program_path, self.params_path), work
        self.program = read_program(self.source.program)
        self.meanings: tuple[OutputMeaning, ...] = meanings_of(name, self.source.facts.outputs, self.program, {}, {})
        self._check = verifier(lite_environment(), work)
        self.golden: JudgedGolden = asyncio.run(self._golden())

    async def _golden(self) -> JudgedGolden:
        facts, toolchains, store = self.source.facts, Toolchains(), self.work / "goldens"

        async def make(cases: int) -> tuple[Path, ...]:
            spec, files = GoldenSpec(inputs=DIMS, cases=cases), (self.program_path, self.params_path)
            return await make_golden(*files, facts.inputs, spec, toolchains, store, outputs=facts.outputs)

        specs = {one.name: one.spec for one in self.meanings}
        reference = Reference(self.program_path, self.params_path, self.program, toolchains)
        return await judged_golden(make, 2, specs, ["image"], reference, store)

    def convert(self, params: Path) -> Path:
        out = self.work / params.stem
        call = [lite_environment().parent / "paddle_lite_opt", f"--model_file={self.program_path}"]
        call += [f"--param_file={params}", "--valid_targets=x86", "--optimize_out_type=naive_buffer"]
        subprocess.run([*call, f"--optimize_out={out}"], check=True, capture_output=True)
        return out.with_suffix(".nb")

    def verify(self, params: Path | None = None) -> VerifyResult:
        outputs = {one.name: one.spec.to_dict() for one in self.meanings}
        return self._check(self.convert(params or self.params_path), list(self.golden.paths), outputs=outputs)


def figures(result: VerifyResult) -> list[Mapping[str, object]]:
    assert result.measurements is not None
    found = result.measurements.to_dict()["outputs"]
    assert isinstance(found, list)
    return found


def test_stale_declared_rows_and_free_dims_are_verified(exported: Path, tmp_path: Path) -> None:
    """PicoDet declares [3598, 6] rows and gives fewer; pixel shuffle declares -2; the run decides."""
    for name, declared in (("stale", (3598, 6)), ("shuffled", (-1, 3, -2, -2))):
        (tmp_path / name).mkdir()
        built = Built(exported, name, tmp_path / name)
        assert built.source.facts.outputs[0].dims == declared
        assert built.golden.verdict != "refused", built.golden.sentence
        result = built.verify()
        assert (decide(result.findings), codes(result)) == (Verdict.VERIFIED, [])
        assert all(float(str(one["distance"])) < 0.1 for one in figures(result))
        if name == "stale":
            _turn_rows(built)
            assert codes(built.verify()) == [], "another order of rows, as of scores that differ by 3e-5, is no fault"


def _turn_rows(built: Built) -> None:
    """Put the rows of the golden's detections into the reverse order."""
    rows, paths = built.program.outputs[0].name, []
    for place, path in enumerate(built.golden.paths):
        case = read_npz(path)
        case[rows] = case[rows][::-1]
        paths.append(built.work / f"turned{place}.npz")
        paths[-1].write_bytes(canonical_npz(case))
    built.golden = JudgedGolden(tuple(paths), "strong", "", {})


def test_a_detector_that_finds_nothing_is_verified_with_notes_and_its_golden_is_weak(
    exported: Path, tmp_path: Path
) -> None:
    built = Built(exported, "nothing", tmp_path)
    assert [found.code for found in built.golden.findings] == ["LF425"]
    assert "finds nothing in any of the" in built.golden.sentence
    result = built.verify()
    assert (decide(result.findings), codes(result)) == (Verdict.VERIFIED, ["LF426"])
    assert [one["compare"] for one in figures(result)][:1] == ["detections"]


def test_every_kind_of_end_differs_from_damaged_weights(exported: Path, tmp_path: Path) -> None:
    built = Built(exported, "heads", tmp_path)
    assert built.golden.verdict != "refused"
    assert codes(built.verify()) == []
    name = built.program.outputs[0].name
    head = find_head(built.program, name)
    assert head is not None
    classes = classes_to_swap([read_npz(path)[name] for path in built.golden.paths], head.classes)
    assert classes is not None
    for one in perturbations(built.program, built.params_path.read_bytes(), head, classes):
        if one.name in ("swapped", "noise", "tiny"):
            path = tmp_path / f"{one.name}.pdiparams"
            path.write_bytes(one.params)
            verdict = decide(built.verify(path).findings)
            assert verdict is (Verdict.VERIFIED if one.harmless else Verdict.WRONG), one.sentence
