"""The converter and the reference engines run confined by their own interpreters, and give the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent import ARCHIVE_ROOT
from litefleet_agent.sandbox import Policy
from litefleet_agent.sandbox.launch import REPORT, command, read_report

from tests.agent.sandbox.site import AGENT
from tests.conftest import lite_environment, paddle_environment, paddle_goldens, raw_nb, source_models

SCRIPT = """
import json, os, subprocess, sys
told = {"argv": sys.argv, "name": __name__, "file": __file__, "path": sys.path}
told["ldd"] = subprocess.run(["ldd", "--version"], stdout=subprocess.PIPE, universal_newlines=True).returncode
told["popen"] = os.popen("cat /proc/cpuinfo").read()
for name, path in (("inside", os.environ["WORK"] + "/x"), ("outside", os.environ["WORK"] + "/../x")):
    try:
        open(path, "w").close()
        told[name] = True
    except OSError:
        told[name] = False
print(json.dumps(told))
sys.exit(7)
"""


def launched(
    python: str, policy: Policy, script: Path, arguments: list[str], **more: Any
) -> subprocess.CompletedProcess[str]:
    argv = command(python, policy, str(script), arguments)
    return subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False, **more)


def test_a_script_runs_as_it_would_and_may_not_reach_out(tmp_path: Path) -> None:
    script, work = tmp_path / "script.py", tmp_path / "work"
    script.write_text(SCRIPT)
    work.mkdir()
    ended = launched(sys.executable, Policy(work=str(work)), script, ["a", "b c"], env=dict(os.environ, WORK=str(work)))
    assert (ended.returncode, ended.stderr) == (7, "")
    told = json.loads(ended.stdout)
    assert (told["argv"], told["name"], told["file"]) == ([str(script), "a", "b c"], "__main__", str(script))
    plain = json.loads(
        subprocess.run(
            [sys.executable, "-I", str(script)], capture_output=True, check=False, env={"WORK": str(work)}
        ).stdout
    )
    assert told["path"] == plain["path"]  # nothing of ours is in the way of the script's own imports
    assert (plain["outside"], plain["ldd"]) == (True, 0)
    report = read_report(str(work))
    assert report is not None
    assert told["inside"]
    if report["landlock"]:
        assert not told["outside"]
    if report["landlock"] or report["seccomp"]:  # a program that cannot start looks like one that failed
        assert (told["ldd"], told["popen"]) == (126, "")


def test_an_old_kernel_runs_it_too(tmp_path: Path) -> None:
    script, work = tmp_path / "script.py", tmp_path / "work"
    script.write_text(SCRIPT)
    work.mkdir()
    argv = command(sys.executable, Policy(work=str(work)), str(script))
    older = [sys.executable, str(Path(__file__).parent / "older_kernel.py"), "landlock,seccomp"]
    env = dict(os.environ, WORK=str(work))
    ended = subprocess.run([*older, *argv], capture_output=True, text=True, env=env, timeout=60, check=False)
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["outside"], told["ldd"]) == (7, True, 0)
    report = read_report(str(work))
    assert report is not None
    assert len(report["missing"]) == 2


def test_a_report_that_is_no_report_holds_nobody_up(tmp_path: Path) -> None:
    assert read_report(str(tmp_path)) is None
    path = tmp_path / REPORT
    begun = time.monotonic()
    os.mkfifo(path)
    assert read_report(str(tmp_path)) is None
    path.unlink()
    (tmp_path / "elsewhere").write_text("{}")
    path.symlink_to(tmp_path / "elsewhere")
    assert read_report(str(tmp_path)) is None
    path.unlink()
    for text in ("", "[1]", "{", "\xff", "{" + " " * (1 << 20) + "}"):
        path.write_text(text, encoding="latin-1")
        assert read_report(str(tmp_path)) is None
    path.write_text('{"landlock": 7}')
    assert read_report(str(tmp_path)) == {"landlock": 7}
    assert time.monotonic() - begun < 5


@pytest.mark.toolchain
def test_the_converter_converts_the_same(tmp_path: Path) -> None:
    source, python = source_models()["cls"], lite_environment()
    files = {}
    for name in ("free", "confined"):
        work = tmp_path / name
        work.mkdir()
        arguments = [
            f"--model_file={source / 'inference.pdmodel'}",
            f"--param_file={source / 'inference.pdiparams'}",
            "--valid_targets=arm",
            "--optimize_out_type=naive_buffer",
            f"--optimize_out={work / 'out'}",
        ]
        opt = python.parent / "paddle_lite_opt"
        env = {"PATH": os.defpath, "HOME": str(work), "TMPDIR": str(work), "LC_ALL": "C.UTF-8"}
        if name == "free":
            subprocess.run(
                [python, "-I", opt, *arguments], check=True, capture_output=True, env=env, cwd=work, timeout=100
            )
        else:
            policy = Policy(work=str(work), reads=(str(source),), data_bytes=2 << 30)
            ended = launched(str(python), policy, opt, arguments, env=env, cwd=work)
            assert ended.returncode == 0, ended.stderr[-2000:]
        files[name] = (work / "out.nb").read_bytes()
    # Its files differ in what it leaves uninitialised: see the agent's `normalise`.  Length and kernels do not.
    assert len(files["free"]) == len(files["confined"])
    differing = sum(a != b for a, b in zip(files["free"], files["confined"]))  # noqa: B905 - 3.7
    assert differing < 64


def engine(script: str) -> Path:
    """Return the reference engine's script of the controller, wherever its folder lies."""
    return next((Path(__file__).parents[3] / "controller").rglob(script))


UNCONFINED = """\
import runpy, sys
sys.path.insert(0, sys.argv[1])
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.toolchain
@pytest.mark.parametrize("which", ["lite", "paddle"])
def test_the_reference_engines_answer_the_same(which: str, tmp_path: Path) -> None:
    source, goldens = source_models()["cls"], paddle_goldens("cls")
    if which == "lite":
        python, request = lite_environment(), {"nb": str(raw_nb("cls", "x86"))}
    else:
        python = paddle_environment()
        request = {"program": str(source / "inference.pdmodel"), "params": str(source / "inference.pdiparams")}
    answers: dict[str, list[bytes]] = {}
    for name in ("free", "confined"):
        work = tmp_path / name
        work.mkdir()
        cases = [
            {"inputs": str(path), "outputs": str(work / f"out{number}.npz")} for number, path in enumerate(goldens)
        ]
        (work / "request.json").write_text(json.dumps({**request, "cases": cases}))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2", "FLAGS_use_mkldnn": "0"}
        script, arguments = engine(f"{which}_reference.py"), [str(work / "request.json")]
        if name == "free":
            argv = [python, "-I", "-c", UNCONFINED, AGENT, script, *arguments]
            subprocess.run(argv, check=True, capture_output=True, env=env, timeout=170)
        else:
            reads = (*request.values(), *map(str, goldens), ARCHIVE_ROOT)  # the agent's engines
            policy = Policy(work=str(work), reads=reads, data_bytes=4 << 30)
            ended = launched(str(python), policy, script, arguments, env=env)
            assert ended.returncode == 0, ended.stderr[-2000:]
            assert "AVX" not in ended.stderr
        answers[name] = [contents(work / f"out{number}.npz") for number in range(len(goldens))]
    assert answers["free"] == answers["confined"]
    assert answers["free"][0] != answers["free"][1]


def contents(path: Path) -> bytes:
    """Return an .npz file's arrays without the dates of the archive."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in sorted(archive.namelist()))
