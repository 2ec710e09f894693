"""`litefleet init`: a project that passes `litefleet check`, from a folder with real models; nothing is overwritten."""

import shutil
from pathlib import Path

import pytest
import yaml
from litefleet_controller.cli import app
from litefleet_controller.common.errors import UsageError
from litefleet_controller.project.new_project import NewDevice, parse_device
from litefleet_inventory import load
from typer.testing import CliRunner

from tests.conftest import source_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("init")
    for short in ("cls", "rec"):
        shutil.copytree(source_models()[short], top / "models" / short)
    (top / "models" / "notes").mkdir()
    (top / "models" / "notes" / "inference.pdmodel").write_text("no model")
    return top


def run(*args: str, stdin: str = "") -> tuple[int, str, str, BaseException | None]:
    done = CliRunner().invoke(app, ["init", *args], input=stdin)
    return done.exit_code, done.stdout, done.stderr, done.exception


def test_the_new_project_passes_the_check_and_names_its_guesses(folder):
    code, out, err, error = run(
        str(folder), "--host", "cam-[1:3]=edge@10.0.0.[1:3]:2222", "--host", "[fe80::1]", "--fleet", "yes"
    )
    assert code == 0, (out, err, error)
    config = yaml.safe_load((folder / "litefleet.yaml").read_text())
    assert config["fleet"] == "yes"
    assert config["models"]["cls"] == {"source": "models/cls", "inputs": {"x": [1, 3, 224, 224]}}
    assert config["models"]["rec"]["inputs"] == {"x": [1, 3, 48, 224]}
    assert "models.rec.inputs.x: [1, 3, 48, 224] is a guess, as the model declares [-1, 3, 48, -1]" in err
    devices = load(folder / "fleet.yaml").devices
    assert {d.name: (d.host, d.port, d.user) for d in devices} == {
        "cam-1": ("10.0.0.1", 2222, "edge"),
        "cam-2": ("10.0.0.2", 2222, "edge"),
        "cam-3": ("10.0.0.3", 2222, "edge"),
        "fe80-1": ("fe80::1", 22, ""),
    }
    assert "2 model(s), 4 device(s)" in out
    checked = CliRunner().invoke(app, ["check", "-c", str(folder / "litefleet.yaml")])
    assert checked.exit_code == 0, checked.stderr

    before = (folder / "litefleet.yaml").read_bytes()
    code, _, _, error = run(str(folder), "--host", "x")
    assert isinstance(error, UsageError)
    assert "changes no existing file" in str(error)
    assert (folder / "litefleet.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "a=b=c"], "--host: devices.a=b: the name 'a=b' may hold"),
        (["--host", "edge@10.0.0.[1:2]"], "a range here needs a range in the device's name"),
        (["--host", "x@y:99999"], "names no device; write --host user@address"),
        (["--host", "a b"], "names no device"),
        (["--host", "a@h", "--host", "a@h"], "two devices are named h"),
        ([], "no device is named; add --host"),
        (["--model", "nowhere", "--host", "h"], "nowhere does not exist"),
    ],
)
def test_a_wrong_choice_is_one_sentence_and_writes_nothing(folder, tmp_path, args, said):
    model = [] if "--model" in args else ["--model", str(folder / "models" / "cls")]
    code, _, _, error = run(str(tmp_path), *model, *args)
    assert code != 0
    assert said in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_model_says_what_was_looked_for(tmp_path):
    _, _, _, error = run(str(tmp_path), "--host", "h")
    assert "a folder with inference.pdmodel and inference.pdiparams" in str(error)


def test_addresses():
    assert parse_device("me@[2001:db8::1]:2200") == NewDevice("2001-db8-1", "2001:db8::1", "me", 2200)
    assert parse_device(" desk=192.0.2.7 ") == NewDevice("desk", "192.0.2.7")
