"""Isolated environments: made once, mended when broken, safe for two at once, and a sentence where none can be had."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from litefleet_controller.build.toolchain import PADDLES, Toolchains, default_cache, host_problem, requirement_lines
from litefleet_controller.common.errors import LitefleetError
from litefleet_controller.config.choices import PUBLISHED_PYTHONS

from tests.conftest import CACHE

ABOUT = "import sys, numpy; print('%d.%d' % sys.version_info[:2], numpy.__version__.split('.')[0])"


def about(python: Path, package: str) -> list[str]:
    """Return the interpreter's version, the package's and numpy's major one, as the environment has them."""
    done = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True, check=True)
    version, numpy = done.stdout.split()
    (found,) = python.parent.parent.glob(f"lib/python*/site-packages/{package}-*.dist-info")
    return [version, found.name.removesuffix(".dist-info").split("-")[1], numpy]


@pytest.mark.toolchain
async def test_paddle_lite_comes_with_numpy_1_and_is_made_once() -> None:
    toolchains = Toolchains(CACHE / "toolchains")
    made = await toolchains.lite()
    python, version, numpy = about(made.python, "paddlelite")
    assert python in ("3.10", "3.8")
    assert (version, numpy) == ("2.13rc0", "1")
    assert made.opt.is_file()
    marker = made.python.parent.parent / ".done"
    before = marker.stat().st_mtime_ns
    assert await toolchains.lite() == made
    assert marker.stat().st_mtime_ns == before


@pytest.mark.toolchain
async def test_the_reference_engine_has_an_environment_of_its_own() -> None:
    made = await Toolchains(CACHE / "toolchains").paddle()
    assert about(made.python, "paddlepaddle")[1:] == ["2.6.2", "1"]


async def test_a_machine_with_a_newer_cpython_only_gets_a_newer_paddlepaddle(tmp_path: Path) -> None:
    def pretend(version: str) -> None:
        program = tmp_path / "bin" / f"python{version}"
        program.write_text(f"#!/bin/sh\necho CPython {version} 64 x86_64\n")
        program.chmod(0o755)

    (tmp_path / "bin").mkdir()
    environ = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), "UV_PYTHON_DOWNLOADS": "never"}
    toolchains = Toolchains(tmp_path / "cache", environ=environ, own=None)
    assert await toolchains.paddle_version() == "2.6.2"  # whose CPython is named then, or fetched
    pretend("3.13")
    assert (await toolchains.paddle_version(), (await toolchains.paddle_status()).name) == ("3.3.1", "paddle-3.3.1")
    pretend("3.10")
    assert (await toolchains.paddle_status()).name == "paddle-2.6.2"


@pytest.mark.toolchain
async def test_a_half_made_environment_is_made_again(tmp_path: Path) -> None:
    python = tmp_path / "lite-2.12" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("left behind by a power cut")
    toolchains = Toolchains(tmp_path)
    made = await toolchains.lite("2.12")
    assert about(made.python, "paddlelite") == ["3.7", "2.12", "1"]
    made.python.unlink()  # as when the interpreter that it was made from is removed
    made.python.symlink_to("/nowhere/python")
    assert about((await toolchains.lite("2.12")).python, "paddlelite")[1] == "2.12"


@pytest.mark.toolchain
def test_two_processes_at_once_make_one_environment(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys; from litefleet_controller.build.toolchain import Toolchains;"
        "made = asyncio.run(Toolchains(pathlib.Path(sys.argv[1])).lite('2.12'));"
        "print(made.python, (made.python.parent.parent / '.done').stat().st_mtime_ns)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    both = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, env=env, text=True)
        for _ in range(2)
    ]
    output = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert output[0] == output[1]
    assert about(Path(output[0].split()[0]), "paddlelite")[1] == "2.12"


@pytest.mark.toolchain
async def test_two_tasks_at_once_make_one_environment() -> None:
    toolchains = Toolchains(CACHE / "toolchains")
    one, two = await asyncio.gather(toolchains.lite("2.12"), toolchains.lite("2.12"))
    assert one == two


async def test_an_unknown_version_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LitefleetError, match=r"no Paddle-Lite 9\.9 .* known are 2\.13rc0, 2\.12, 2\.10\."):
        await Toolchains(tmp_path).lite("9.9")


@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")])
async def test_other_machines_get_a_sentence(tmp_path: Path, system: str, machine: str) -> None:
    with pytest.raises(LitefleetError, match=f"This machine is {system} {machine}; .* Run litefleet on an x86_64"):
        await Toolchains(tmp_path, system=system, machine=machine).lite()
    assert host_problem("linux", "x86_64") == ""


