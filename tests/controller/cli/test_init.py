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


ANSIBLE = "[cams]\ncam-1 ansible_host=10.0.0.1 ansible_user=edge\ncam-2 ansible_host=10.0.0.2\n"


@pytest.fixture
def alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one model, for a user without SSH or Ansible settings."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ANSIBLE_INVENTORY", raising=False)
    top = tmp_path / "project"
    shutil.copytree(folder / "models" / "cls", top / "models" / "cls")
    return top


@pytest.mark.parametrize("place", ["hosts.ini", "inventory/hosts", "ansible.cfg"])
def test_an_ansible_inventory_in_the_folder_is_found_and_read_in_place(alone: Path, place: str) -> None:
    path = alone / ("deploy/production" if place == "ansible.cfg" else place)
    path.parent.mkdir(exist_ok=True)
    path.write_text(ANSIBLE)
    if place == "ansible.cfg":
        (alone / place).write_text("[defaults]\ninventory = deploy/production\n")
    code, out, err, error = run(str(alone))
    assert code == 0, (out, err, error)
    assert "an Ansible inventory, 2 devices: cam-1, cam-2" in out
    assert not (alone / "fleet.yaml").exists()
    checked = CliRunner().invoke(app, ["check", "-c", str(alone / "litefleet.yaml")])
    assert checked.exit_code == 0, checked.stderr
    assert "2 device(s)" in checked.stdout, checked.stdout


def test_sources_outside_the_folder_are_named_and_taken_by_option(alone: Path) -> None:
    config = Path.home() / ".ssh" / "config"
    config.parent.mkdir(parents=True)
    config.write_text("Host hall-1 hall-2\n  User edge\n  HostName %h.lan\nHost *\n  Port 22\n")
    _, _, _, error = run(str(alone))
    assert f"--inventory {config}   # {config} (ssh_config, 2 devices: hall-1, hall-2)" in str(error)
    assert list(alone.iterdir()) == [alone / "models"]
    code, out, err, error = run(str(alone), "--inventory", str(config))
    assert code == 0, (out, err, error)
    text = (alone / "litefleet.yaml").read_text()
    assert yaml.safe_load(text)["inventory"] == {"ssh_config": str(config)}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-i", "none.ini"], "none.ini cannot be used, read as ansible: "),
        (["-i", "x", "--from", "chef"], "'chef' is not one of ansible, ssh_config"),
        (["-i", "x", "--host", "h"], "use one of them"),
    ],
)
def test_a_source_that_cannot_be_used_is_said(alone: Path, args: list[str], said: str) -> None:
    code, _, _, error = run(str(alone), *args)
    assert code != 0
    assert said in str(error)
    assert not (alone / "litefleet.yaml").exists()
