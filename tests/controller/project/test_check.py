"""The check of local files: each problem has the file and line of its setting, and no device is contacted for it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import numpy as np
import pytest
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.project import Options
from litefleet_controller.project.check import checked_project

from tests.zoo.zoo import zoo_models

CONFIG = """\
inventory: fleet.yaml
models:
  cls:
    source: {source}
    inputs: {inputs}
runtimes:
  x86_64: {runtime}
ssh: {{known_hosts: known_hosts}}
"""
GOOD = {"inputs": "{x: [1, 3, 48, 192]}", "runtime": "{paddlelite: 2.13rc0}"}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that must not be contacted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


@pytest.fixture
def folder(tmp_path: Path, listener: socket.socket) -> Path:
    """A project's folder with a good key; its device is `listener`."""
    (tmp_path / "key").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    write_fleet(tmp_path, listener, f"key: {tmp_path}/key")
    return tmp_path


def write_fleet(folder: Path, listener: socket.socket, settings: str) -> None:
    address = f"host: 127.0.0.1, port: {listener.getsockname()[1]}, user: nobody"
    (folder / "fleet.yaml").write_text(f"devices:\n  cam:\n    {{{address}, {settings}}}\n")


def write_config(folder: Path, more: str = "", **settings: str) -> None:
    (folder / "litefleet.yaml").write_text(CONFIG.format(**{**GOOD, **settings}) + more)


def problems(folder: Path) -> list[str]:
    try:
        asyncio.run(checked_project(Options(folder / "litefleet.yaml")))
    except ConfigError as error:
        return [problem.replace(f"{folder}/", "") for problem in error.problems]
    return []


def test_a_whole_project_has_no_problems(folder: Path, models: dict[str, Path]) -> None:
    write_config(folder, source=str(models["cls"]))
    assert problems(folder) == []


def test_a_missing_model_is_the_configurations_problem(folder: Path) -> None:
    write_config(folder, source="model")
    (problem,) = problems(folder)
    assert problem.startswith("litefleet.yaml:4: models.cls.source: ")
    assert "model" in problem
    assert problem.endswith("(LF201)")


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("model", "arch", "words"),
    [
        ("float64_input", "", ["The input 'x' is float64; the converter makes a float32 input of it", "1 x cast from"]),
        ("float64_inside", "", ["1 x cast from float32 to float64", "1 x cast from float64 to float32"]),
        ("absolute_difference", "arch: x86_64", ["1 x abs after an elementwise operator: for x86 "]),
        ("absolute_difference", "arch: aarch64", []),
        ("absolute_difference", "", []),  # it may be an ARM device
        ("classifier", "", []),
    ],
)
def test_a_model_at_which_paddlelite_ends_is_found_before_any_device_is_contacted(
    model: str, arch: str, words: list[str], folder: Path, listener: socket.socket
) -> None:
    if arch:
        write_fleet(folder, listener, f"key: {folder}/key, {arch}")
    write_config(folder, source=str(zoo_models() / model), inputs="{}")
    found = problems(folder)
    assert len(found) == len(words), found
    for problem, text in zip(found, words, strict=True):
        assert problem.startswith("litefleet.yaml:4: models.cls.source: ")
        assert text in problem
        assert problem.endswith("(LF213)")


def test_an_input_that_the_model_lacks_is_named_with_the_models_own(folder: Path, models: dict[str, Path]) -> None:
    write_config(folder, source=str(models["cls"]), inputs="{image: [1, 3, 48, 192]}")
    found = problems(folder)
    assert found[0] == "litefleet.yaml:5: models.cls.inputs: the model has no input 'image'; it has x."
    assert all(problem.startswith("litefleet.yaml:5: models.cls.inputs: ") for problem in found)


def test_goldens_are_read_and_compared_with_the_model(folder: Path, models: dict[str, Path]) -> None:
    for name in ("a", "b"):
        np.savez(folder / f"{name}.npz", x=np.zeros((1, 3, 48, 192), np.float32))
    (folder / "b.npz").write_bytes(b"PK\x03\x04 cut")
    golden = "  golden: {files: [a.npz, b.npz]}\n"
    text = CONFIG.format(**GOOD, source=str(models["cls"])).replace("runtimes:", f"  {golden}runtimes:")
    (folder / "litefleet.yaml").write_text(text)
    (problem,) = problems(folder)
    assert problem.startswith("litefleet.yaml:6: models.cls.golden: b.npz is not a readable .npz")


@pytest.mark.parametrize(
    ("runtime", "start"),
    [
        ("{wheel: none.whl}", "litefleet.yaml:7: runtimes.x86_64.wheel: none.whl is missing."),
        ("{wheel: key}", "litefleet.yaml:7: runtimes.x86_64.wheel: key is not the file name of a wheel (LF307)."),
        ("{folder: none}", "litefleet.yaml:7: runtimes.x86_64.folder: "),
    ],
)
def test_a_runtime_that_is_missing_or_none(runtime: str, start: str, folder: Path, models: dict[str, Path]) -> None:
    write_config(folder, source=str(models["cls"]), runtime=runtime)
    (problem,) = problems(folder)
    assert problem.startswith(start)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("key: none", "none is missing."),
        ("key: {folder}/key.pub", "key.pub is the public half; name the private one."),
        ("key: {folder}/fleet.yaml", "fleet.yaml is not a private key: "),
        ("artifact: none.nb, model: cls", "none.nb cannot be read: No such file or directory"),
        ("artifact: key, model: cls", "LF10"),
    ],
)
def test_files_that_the_inventory_names(
    setting: str, problem: str, folder: Path, listener: socket.socket, models: dict[str, Path]
) -> None:
    (folder / "key.pub").write_text("ssh-ed25519 AAAA\n")
    write_fleet(folder, listener, setting.format(folder=folder))
    write_config(folder, source=str(models["cls"]))
    (found,) = problems(folder)
    assert found.startswith(f"fleet.yaml:2: cam.{setting.partition(':')[0]}: ")
    assert problem in found


def test_a_signing_key_that_is_missing(folder: Path, models: dict[str, Path]) -> None:
    write_config(folder, "signing: {key: none, allowed_signers: none}\n", source=str(models["cls"]))
    (problem,) = problems(folder)
    assert problem.startswith("litefleet.yaml:9: signing: ")
    assert "none" in problem


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "120"}
    argv = [sys.executable, "-m", "litefleet", *args]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "command", [["check"], ["plan"], ["rollout"], ["rollout", "--dry-run"], ["verify"], ["bench"], ["probe"]]
)
def test_a_command_stops_with_2_before_it_contacts_a_device(
    command: list[str], folder: Path, listener: socket.socket
) -> None:
    write_fleet(folder, listener, "key: none")
    write_config(folder, source="model")
    done = run(folder, *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "fleet.yaml:2: cam.key: none is missing." in done.stderr
    assert ("litefleet.yaml:4: models.cls.source: " in done.stderr) == (
        command not in (["bench"], ["probe"])
    )  # it runs what is deployed
    with pytest.raises(TimeoutError):
        listener.accept()
    assert not (folder / ".litefleet").exists()


def test_check_as_json(folder: Path, models: dict[str, Path]) -> None:
    write_config(folder, source="model")
    done = run(folder, "check", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"], len(document["problems"])) == (2, 2, 1)
    write_config(folder, source=str(models["cls"]))
    done = run(folder, "check", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"schema": 1, "exit_code": 0, "problems": []})