async def test_where_no_interpreter_can_be_had_it_says_what_to_install(tmp_path: Path) -> None:
    lying = tmp_path / "bin" / "python3.7"  # a shim whose interpreter is not active
    lying.parent.mkdir()
    lying.write_text("#!/bin/sh\necho 'pyenv: python3.7: command not found' >&2\nexit 127\n")
    lying.chmod(0o755)
    environ = {
        "PATH": str(lying.parent),
        "HOME": str(tmp_path),
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "pythons"),
    }
    with pytest.raises(LitefleetError) as caught:
        await Toolchains(tmp_path / "cache", environ=environ, own=None).lite("2.12")
    assert "needs CPython 3.7, which is not on PATH" in str(caught.value)
    assert "Install python3.7" in str(caught.value)


async def test_a_failed_installation_is_a_sentence_and_leaves_no_marker(tmp_path: Path) -> None:
    environ = {**os.environ, "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "uv")}
    environ = {k: v for k, v in environ.items() if "FIND_LINKS" not in k}
    with pytest.raises(LitefleetError, match=r"paddlelite==2\.12, numpy<2 could not be made: .* Check the network"):
        await Toolchains(tmp_path / "cache", environ=environ).lite("2.12")
    assert not (tmp_path / "cache" / "lite-2.12" / ".done").exists()


async def test_an_unwritable_cache_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LitefleetError, match=r"cannot be written: Not a directory\. Set LITEFLEET_CACHE"):
        await Toolchains(tmp_path / "file" / "cache").lite()


def test_the_cache_is_the_users() -> None:
    assert default_cache({"LITEFLEET_CACHE": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")
    assert default_cache({"XDG_CACHE_HOME": "/x"}) == Path("/x/litefleet")
    assert default_cache({}) == Path.home() / ".cache" / "litefleet"


@pytest.mark.toolchain
async def test_a_uv_toml_in_the_folder_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.toml").write_text('index-url = "http://127.0.0.1:9/simple"\n')
    monkeypatch.chdir(tmp_path)
    made = await Toolchains(tmp_path / "cache").lite("2.12")
    assert about(made.python, "paddlelite")[1] == "2.12"
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.toolchain
async def test_another_wheel_of_a_known_version_is_rejected(tmp_path: Path) -> None:
    """The index, or a folder of the operator's, gives a paddlelite 2.12 that is not the published one."""
    name = "paddlelite-2.12-cp37-cp37m-manylinux1_x86_64.whl"
    with zipfile.ZipFile(tmp_path / name, "w") as wheel:
        wheel.writestr("paddlelite/__init__.py", "raise SystemExit('run')")
        wheel.writestr("paddlelite-2.12.dist-info/METADATA", "Metadata-Version: 2.1\nName: paddlelite\nVersion: 2.12\n")
        wheel.writestr("paddlelite-2.12.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp37-cp37m-manylinux1_x86_64\n")
        wheel.writestr("paddlelite-2.12.dist-info/RECORD", "")
    environ = {**os.environ, "UV_FIND_LINKS": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv")}
    toolchains = Toolchains(tmp_path / "cache", environ=environ)
    try:
        made = await toolchains.lite("2.12")
    except LitefleetError as error:
        assert "hash" in str(error).lower()  # noqa: PT017
        assert not (tmp_path / "cache" / "lite-2.12" / ".done").exists()
    else:  # uv preferred the published one
        (package,) = made.python.parent.parent.glob("lib/python*/site-packages/paddlelite")
        assert b"run" not in (package / "__init__.py").read_bytes()


def test_every_package_of_the_toolchains_is_pinned() -> None:
    for version in PUBLISHED_PYTHONS:
        text = requirement_lines([f"paddlelite=={version}", "numpy<2"])
        assert f"paddlelite=={version} \\\n    --hash=sha256:" in text
        assert "numpy==1.26.4 ; python_full_version >= '3.9' \\\n    --hash=sha256:" in text
        assert "numpy<2" not in text
    for paddle in PADDLES:
        assert "--hash=sha256:" in requirement_lines(paddle.packages[:1])
    assert requirement_lines(["paddlelite==9.9", "setuptools<81"]) == "paddlelite==9.9\nsetuptools<81\n"


async def test_a_cache_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o775)
    with pytest.raises(
        LitefleetError, match=r"its mode is 0775, so other users can write in it.*Remove it and run again"
    ):
        await Toolchains(cache).lite("2.12")
    assert not list(cache.iterdir())
    if os.geteuid() == 0:
        cache.chmod(0o755)
        os.chown(cache, 12345, 12345)
        with pytest.raises(LitefleetError, match="it belongs to the user 12345"):
            await Toolchains(cache).lite("2.12")
