"""The layouts of source models: every one that PaddlePaddle ever saved is found, and what is no model is said in words."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from litefleet_controller.build.conversion.layouts import find_source, looks_random
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.common.errors import FindingError

from tests.zoo.zoo import zoo_models


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(zoo_models() / name, tmp_path / name))


def refused(path: Path) -> tuple[str, str]:
    with pytest.raises(FindingError) as caught:
        load_source(path)
    return caught.value.findings[0].code, caught.value.findings[0].observed


def test_a_file_per_parameter_is_the_combined_model(tmp_path: Path) -> None:
    """PaddlePaddle saved the same program in both layouts, with the same seed."""
    single, combined = copied("file_per_parameter", tmp_path), copied("combined_under_any_name", tmp_path)
    assert find_source(single) == (single / "__model__", single)
    assert find_source(combined) == (combined / "net.program", combined / "weights.bin")
    read = load_source(single)
    assert b"".join(read.pieces()) == (combined / "weights.bin").read_bytes()
    assert load_source(single / "__model__").sha256 == read.sha256
    assert load_source(combined).facts.parameters == read.facts.parameters == 4
    assert (
        load_source(combined / "net.program", combined / "weights.bin").facts.params_sha256 == read.facts.params_sha256
    )
    (single / "fc_0.w_0").unlink()
    assert refused(single) == (
        "LF201",
        f"1 of the model's 4 parameters have no file in {single}; the first is 'fc_0.w_0'.",
    )
    shutil.copy(combined / "weights.bin", single / "all-of-it")  # the other files are no longer needed
    assert find_source(single).params == single / "all-of-it"


def test_a_program_beside_parameters_of_another_name(tmp_path: Path) -> None:
    folder = copied("classifier", tmp_path)
    (folder / "inference.pdiparams").rename(folder / "best.pdiparams")
    assert find_source(folder) == (folder / "inference.pdmodel", folder / "best.pdiparams")
    (folder / "best.pdiparams").unlink()
    assert refused(folder) == ("LF201", f"The parameters file {folder / 'inference.pdiparams'} does not exist.")


def test_a_program_without_parameters_needs_no_second_file(tmp_path: Path) -> None:
    folder = copied("no_parameters", tmp_path)
    assert [path.suffix for path in folder.iterdir() if path.stat().st_size] == [".pdmodel"]
    read = load_source(folder)
    assert (list(read.pieces()), read.facts.parameters) == ([], 0)


def test_a_parameter_never_names_a_file_outside_the_folder(tmp_path: Path) -> None:
    folder = copied("file_per_parameter", tmp_path)
    program = (folder / "__model__").read_bytes()
    (folder / "__model__").write_bytes(program.replace(b"fc_0.w_0", b"../.w_00"))
    code, observed = refused(folder)
    assert code == "LF201"
    assert "'../.w_00', which is no file in the model's folder" in observed


def test_encrypted_files_are_named_as_such(tmp_path: Path) -> None:
    folder = copied("classifier", tmp_path)
    noise = random.Random(5).randbytes((folder / "inference.pdmodel").stat().st_size)
    params = (folder / "inference.pdiparams").read_bytes()
    (folder / "inference.pdiparams").write_bytes(noise)
    assert refused(folder)[0] == "LF203"
    assert "as an encrypted file's do" in refused(folder)[1]
    (folder / "inference.pdiparams").write_bytes(params)
    (folder / "inference.pdmodel").write_bytes(noise)
    assert refused(folder)[0] == "LF207"
    assert "decrypt it first" in refused(folder)[1]
    assert not any(looks_random(path.read_bytes()) for path in zoo_models().rglob("*.pd*"))
