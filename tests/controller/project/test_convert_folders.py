"""`litefleet convert FOLDER`: a model's folder is enough, whatever its layout; no project is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_agent.formats.nb import read_nb
from litefleet_controller.cli import app
from typer.testing import CliRunner

from tests.conftest import CACHE
from tests.zoo.zoo import zoo_models


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    return done.exit_code if not isinstance(done.exception, Exception) else -1, done.output + str(done.exception or "")


@pytest.mark.toolchain
def test_a_bare_folder_is_converted_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITEFLEET_CACHE", str(CACHE / "litefleet"))
    monkeypatch.chdir(tmp_path)
    code, said = run(zoo_models() / "file_per_parameter", "--for", "aarch64", "--json")
    assert code == 0, said
    (row,) = json.loads(said)
    assert (row["model"], row["arch"], row["failed"]) == ("file_per_parameter", "aarch64", False)
    assert [path.name for path in tmp_path.iterdir()] == ["file_per_parameter-aarch64.nb"]
    assert read_nb((tmp_path / "file_per_parameter-aarch64.nb").read_bytes()).kernels_by_target().get("arm")


def test_local_mistakes_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITEFLEET_CACHE", str(tmp_path / "cache"))
    folder = zoo_models() / "classifier"
    for arguments, words in (
        ((tmp_path / "gone",), "does not exist: name a model's folder, or its program file"),
        ((folder, folder), "two models would have the name classifier"),
        ((folder, "-m", "cls"), "--model names models of litefleet.yaml"),
    ):
        code, said = run(*arguments)
        assert code != 0
        assert words in said
