"""The proof's process is confined before Paddle-Lite is imported, says so, and goes on where a kernel cannot confine it."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from litefleet_agent.formats.engine_settings import EngineSettings, OpenCLSettings
from litefleet_agent.sandbox import describe_kernel
from litefleet_agent.verification.confinement import ConfinementReport
from litefleet_agent.verification.verify import VerifyResult, VerifySpec, verify

from tests.agent.support.real_paddlelite import codes
from tests.conftest import lite_environment, paddle_goldens, raw_nb

pytestmark = pytest.mark.toolchain
OLDER = Path(__file__).parents[1] / "sandbox" / "older_kernel.py"

# A runtime that is hostile: what it could do becomes the text of its import error.
HOSTILE = """
import json, os, socket, subprocess
here = {here!r}
attempts = {{
    "write beside the work folder": lambda: open(os.path.join(here, "new"), "w"),
    "write into the work folder": lambda: open(os.path.join({work!r}, "new"), "w"),
    "write into the cache": lambda: open(os.path.join({cache!r}, "new"), "w"),
    "replace the result": lambda: os.rename(os.path.join({work!r}, "stage"), os.path.join({work!r}, "result.json")),
    "alter the confinement": lambda: open(os.path.join({work!r}, "sandbox.json"), "w"),
    "read a secret": lambda: open(os.path.join(here, "secret")).read(),
    "connect": lambda: socket.create_connection(("127.0.0.1", {port})),
    "start a program": lambda: subprocess.check_call(["true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "read the runtime": lambda: open(__file__).read(),
}}
done = []
for name, attempt in attempts.items():
    try:
        attempt()
        done.append(name)
    except OSError:
        pass
raise ImportError("done: " + ", ".join(done))
"""


def python_without(without: str, folder: Path, python: Path) -> Path:
    """Return an interpreter on a kernel that lacks these parts, comma-separated."""
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{OLDER}" "{without}" "{python}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def run_hostile(tmp_path: Path, without: str = "", cache: str = "") -> tuple[VerifyResult, set[str]]:
    package, work = tmp_path / "runtime" / "paddlelite", tmp_path / "work"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "secret").write_text("x")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        port = server.getsockname()[1]
        (package / "lite.py").write_text(
            HOSTILE.format(here=str(tmp_path), work=str(work), port=port, cache=cache or "/no")
        )
        settings = {"cache": cache, "engine": EngineSettings(opencl=OpenCLSettings(cache=True))} if cache else {}
        goldens = tuple(map(str, paddle_goldens("cls")))
        spec = VerifySpec(str(raw_nb("cls", "x86")), goldens, str(tmp_path / "runtime"), **settings)
        result = verify(spec, str(work), python=str(python_without(without, tmp_path, lite_environment())))
    (found,) = result.findings
    return result, set(found.observed.partition("done: ")[2].split(", "))


def test_a_cache_is_the_one_folder_that_may_be_written(tmp_path: Path) -> None:
    if not describe_kernel().landlock_abi:
        pytest.skip("this kernel has no Landlock")
    cache = tmp_path / "caches" / "of one release"
    cache.mkdir(parents=True)
    result, done = run_hostile(tmp_path, cache=str(cache))
    assert result.sandbox.guarantees["writes"] == "its work folder"
    assert done == {"read the runtime", "write into the cache"}
    assert os.listdir(cache) == ["new"]


@pytest.mark.parametrize("without", ["", "landlock", "seccomp"])
def test_a_hostile_runtime_gets_nothing_that_the_kernel_can_refuse(without: str, tmp_path: Path) -> None:
    kernel = describe_kernel()
    if (not kernel.landlock_abi and "landlock" not in without) or (not kernel.seccomp and "seccomp" not in without):
        pytest.skip("this kernel lacks it")
    result, done = run_hostile(tmp_path, without)
    assert result.sandbox is not None
    assert (result.sandbox.seccomp, result.sandbox.landlock > 0) == (
        "seccomp" not in without,
        "landlock" not in without,
    )
    assert len(result.sandbox.missing) == len([part for part in without.split(",") if part])
    if without == "":
        assert done == {"read the runtime"}
    elif without == "landlock":  # no file can be opened for writing; reading is not confined
        assert done == {"read the runtime", "read a secret"}
        assert result.sandbox.guarantees["writes"] == "nothing"
    else:
        assert not done & {"write beside the work folder", "write into the work folder", "read a secret"}
        assert "start a program" not in done


@pytest.mark.any_python  # it runs in Paddle-Lite's own interpreter
@pytest.mark.parametrize("without", ["", "landlock", "seccomp", "landlock,seccomp"])
def test_a_model_is_verified_on_each_kernel_and_the_proof_says_how(without: str, tmp_path: Path) -> None:
    python = python_without(without, tmp_path, lite_environment())
    spec = VerifySpec(str(raw_nb("det", "x86")), tuple(map(str, paddle_goldens("det"))), threads=2)
    result = verify(spec, str(tmp_path / "work"), python=str(python))
    assert codes(result) == []
    assert result.measurements is not None
    sandbox = result.measurements.to_dict()["sandbox"]
    assert sandbox == json.loads((tmp_path / "work" / "sandbox.json").read_text())
    assert len(sandbox["missing"]) == len([part for part in without.split(",") if part])


def test_a_memory_limit_holds_for_a_confined_model(tmp_path: Path) -> None:
    spec = VerifySpec(
        str(raw_nb("cls", "x86")), tuple(map(str, paddle_goldens("cls"))), memory_limit_bytes=200 << 20, threads=1
    )
    result = verify(spec, str(tmp_path / "work"), python=str(lite_environment()))
    assert codes(result) == []
    assert result.sandbox is not None
    assert result.sandbox.guarantees["network"] == ("none" if result.sandbox.seccomp else "no TCP")


@pytest.mark.parametrize("name", ["result.json", "outputs.bin", "sandbox.json", "stage"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_files_that_a_model_replaced_are_not_followed_and_hold_nobody_up(name: str, kind: str, tmp_path: Path) -> None:
    """On a kernel that cannot confine it, a runtime replaces a file of the work folder and ends."""
    package, work = tmp_path / "runtime" / "paddlelite", tmp_path / "work"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "secret").write_text('{"error": {"kind": "import", "text": "a secret"}}')
    make = {
        "link": f"os.symlink({str(tmp_path / 'secret')!r}, path)",
        "pipe": "os.mkfifo(path)",
        "folder": "os.mkdir(path)",
    }
    (package / "lite.py").write_text(
        f"import os\npath = {str(work / name)!r}\nos.unlink(path)\n{make[kind]}\nos._exit(0)\n"
    )
    spec = VerifySpec(str(raw_nb("cls", "x86")), tuple(map(str, paddle_goldens("cls"))), str(tmp_path / "runtime"))
    python = python_without("landlock,seccomp", tmp_path, lite_environment())
    result = verify(spec, str(work), python=str(python))
    assert codes(result) == ["LF900"]
    assert "secret" not in str(result)
    if kind != "folder":  # and the next proof removes it; a folder is an unusable work folder
        assert codes(verify(spec, str(work), python=str(lite_environment()))) == ["LF315"]
        assert not os.path.islink(work / name)


def test_a_report_is_read_strictly() -> None:
    good = {"landlock": 7, "seccomp": True, "guarantees": {"writes": "nothing"}, "missing": [], "ms": 0.5}
    assert ConfinementReport.parse(good).to_dict() == good
    for change in (
        {"landlock": -1},
        {"seccomp": 1},
        {"guarantees": {"writes": 3}},
        {"missing": ["x" * 501]},
        {"ms": "1"},
    ):
        with pytest.raises(ValueError, match="must be"):
            ConfinementReport.parse({**good, **change})
    with pytest.raises(KeyError):
        ConfinementReport.parse({})
