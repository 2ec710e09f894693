"""The check of local files: each problem has the file and line of its setting, and no device is contacted for it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import asyncssh
import numpy as np
import pytest
from litefleet_controller.cli.main import main
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.project import Options
from litefleet_controller.project.check import checked_project
from litefleet_controller.project.project import open_project, open_state
from litefleet_controller.state import Confirmed

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


def typed(folder: Path, *args: str) -> Typed:
    """Run a command in this process, in this folder: a process of its own for each of them takes two seconds."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    handler = signal.getsignal(signal.SIGTERM)
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(args))
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
    return Typed(code, out.getvalue(), err.getvalue())


class Typed(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


ALL = [["check"], ["plan"], ["rollout"], ["rollout", "--dry-run"], ["verify"], ["evaluate"], ["infer", "x.npz"]]
RUNS_WHAT_IS_DEPLOYED = [
    ["bench"],
    ["probe"],
    ["doctor", "--limit", "cam"],
    ["reconcile"],
    ["rollback", "--yes", "--limit", "cam"],
    ["provision"],
    ["provision", "--dry-run", "--check"],
]
ACCEPT = ["accept-key", "cam", "--yes"]  # asks for a host key: it needs neither a model nor a key of its own


def not_contacted(listener: socket.socket) -> bool:
    listener.settimeout(0.01)  # the command has ended: what it opened is in the queue
    with pytest.raises(TimeoutError):
        listener.accept()
    return True


@pytest.fixture
def deployed(folder: Path, models: dict[str, Path]) -> Path:
    """A project whose state says that its device runs a release."""
    write_config(folder, source=str(models["cls"]))
    with closing(open_state(open_project(Options(folder / "litefleet.yaml")).config)) as state:
        state.confirm([Confirmed("cam", "cls", "a" * 64, "b" * 64, "system", "f", "r-1", 1.0)])
    return folder


@pytest.mark.parametrize("command", [*ALL, *RUNS_WHAT_IS_DEPLOYED], ids=" ".join)
def test_a_command_stops_with_2_before_it_contacts_a_device(
    command: list[str], deployed: Path, listener: socket.socket
) -> None:
    write_fleet(deployed, listener, "key: none")
    write_config(deployed, source="model")
    done = typed(deployed, *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "fleet.yaml:2: cam.key: none is missing." in done.stderr
    assert ("litefleet.yaml:4: models.cls.source: " in done.stderr) == (command in ALL)
    assert not_contacted(listener)
    assert sorted(path.name for path in (deployed / ".litefleet").iterdir()) == ["state.db"]


def test_a_rollback_needs_no_key_of_other_devices(deployed: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    (deployed / "fleet.yaml").write_text(
        "devices:\n  cam: {host: 127.0.0.1, port: 1, user: nobody}\n"
        f"  other: {{host: 127.0.0.1, port: {port}, user: nobody, key: none}}\n"
    )
    done = typed(deployed, "rollback", "--yes", "--limit", "cam")
    assert (done.returncode, "is missing" in done.stderr) == (1, False), done.stderr


@pytest.mark.parametrize("command", [*ALL, *RUNS_WHAT_IS_DEPLOYED, ACCEPT], ids=" ".join)
def test_a_broken_inventory_stops_every_command_with_2(
    command: list[str], deployed: Path, listener: socket.socket
) -> None:
    fleet = deployed / "fleet.yaml"
    fleet.write_text(fleet.read_text().replace("user:", "usr:"))
    done = typed(deployed, *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "fleet.yaml:3: devices.cam.usr: unknown key; did you mean 'user'?" in done.stderr
    assert not_contacted(listener)


WRITES = [
    ["plan"],
    ["rollout"],
    ["verify"],
    ["bench"],
    ["probe"],
    ["reconcile"],
    ["rollback", "--yes", "--limit", "cam"],
]


@pytest.mark.parametrize("command", [*WRITES, ACCEPT], ids=" ".join)
def test_a_store_that_cannot_be_written_is_said_before_a_device_is_contacted(
    command: list[str], deployed: Path, listener: socket.socket, models: dict[str, Path]
) -> None:
    """What devices answer would be lost.  /proc is a folder in which root cannot write either."""
    write_config(deployed, "store: /proc/nowhere\nstate: .litefleet/state.db\n", source=str(models["cls"]))
    done = typed(deployed, *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"litefleet\.yaml:9: store: /proc/nowhere cannot be written \(/proc: .+\)", done.stderr)
    assert not_contacted(listener)


def test_the_store_is_a_file_or_below_one(folder: Path, models: dict[str, Path]) -> None:
    for store in ("key", "key/below"):
        write_config(folder, f"store: {store}\n", source=str(models["cls"]))
        (problem,) = problems(folder)
        assert problem == f"litefleet.yaml:9: store: {store} cannot be written (key: it is not a folder)."


@pytest.mark.parametrize("option", ["--key", "--settings", "--identity"])
def test_provision_reads_the_files_that_it_was_given_first(
    option: str, deployed: Path, listener: socket.socket
) -> None:
    done = typed(deployed, "provision", option, "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none" in done.stderr
    assert not_contacted(listener)


def test_check_as_json(folder: Path, models: dict[str, Path]) -> None:
    write_config(folder, source="model")
    done = run(folder, "check", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"], len(document["problems"])) == (2, 2, 1)
    write_config(folder, source=str(models["cls"]))
    done = run(folder, "check", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"schema": 1, "exit_code": 0, "problems": []})
