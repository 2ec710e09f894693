"""The agent's bytecode that the controller compiles: the same as a device's own, made once, and never needed."""

from __future__ import annotations

import asyncio
import marshal
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from litefleet_agent.bytecode import BytecodeFinder, read_bytecode
from litefleet_controller.devices import bootstrap
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.code_packs import CodePacks

from tests.conftest import find_python, lacking
from tests.controller.devices.test_bootstrap import HELLO, Machine, hello

ARCHIVE = agent_archive()
SHOW = "import sys, importlib.util as u; print(sys.implementation.cache_tag, u.MAGIC_NUMBER.hex())"


def python_of(version: str) -> str:
    found = find_python(version)
    if found == version:
        lacking(f"no Python {version} in pyenv's folder")
    return found


def asked(python: str) -> str:
    """Return what a device with this Python says behind "need"."""
    return subprocess.run([python, "-c", SHOW], capture_output=True, text=True, check=True).stdout.strip()


OWN = asked(sys.executable)


def packs(folder: Path, *pythons: str) -> CodePacks:
    def interpreters(version: str) -> Sequence[Path]:
        return [Path(python) for python in pythons]

    return CodePacks(ARCHIVE.data, ARCHIVE.sha256, folder, interpreters)


def made(folder: Path, words: str, *pythons: str) -> bytes:
    """Ask for a pack until it is there, or cannot be had."""

    async def go() -> bytes:
        some = packs(folder, *pythons)
        assert some.of(words) == b"", "no device waits for one that is being made"
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
        return some.of(words)

    return asyncio.run(go())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs for Python 3.7 and this one."""
    folder = tmp_path_factory.mktemp("packs") / "agent"
    old = python_of("3.7")
    assert made(folder, OWN)
    assert made(folder, asked(old), "/nowhere/python", sys.executable, old)
    return folder


def first_session(machine: Machine, pack: bytes, keep: bool = True, fast_s: float = 60.0) -> bytes:
    """Start the agent as the controller does, and return what the device said."""
    loader = bootstrap.loader("n0nce", ARCHIVE.sha256, len(ARCHIVE.data), len(HELLO), "~/root", keep)
    argv = machine.command(["/bin/sh"], bootstrap.command("n0nce", len(loader)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": machine.environment}
    with subprocess.Popen(argv, **pipes) as process:
        process.stdin.write(loader + HELLO)
        process.stdin.flush()
        said = process.stdout.readline() + process.stdout.readline()
        assert b" need " in said
        process.stdin.write(bootstrap.keeper(len(pack), fast_s) + ARCHIVE.data)
        process.stdin.flush()
        answer = process.stdout.readline()
        if answer.endswith(b" code\n"):
            process.stdin.write(pack)
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait() == 0
    return answer + rest


def device(folder: Path, python: str) -> tuple[Machine, Path]:
    """Return a device with this Python, and where it keeps the agent's bytecode."""
    machine = Machine(folder)
    machine.program("python3", f'#!/bin/sh\nexec {python} "$@"\n')
    return machine, machine.root / "agent" / f"{ARCHIVE.sha256}.{asked(python).split()[0]}.bytecode"


@pytest.mark.parametrize("version", ["3.7", ""])
def test_a_device_that_gets_a_pack_compiles_nothing(version: str, folder: Path, tmp_path: Path) -> None:
    python = python_of(version) if version else sys.executable
    pack = packs(folder).of(asked(python))
    machine, kept = device(tmp_path, python)
    said = first_session(machine, pack)
    assert said.startswith(b"LFBOOT n0nce code\nLFBOOT n0nce ready\n"), said
    assert hello(said[said.index(b"LFF1") :])["agent"] == ARCHIVE.sha256
    assert kept.read_bytes() == zlib.decompress(pack), "a module that is compiled is added"
    assert kept.stat().st_mode & 0o777 == 0o600
    names = sorted(path.name for path in kept.parent.iterdir())
    assert names == sorted(
        [f"{ARCHIVE.sha256}.pyz", "litefleet-agent.pyz", kept.name, kept.name.replace(".byte", ".start.byte")]
    )


