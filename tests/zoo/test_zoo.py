"""The zoo as a table: for each model the truth of both engines, litefleet's verdict, and the sentence that a user reads.

0 wrong acceptances: what raw Paddle-Lite cannot run, or answers differently than PaddlePaddle, is never verified.  0 wrong
refusals: what it answers as PaddlePaddle does, always is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict, decide
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import convert, convert_with_any
from litefleet_controller.build.conversion.program import read_program
from litefleet_controller.build.conversion.variant import make_variant
from litefleet_controller.build.golden.make import make_golden
from litefleet_controller.build.golden.meaning import by_position, meanings_of
from litefleet_controller.build.toolchain import Toolchain
from litefleet_controller.common.errors import FindingError
from litefleet_controller.config.choices import GoldenSpec
from litefleet_controller.config.model import ToolchainConfig

from tests.agent.support.real_paddlelite import verifier
from tests.conftest import lite_environment
from tests.zoo.zoo import Specimen, right, specimens, zoo_models

pytestmark = pytest.mark.toolchain
# A kind each; the others are marked long.
FEW = (
    "classifier_flatten", "segmentation_labels", "superresolution", "detector_of_nothing", "recommender", "bool_input",
    "uint8_input", "scalar_output", "float64_inside", "file_per_parameter", "sequence_lod", "quantised_onnx_format",
)  # fmt: skip


class Toolchains:
    """Paddle-Lite's environments of the tests."""

    async def lite(self, version: str) -> Toolchain:
        python = lite_environment(version)
        return Toolchain(version, python, python.parent / "paddle_lite_opt")


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    truth: str
    verdict: Verdict
    sentence: str
    arm: str  # "converts", or the codes of the findings

    @property
    def fair(self) -> bool:
        return (self.verdict is Verdict.VERIFIED) == (self.truth == "right")


def truth_of(specimen: Specimen) -> str:
    if right(specimen):
        return "right"
    for step in ("x86", "run"):
        if specimen.ended.get(step):
            return f"{step}: {specimen.ended[step]}"
    return "wrong" if specimen.answers else "unreadable"


def judged(specimen: Specimen, work: Path) -> Row:
    """Return litefleet's verdict on one model, converted and run on this machine."""
    truth, store = truth_of(specimen), ArtifactStore(work / "store")
    source = specimen.source
    if source is None:
        return Row(specimen.name, truth, Verdict.REFUSED, specimen.refused, "")
    arm = "converts"
    try:
        made = asyncio.run(convert(source, make_variant(source.sha256, "arm"), Toolchains(), store))
        arm = " ".join(f.code for f in made.findings if f.decides) or arm
    except FindingError as error:
        arm = " ".join(found.code for found in error.findings)
    try:
        made = asyncio.run(convert(source, make_variant(source.sha256, "x86"), Toolchains(), store))
    except FindingError as error:
        return Row(specimen.name, truth, decide(error.findings), _said(error.findings), arm)
    if decide(made.findings) is not Verdict.VERIFIED:
        return Row(specimen.name, truth, decide(made.findings), _said(made.findings), arm)
    facts = source.facts
    spec = GoldenSpec("files", files=specimen.truth)
    try:
        goldens = asyncio.run(
            make_golden(Path(), Path(), facts.inputs, spec, None, work / "goldens", outputs=facts.outputs)  # type: ignore[arg-type]
        )
    except FindingError as error:
        return Row(specimen.name, truth, decide(error.findings), _said(error.findings), arm)
    meanings = meanings_of(specimen.name, facts.outputs, read_program(source.program), {}, {})
    named = by_position(meanings, [tensor.name for tensor in made.nb.outputs])
    check = verifier(lite_environment(), work)
    result = check(made.path, list(goldens), outputs={one.name: one.spec.to_dict() for one in named})
    return Row(specimen.name, truth, decide(result.findings), _said(result.findings), arm)


def _said(findings: object) -> str:
    return next((f"{f.code} {f.observed}" for f in findings if f.decides), "")  # type: ignore[attr-defined]


def table(names: list[str], tmp_path: Path) -> list[Row]:
    found = specimens(names, tmp_path / "truth")
    rows = []
    for name in names:
        (tmp_path / name).mkdir()
        rows.append(judged(found[name], tmp_path / name))
    print(f"\n{'model':24} {'truth':14} {'verdict':10} {'arm':10} sentence")
    for row in rows:
        print(f"{row.name:24} {row.truth:14} {row.verdict.value:10} {row.arm:10} {row.sentence}")
    return rows


def test_a_dozen_kinds_of_models_are_judged_rightly(tmp_path: Path) -> None:
    rows = {row.name: row for row in table(list(FEW), tmp_path)}
    assert [row for row in rows.values() if not row.fair] == []
    refused = {name: row.sentence[:5] for name, row in rows.items() if row.verdict is not Verdict.VERIFIED}
    assert refused == {
        "classifier_flatten": "LF205",
        "scalar_output": "LF213",
        "float64_inside": "LF213",
        "quantised_onnx_format": "LF206",
    }
    assert "x.sum(axis=[0, 1])" in rows["scalar_output"].sentence
    assert "cast from float32 to float64" in rows["float64_inside"].sentence
    assert rows["quantised_onnx_format"].arm == "converts"


def test_another_version_cures_a_converter_that_crashes_with_its_own_runtime(tmp_path: Path) -> None:
    """`toolchain: auto`: 2.13rc0's converter crashes for x86 at flatten; 2.12's file is right on 2.12, and only there."""
    assert ToolchainConfig.model_validate("auto").also == ("2.12", "2.10")
    specimen = specimens(["classifier_flatten"], tmp_path / "truth", "2.12")["classifier_flatten"]
    source = specimen.source
    assert source is not None
    assert right(specimen)
    variant = make_variant(source.sha256, "x86")
    store = ArtifactStore(tmp_path / "store")
    with pytest.raises(FindingError) as caught:
        asyncio.run(convert_with_any(source, variant, (), Toolchains(), store))
    assert "2.12 does not (`toolchain: auto` takes it, for file and runtime together)" in str(caught.value.findings)
    made = asyncio.run(convert_with_any(source, variant, ("2.12",), Toolchains(), store))
    assert made.variant is not None
    assert (made.variant.opt_version, made.findings[-1].code) == ("2.12", "LF211")
    for version, verdict in (("2.12", Verdict.VERIFIED), ("2.13rc0", Verdict.CRASHED)):
        (tmp_path / version).mkdir()
        result = verifier(lite_environment(version), tmp_path / version)(made.path, list(specimen.truth))
        assert decide(result.findings) is verdict, result.findings


@pytest.mark.lab
@pytest.mark.long
def test_the_whole_zoo_is_judged_rightly(tmp_path: Path) -> None:
    names = sorted(path.name for path in zoo_models().iterdir() if path.is_dir())
    rows = table([name for name in names if name not in FEW], tmp_path)
    assert [row for row in rows if not row.fair] == []
