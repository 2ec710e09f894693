"""What `litefleet doctor` says of labelled data before an engine or a device runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.config import ModelConfig
from litefleet_controller.doctor.datasets import check_dataset

from tests.accuracy_models import accuracy_models


def configured(folder: Path, **golden: Any) -> ModelConfig:
    data = {"dataset": str(folder), "metric": "top1", **golden}
    return ModelConfig.model_validate({"source": "model", "golden": data, "preprocess": {"mean": [0.5], "std": [0.5]}})


def said(found: Any) -> list[tuple[str, str]]:
    return [(one.code, one.observed) for one in found.findings]


def test_a_model_without_a_data_set_has_nothing_to_check() -> None:
    model = ModelConfig.model_validate({"source": "model"})
    assert said(check_dataset("m", model, None)) == []


def test_missing_and_contradictory_data_is_named(tmp_path: Path) -> None:
    ((code, words),) = said(check_dataset("m", configured(tmp_path / "none"), None))
    assert code == "LF412"
    assert words.startswith("models.m.golden.dataset: ")
    assert "none is missing" in words


def test_classes_without_a_sample_and_too_few_samples_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n")
    for number, name in enumerate(("cat", "cat", "dog")):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.npy").write_bytes(b"never read here")
    lacking, few = said(check_dataset("m", configured(tmp_path, drop=0.01), None))
    assert lacking == (
        "LF431",
        "m: no sample of the data set is labelled bird: a device's loss in these classes is not measured.",
    )
    assert few[0] == "LF431"
    assert "one of 3 samples is 0.333 of top1, and a drop of 0.01 is allowed: a single sample decides" in few[1]
    assert [one[0] for one in said(check_dataset("m", configured(tmp_path, drop=0.4), None))] == ["LF431"]


@pytest.mark.toolchain
def test_samples_are_tried_against_the_models_inputs(tmp_path: Path) -> None:
    made = accuracy_models()
    source = load_source(made / "classifier").facts
    found = check_dataset("shapes", configured(made / "data" / "shapes", drop=0.05), source)
    assert said(found) == []
    assert "shapes: 8 of 80 samples were read and fit the model's inputs." in found.works
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "torn.png").write_bytes((next((made / "data" / "shapes").rglob("*.png"))).read_bytes()[:60])
    problems = said(check_dataset("shapes", configured(tmp_path, drop=1), source))
    assert [code for code, _ in problems] == ["LF412"]
    assert "torn.png" in problems[0][1]
