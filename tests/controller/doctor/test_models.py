"""Doctor on source models: the real ones, and what people hand in instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_agent.findings import Severity
from litefleet_controller.doctor.diagnosis import Kind
from litefleet_controller.doctor.models import diagnose_source

from tests.controller.build.conversion.test_preflight import PIR, SMALL, SMALL_PARAMS


@pytest.mark.parametrize(
    ("name", "saved", "shape"),
    [("cls", "2.3.2", "? x 3 x ? x ?"), ("det", "2.4.1", "? x 3 x ? x ?"), ("rec", "2.4.2", "? x 3 x 48 x ?")],
)
def test_a_good_model_has_facts_and_no_findings(models: dict[str, Path], name: str, saved: str, shape: str) -> None:
    found = diagnose_source(models[name])
    facts = {fact.label: fact.text for fact in found.facts}
    assert (found.kind, found.subject, found.findings) == (Kind.SOURCE, models[name].name, ())
    assert found.path == models[name] / "inference.pdmodel"
    assert facts["saved by"] == f"PaddlePaddle {saved}"
    assert facts["input"] == f"x float32 {shape}"
    assert "conv2d" in facts["operators"]
    assert found.works[0] == "Program and parameters belong together, and are whole."
    assert [sentence.split(" known ")[1] for sentence in found.works[1:]] == [
        "on x86 in Paddle-Lite 2.13rc0.",
        "on arm in Paddle-Lite 2.13rc0.",
    ]
    assert json.loads(json.dumps(found.to_dict()))["data"]["paddle_version"] == saved


def test_what_another_version_lacks_is_found_for_each_target(models: dict[str, Path]) -> None:
    found = diagnose_source(models["rec"], "2.10")
    assert [(f.code, f.severity) for f in found.ranked] == [("LF206", Severity.ERROR), ("LF204", Severity.WARNING)]
    assert not any("on x86" in sentence for sentence in found.works)
    assert any("on arm" in sentence for sentence in found.works)
    assert [f.code for f in diagnose_source(models["rec"], "2.10", ["arm"]).findings] == ["LF204"]


def codes(path: Path) -> list[str]:
    found = diagnose_source(path)
    assert (found.kind, found.works) == (Kind.SOURCE, ())
    return [f.code for f in found.findings]


def test_what_is_no_model_is_a_finding(tmp_path: Path, models: dict[str, Path]) -> None:
    assert codes(tmp_path / "gone") == ["LF201"]
    (tmp_path / "inference.json").write_bytes(PIR)
    assert codes(tmp_path) == ["LF202"]
    assert "FLAGS_enable_pir_api=0" in diagnose_source(tmp_path / "inference.json").findings[0].entry.do
    program = tmp_path / "inference.pdmodel"
    program.write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0")
    program.with_suffix(".pdiparams").write_bytes(SMALL_PARAMS)
    assert codes(tmp_path) == ["LF210"]
    program.write_bytes(b"\xff" * 50)
    assert codes(tmp_path) == ["LF207"]
    program.write_bytes(SMALL)
    assert diagnose_source(tmp_path).findings == ()
    program.with_suffix(".pdiparams").write_bytes((models["cls"] / "inference.pdiparams").read_bytes())
    assert codes(tmp_path) == ["LF203"]


def test_other_frameworks_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    assert codes(tmp_path / "net.onnx") == codes(tmp_path) == ["LF210"]
    assert diagnose_source(tmp_path).findings[0].observed == f"{tmp_path / 'net.onnx'} is ONNX."
    (tmp_path / "best.pdparams").write_bytes(b"\x80\x02}")
    assert codes(tmp_path) == ["LF207"]
    assert "export the model for inference" in diagnose_source(tmp_path / "best.pdparams").findings[0].observed


def test_a_version_that_the_table_lacks_is_not_spoken_for(models: dict[str, Path]) -> None:
    found = diagnose_source(models["cls"], "9.9")
    assert (found.findings, len(found.works)) == ((), 1)
