"""What is known against a conversion before it: held against the converters' own words, on models of every form."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest
from litefleet_agent.findings import Certainty, Severity
from litefleet_controller.build.conversion import forms, opsets
from litefleet_controller.build.conversion.preflight import SourceFacts, check_source, load_source
from litefleet_controller.build.conversion.static import check_source_for
from litefleet_controller.build.toolchain import Toolchain, Toolchains
from litefleet_controller.common.errors import FindingError
from litefleet_controller.inspection.foreign import foreign_format

from tests.conftest import CACHE
from tests.controller.build.conversion.test_preflight import field, op, program, saved, var

VERSIONS = ("2.13rc0", "2.12", "2.10")


def facts_of(*parts: bytes, params: bytes = b"", version: int = 2003002) -> SourceFacts:
    body = (
        var("x", [1, 4]),
        var("y", [1, 4]),
        *parts,
        op("feed", ["feed"], ["x"]),
        op("fetch", ["y"], ["fetch"]),
        var("w", [4, 4], persistable=True),
    )
    return check_source(program(*body, version=version), params or saved([4, 4]))


def with_slots(kind: str, inputs: dict[str, str], outputs: dict[str, str], **attributes: list[int]) -> bytes:
    body = b"".join(field(1, field(1, s.encode()) + field(2, n.encode())) for s, n in inputs.items())
    body += b"".join(field(2, field(1, s.encode()) + field(2, n.encode())) for s, n in outputs.items())
    for name, values in attributes.items():
        body += field(4, field(1, name.encode()) + field(2, 3) + b"".join(field(6, v) for v in values))
    return field(4, body + field(3, kind.encode()))


def found(facts: SourceFacts, target: str, version: str, fp16: bool = False) -> list[tuple[str, str, str]]:
    return [(f.code, f.severity.value, f.certainty.value) for f in check_source_for(facts, target, version, fp16)]


def test_the_table_is_small_sorted_and_holds_every_version() -> None:
    table = json.loads(opsets.OPSETS.read_text())
    assert opsets.versions() == VERSIONS
    assert opsets.OPSETS.stat().st_size < 100_000
    assert table["ops"] == sorted(set(table["ops"]))
    for by_target in table["lacks"].values():
        assert all(names == sorted(names) and set(names) < set(table["ops"]) for names in by_target.values())


def test_what_the_table_answers() -> None:
    assert opsets.unsupported(["conv2d", "matmul_v2"], "x86", "2.10") == ("matmul_v2",)
    assert opsets.versions_that_convert(["conv2d", "matmul_v2"], "x86") == ("2.13rc0", "2.12")
    assert opsets.unsupported(["lrn"], "x86", "2.13rc0") == ("lrn",)
    assert opsets.unsupported(["lrn", "no_such"], "opencl,arm", "2.13rc0") == ("no_such",)
    assert opsets.unsupported(["no_such"], "x86", "3.99") == ()
    assert not opsets.knows("x86", "3.99")
    assert not opsets.knows("eeasytech_npu,arm", "2.10")
    assert opsets.versions_that_convert(["conv2d"], "eeasytech_npu,arm") == ("2.13rc0", "2.12")


def hinders(facts: SourceFacts, targets: str, version: str) -> bool:
    """Whether a finding more certain than possible says that this converter stops."""
    found = check_source_for(facts, targets, version)
    return any(f.code in {"LF204", "LF206", "LF209"} and f.certainty is not Certainty.POSSIBLE for f in found)


@pytest.mark.toolchain
@pytest.mark.parametrize("version", VERSIONS)
async def test_the_table_is_what_the_converter_says(version: str, tmp_path: Path) -> None:
    """One program that names every operator, and one that does not exist, makes the converter say its whole table."""
    toolchain = await Toolchains(CACHE / "toolchains").lite(version)
    ops = json.loads(opsets.OPSETS.read_text())["ops"]
    (tmp_path / "m.pdmodel").write_bytes(
        program(var("x", [1]), var("y", [1]), *(op(name, ["x"], ["y"]) for name in [*ops, "no_such"]))
    )
    (tmp_path / "m.pdiparams").write_bytes(saved([1]))
    for target in ("x86", "arm", "opencl,arm"):
        output = re.search(r"unsupported ops are: '([^']*)'", run_opt(toolchain, tmp_path / "m", target)[1])
        assert output is not None
        assert tuple(sorted(output.group(1).split(", "))) == opsets.unsupported([*ops, "no_such"], target, version)


def run_opt(toolchain: Toolchain, stem: Path, target: str) -> tuple[int, str]:
    argv = [toolchain.python, "-I", toolchain.opt, f"--model_file={stem}.pdmodel", f"--param_file={stem}.pdiparams"]
    argv += [f"--valid_targets={target}", f"--optimize_out={stem}-out"]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def saved_models(paddle_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models of PaddlePaddle 2.6.2, one for each form that a converter stops at."""
    folder = tmp_path_factory.mktemp("forms")
    script = Path(__file__).parents[2] / "support" / "save_operator_forms.py"
    done = subprocess.run([paddle_python, "-I", script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.toolchain
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_form_is_foretold_and_nothing_else(saved_models: Path, version: str) -> None:
    """What hinders in advance stops the real converter, and what does not converts: no miss and no false alarm."""
    toolchain = await Toolchains(CACHE / "toolchains").lite(version)
    stems = sorted(path.with_suffix("") for path in saved_models.glob("*.pdmodel"))
    assert len(stems) > 10
    for stem in stems:
        facts = load_source(stem.with_suffix(".pdmodel")).facts
        for target in ("x86", "arm"):
            code, output = run_opt(toolchain, stem, target)
            reported = [f.observed for f in check_source_for(facts, target, version)]
            assert hinders(facts, target, version) == bool(code), (stem.name, target, code, output[-300:], reported)


@pytest.mark.parametrize("name", ["cls", "det", "rec"])
def test_the_real_models_are_fine_with_the_default_version(models: dict[str, Path], name: str) -> None:
    facts = load_source(models[name]).facts
    for target in ("x86", "arm", "opencl,arm"):
        assert found(facts, target, "2.13rc0", fp16=True) == []


def test_an_operator_that_another_version_has_is_named(models: dict[str, Path]) -> None:
    facts = load_source(models["rec"]).facts
    first = check_source_for(facts, "x86", "2.10")[0]
    assert (first.code, first.certainty) == ("LF206", Certainty.CERTAIN)
    assert first.observed == "Paddle-Lite 2.10 has no kernel on x86 for matmul_v2 (x 13); 2.13rc0 or 2.12 has."


def test_an_operator_that_no_version_has_is_named_too() -> None:
    facts = facts_of(op("conv3d", ["x", "w"], ["y"]))
    assert "nor has one of 2.13rc0, 2.12, 2.10" in check_source_for(facts, "arm", "2.13rc0")[0].observed


@pytest.mark.parametrize("form", forms.FORMS, ids=lambda form: form.key)
def test_a_form_is_distinguished_by_the_name_alone(form: forms.Form) -> None:
    slots, attributes = {"Y": "y"}, {"other": [1]}
    bare = facts_of(with_slots(form.op, {"X": "x"}, slots, **attributes))
    assert bare.forms[form.key] == 1
    whole_slots = {"Y": "y", **({form.lacking: "y"} if form.part == "output" else {})}
    whole_attributes = {**attributes, **({form.lacking: [1]} if form.part == "attribute" else {})}
    whole = facts_of(with_slots(form.op, {"X": "x"}, whole_slots, **whole_attributes))
    assert form.key not in whole.forms
    for version in VERSIONS:
        assert hinders(bare, "arm", version) == (version in form.stops)
        reported = [
            f.observed for f in check_source_for(bare, "arm", version) if f"without the {form.part}" in f.observed
        ]
        assert bool(reported) == (version in form.stops)


def test_a_computed_filter_counts_and_a_stored_one_does_not() -> None:
    def conv(name: str, strides: list[int]) -> SourceFacts:
        body = with_slots("conv2d", {"Input": "x", "Filter": name}, {"Output": "y"}, strides=strides, groups=[1])
        return facts_of(var("f", [4, 4, 1, 1]), body)

    assert conv("f", [1, 1]).forms == {forms.BARE_CONV: 1}
    assert conv("w", [1, 1]).forms == conv("f", [2, 2]).forms == {}
    assert found(conv("f", [1, 1]), "arm", "2.13rc0") == [("LF209", "warning", "likely")]
    assert not hinders(conv("f", [1, 1]), "x86", "2.13rc0")
    assert not hinders(conv("f", [1, 1]), "arm", "2.10")


def test_a_newer_paddle_alone_is_a_note() -> None:
    newer = facts_of(op("mul", ["x", "w"], ["y"]), version=2006002)
    assert found(newer, "arm", "2.13rc0") == [("LF204", "note", "possible")]
    assert not hinders(newer, "arm", "2.13rc0")


def test_a_weight_beyond_fp16_is_reported_when_fp16_is_asked_for() -> None:
    def params(value: float) -> bytes:
        whole = saved([4, 4])
        return whole[:-4] + struct.pack("<f", value)

    large = facts_of(op("mul", ["x", "w"], ["y"]), params=params(-70000.0))
    assert large.beyond_fp16 == (("w", 70000.0),)
    assert found(large, "arm", "2.13rc0") == []
    reported = check_source_for(large, "arm", "2.13rc0", fp16=True)
    assert [(f.code, f.severity) for f in reported] == [("LF404", Severity.WARNING)]
    assert "w (70000)" in reported[0].observed
    for value in (65504.0, float("nan"), float("inf")):
        assert facts_of(op("mul", ["x", "w"], ["y"]), params=params(value)).beyond_fp16 == ()
    assert facts_of(op("batch_norm", ["x", "w"], ["y"]), params=params(1e9)).beyond_fp16 == ()


@pytest.mark.parametrize(
    ("head", "name", "what"),
    [
        (b"\x1c\0\0\0TFL3\x14\0", "m.bin", "TensorFlow Lite"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05", "inference.pdmodel", "ONNX"),
        (b"\x0a\x10", "net.onnx", "ONNX"),
        (b"\x89HDF\r\n\x1a\n\0\0", "m.nb", "Keras HDF5"),
        (b"7767517\n75 83\nInput", "m.param", "ncnn param"),
        (b"7767517\r\n75 83", "m.param", "ncnn param"),
        (b"ftrt\0\0\0\0", "x", "TensorRT engine"),
        (b'<?xml version="1.0"?>\n<net name="m" version="10">', "m.xml", "OpenVINO IR"),
        (b'\x40\x01\0\0\0\0\0\0{"w":{"dtype"', "m", "safetensors"),
        (b"PK\x03\x04" + bytes(22) + b"\x10\0\0\0archive/data.pkl", "m", "PyTorch (zip)"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02", "m", "PyTorch (before 1.6)"),
        (b"\x08\x01", "saved_model.pb", "TensorFlow SavedModel"),
        (b"\x0a", "m.caffemodel", "Caffe"),
        (b"\x0a", "m.mnn", "MNN"),
        (b"", "notes.txt", ""),
        (b"\x02\0v2.13-rc", "m.nb", ""),
    ],
)
def test_foreign_formats(head: bytes, name: str, what: str) -> None:
    assert foreign_format(head, name) == what


def test_real_programs_are_not_foreign(models: dict[str, Path]) -> None:
    for folder in models.values():
        for name in ("inference.pdmodel", "inference.pdiparams"):
            assert foreign_format((folder / name).read_bytes()[:4096], name) == ""


def test_a_foreign_program_is_named() -> None:
    with pytest.raises(FindingError) as caught:
        check_source(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", saved([1]))
    assert [f.code for f in caught.value.findings] == ["LF210"]
    assert "is ONNX" in caught.value.findings[0].observed
