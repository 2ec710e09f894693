"""The command line as a real process: exit codes, sentences instead of tracebacks, clean stdout, Ctrl-C."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from litefleet_controller.cli.main import main

ROOT = Path(__file__).parents[3]
COMMANDS = ("bench", "inspect", "probe", "rollout", "verify", "convert", "infer", "report", "explain", "demo")
CONFIG = """\
inventory: fleet.yaml
models:
  m: {source: model, inputs: {x: [1, 3, 8, 8]}}
ssh: {connect_time_limit_s: 60, known_hosts: known_hosts}
"""


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("agent", "inventory", "controller"))
    plain = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
    return {**plain, "PYTHONPATH": paths, "COLUMNS": "120", "TERM": "dumb", **more}


def litefleet(*args: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "litefleet_controller", *map(str, args)]
    return subprocess.run(
        argv, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "litefleet.yaml").write_text(CONFIG)
    (tmp_path / "fleet.yaml").write_text("devices: {dev: {host: 127.0.0.1, port: 1, user: nobody}}\n")
    return tmp_path


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, tmp_path: Path) -> None:
    done = litefleet(command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: litefleet {command}" in done.stdout


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    done = litefleet(cwd=tmp_path)
    shown = done.stdout + done.stderr
    assert done.returncode == 2
    assert "Traceback" not in shown
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["rollout", "--bogus"], "No such option: --bogus"),
        (["inspect"], "litefleet inspect --help"),
        (["inspect", "none.nb"], "none.nb cannot be read: No such file or directory"),
        (["inspect", "fleet.yaml", "--for", "z80"], "no CPU backend for the architecture 'z80'"),
        (["probe", "-c", "none.yaml"], "none.yaml is missing"),
        (["probe", "-i", "none.yaml"], "none.yaml: the file is missing"),
        (["probe", "--limit", "nosuch"], "--limit: no device or group is named 'nosuch'"),
        (["probe", "--limit", "!dev"], "leaves no device"),
        (["rollout", "-m", "nosuch"], "no model 'nosuch' in litefleet.yaml. Available: m."),
        (["convert", "--for", "z80"], "--for z80: Paddle-Lite has no CPU backend for it"),
        (["report", "fleet.yaml"], "fleet.yaml is not a litefleet report"),
        (["explain", "LF999"], "LF999 is no finding"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(args: list[str], message: str, project: Path) -> None:
    done = litefleet(*args, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("litefleet: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("litefleet.yaml", "inventory: [", "litefleet.yaml:1: not valid YAML"),
        ("litefleet.yaml", CONFIG + "modles: {}\n", "litefleet.yaml:5: unknown key 'modles'; did you mean 'models'?"),
        ("fleet.yaml", "devices: {dev: {hots: x}}\n", "did you mean 'host'?"),
        ("fleet.yaml", "devices: {}\n", "no device is selected: the inventory is empty"),
    ],
)
def test_wrong_files_are_named_with_their_line(name: str, text: str, message: str, project: Path) -> None:
    (project / name).write_text(text)
    done = litefleet("rollout", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, "LF201"),
        ({"inference.pdmodel": b"", "inference.pdiparams": b"x"}, "LF201"),
        ({"inference.json": b'{"base_code": {"magic": "pir", "version": 1}}', "inference.pdiparams": b"x"}, "LF202"),
    ],
)
def test_a_source_that_is_no_model_is_a_finding_and_exit_code_1(
    files: dict[str, bytes], code: str, project: Path
) -> None:
    (project / "model").mkdir()
    for name, data in files.items():
        (project / "model" / name).write_bytes(data)
    done = litefleet("convert", "--for", "x86_64", cwd=project)
    assert done.returncode == 1
    assert code in done.stdout
    assert "Do: " in done.stdout


def test_json_is_one_document_and_nothing_else(project: Path) -> None:
    done = litefleet("probe", "--json", "--html", "page.html", cwd=project)
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (1, 1)
    assert [d["verdict"] for d in document["devices"]] == ["unreachable"]
    assert "<html" in (project / "page.html").read_text(encoding="utf-8")
    (project / "kept.json").write_text(done.stdout)
    again = litefleet("report", "kept.json", cwd=project)
    assert again.returncode == 0
    assert "unreachable" in again.stdout


def test_no_color_wins(project: Path) -> None:
    plain = litefleet("probe", cwd=project, FORCE_COLOR="1", NO_COLOR="1")
    assert "unreachable" in plain.stdout
    assert "\x1b" not in plain.stdout


@pytest.mark.parametrize("args", [["explain", "all"], ["probe"]])
def test_a_reader_that_goes_away_is_no_traceback(args: list[str], project: Path) -> None:
    argv = [sys.executable, "-m", "litefleet_controller", *args]
    read, write = os.pipe()
    os.close(read)  # closed before the first output
    try:
        done = subprocess.run(
            argv,
            cwd=project,
            env=environment(),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_page_that_cannot_be_written_costs_no_result(project: Path) -> None:
    done = litefleet("probe", "--json", "--html", "none/page.html", cwd=project)
    assert done.returncode == 2
    assert "none/page.html cannot be written: No such file or directory" in done.stderr
    assert json.loads(done.stdout)["devices"][0]["verdict"] == "unreachable"


def test_ctrl_c_records_an_outcome_for_each_device(
    project: Path, silent: socket.socket, models: dict[str, Path]
) -> None:
    config = CONFIG.replace("source: model", f"source: {models['cls']}").replace("[1, 3, 8, 8]", "[1, 3, 48, 192]")
    (project / "litefleet.yaml").write_text(config)
    port = silent.getsockname()[1]
    hosts = {"dev-1": "127.0.0.1", "dev-2": "localhost"}  # the same address twice would be refused
    devices = "".join(f"  {name}: {{host: {host}, port: {port}, user: nobody}}\n" for name, host in hosts.items())
    (project / "fleet.yaml").write_text(f"devices:\n{devices}")
    argv = [sys.executable, "-m", "litefleet_controller", "rollout", "--json"]
    process = subprocess.Popen(
        argv, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        held = [silent.accept()[0] for _ in range(2)]  # a session with each device is being opened
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    for peer in held:
        peer.close()
    assert process.returncode == 4, err
    assert time.monotonic() - begun < 10
    document = json.loads(out)
    assert {d["device"]: d["verdict"] for d in document["devices"]} == {"dev-1": "failed", "dev-2": "failed"}
    assert all(d["findings"][0]["code"] == "LF509" for d in document["devices"])
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--targets", "arm,x86"], 1, "LF102 The targets 'arm,x86' ask for the kernels of two CPUs in one file."),
        (["--targets", "x86 arm"], 1, "LF102"),
        (["--targets", "armm"], 2, "did you mean 'arm'?"),
        (["--for", "x86_64", "--targets", "arm"], 2, "(LF101)"),
        (["--fp16", "--quant", "int8"], 2, "(LF112)"),
        (["--quant", "int9"], 2, "'none', 'int8' or 'int16'"),
        (["--for", "riscv64"], 2, "no CPU backend"),
    ],
)
def test_a_conversion_that_cannot_be_right_is_refused_before_it_begins(
    args: list[str], code: int, message: str, project: Path
) -> None:
    done = litefleet("convert", *args, cwd=project)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / ".litefleet").exists()


def test_the_version_is_the_packages_and_the_apis(tmp_path: Path) -> None:
    import litefleet as api
    from litefleet_controller import __version__

    done = litefleet("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"litefleet {__version__}\n", "")
    assert api.__version__ == __version__
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "controller/litefleet_controller/__init__.py"


def test_python_m_litefleet_is_the_command_line(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "litefleet", "--version"]
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout[:10]) == (0, "litefleet ")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["rollout", "--json", "--bogus"], 2),
        (["nonsense", "--json"], 2),
        (["probe", "--json", "-c", "none.yaml"], 2),
        (["plan", "--json", "--limit", "nosuch"], 2),
        (["status", "--json"], 2),
        (["retry", "--json"], 2),
        (["explain", "--json", "LF999"], 2),
        (["convert", "--json", "--targets", "arm,x86"], 1),
        (["inspect", "--json", "--sarif", "-", "x.nb"], 2),
        (["bundle", "--json", "--out", "no/where.lfb"], 2),
        (["audit", "--json", "-c", "."], 2),
    ],
)
def test_an_error_with_json_is_one_document_too(args: list[str], code: int, project: Path) -> None:
    done = litefleet(*args, cwd=project)
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema"], document["exit_code"]) == (code, 1, code)
    assert document["error"]["message"]
    assert f"litefleet: {document['error']['message']}\n" == done.stderr


def test_the_problems_and_findings_of_an_error_are_in_its_document(project: Path) -> None:
    (project / "litefleet.yaml").write_text(CONFIG + "modles: {}\nstroe: x\n")
    error = json.loads(litefleet("plan", "--json", cwd=project).stdout)["error"]
    assert [problem.split(":")[1] for problem in error["problems"]] == ["5", "6"]
    (project / "litefleet.yaml").write_text(CONFIG)
    error = json.loads(litefleet("convert", "--json", "--targets", "arm,x86", cwd=project).stdout)["error"]
    assert [found["code"] for found in error["findings"]] == ["LF102"]


def test_without_json_an_error_leaves_stdout_empty(project: Path) -> None:
    assert litefleet("report", "--", "--json", cwd=project).stdout == ""  # a file of that name


def test_an_internal_error_with_json_is_one_document_before_the_traceback(project: Path) -> None:
    code = (
        "import sys; from litefleet_controller.cli import main; from litefleet_controller.cli import common\n"
        "@common.command\n"
        "def broken(as_json: common.JsonOption = False) -> None: {}['key']\n"
        "main(['broken', '--json'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["message"] == "internal error: KeyError: 'key'"
    assert "Traceback" in done.stderr


COLLECTED = """
import gc, weakref
from litefleet_controller.cli import main
from litefleet_controller.cli.main import collect_rarely

class Node:
    pass

def cyclic():
    node = Node()
    node.itself = node
    return weakref.ref(node)

before = gc.get_freeze_count()
collect_rarely()
first, passes = cyclic(), gc.get_stats()[0]["collections"]
kept = [[] for _ in range(40_000)]  # rows of a fleet: the default would have looked at them fifty times
rarely = gc.get_stats()[0]["collections"] - passes
kept += [[] for _ in range(20_000)]
print(before, gc.get_freeze_count() > 10_000, rarely, first() is None, gc.isenabled())
"""


def test_a_program_of_its_own_looks_for_garbage_rarely_and_finds_it() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "0", "True", "True"]


def test_a_part_of_another_program_leaves_its_collector_as_it_is() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(SystemExit):
        main(["--version"])
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