def test_it_is_what_the_device_would_compile(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / f"{ARCHIVE.sha256}.{sys.implementation.cache_tag}.bytecode"
    kept.write_bytes(zlib.decompress(packs(folder).of(OWN)))
    archive = tmp_path / f"{ARCHIVE.sha256}.pyz"
    archive.write_bytes(ARCHIVE.data)
    read, compiling = (BytecodeFinder(str(archive), str(archive)) for _ in range(2))
    modules = read_bytecode(str(kept), ARCHIVE.sha256)
    assert len(modules) > 90
    assert str(folder).encode() not in kept.read_bytes(), "no path of the controller's machine is sent"
    for name in modules:
        package, code = read.code_of(name)
        expected = compiling.compile(name)
        assert (package, marshal.dumps(code, 2)) == (expected[0], marshal.dumps(expected[1], 2)), name
        assert code.co_filename.startswith(f"{archive}/litefleet_agent/")
    assert read.compiled == {}


@pytest.mark.parametrize("damage", ["flipped", "no zlib", "of another archive", "too large"])
def test_a_pack_that_does_not_fit_is_not_used(damage: str, folder: Path, tmp_path: Path) -> None:
    whole = zlib.decompress(packs(folder).of(OWN))
    pack = {
        "flipped": zlib.compress(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]),
        "no zlib": b"x" * 1000,
        "of another archive": zlib.compress(bytes(32) + whole[32:]),
        "too large": zlib.compress(bytes(40 << 20)),
    }[damage]
    machine, kept = device(tmp_path, sys.executable)
    said = first_session(machine, pack)
    assert b"LFBOOT n0nce ready\n" in said
    modules = read_bytecode(str(kept), ARCHIVE.sha256)
    assert "litefleet_agent.session.server" in modules, "the device has compiled what it needed"
    assert "litefleet_agent.verification.runner" not in modules


def test_a_pack_of_another_python_is_not_used(folder: Path, tmp_path: Path) -> None:
    machine, kept = device(tmp_path, sys.executable)
    said = first_session(machine, packs(folder).of(asked(python_of("3.7"))))
    assert b"LFBOOT n0nce ready\n" in said
    assert "litefleet_agent.verification.runner" not in read_bytecode(str(kept), ARCHIVE.sha256)


@pytest.mark.parametrize("why", ["nothing is to stay", "the line is slow", "none is offered"])
def test_it_is_not_asked_for(why: str, folder: Path, tmp_path: Path) -> None:
    machine, kept = device(tmp_path, sys.executable)
    fast_s = 0.0 if why == "the line is slow" else 60.0
    pack = b"" if why == "none is offered" else packs(folder).of(OWN)
    said = first_session(machine, pack, why != "nothing is to stay", fast_s)
    assert said.startswith(b"LFBOOT n0nce ready\n"), said
    assert kept.exists() is (why != "nothing is to stay")


def test_a_device_that_cannot_store_the_agent_reads_the_pack_and_says_why(folder: Path, tmp_path: Path) -> None:
    machine, _ = device(tmp_path, sys.executable)
    machine.program("python3", f'#!/bin/sh\nulimit -f 0\nexec {sys.executable} "$@"\n')
    said = first_session(machine, packs(folder).of(OWN))
    assert said.startswith(b"LFBOOT n0nce code\nLFBOOT n0nce limit the agent could not be stored under "), said


def test_it_is_made_once_unless_it_was_damaged(folder: Path) -> None:
    (file,) = folder.glob(f"code-*{OWN.replace(' ', '-')}.z")
    whole, made_at = file.read_bytes(), file.stat().st_mtime_ns
    assert packs(folder).of(OWN) == whole[32:]
    for damaged in (whole[:-1], b"", whole[:40] + b"?" + whole[41:]):
        file.write_bytes(damaged)
        assert made(folder, OWN) == whole[32:]
    assert file.stat().st_mtime_ns > made_at
    assert [path.name for path in folder.iterdir() if not path.name.startswith("code-")] == []


@pytest.mark.parametrize("words", ["cpython-311 00000000", "cpython-390 a70d0d0a"])
def test_this_machine_may_have_no_such_python(words: str, tmp_path: Path) -> None:
    assert made(tmp_path / "agent", words, "/nowhere/python", sys.executable) == b""


def test_a_folder_that_cannot_be_used_means_no_packs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert made(tmp_path / "file" / "agent", OWN) == b""
