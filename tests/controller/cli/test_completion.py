"""Shell completion: names from local files, in bash itself and by the protocol of zsh and fish; never a contact or an error."""

from __future__ import annotations

import os
import pty
import select
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from litefleet_controller.state import State

from tests.conftest import lacking

FLEET = """\
groups:
  hall: {{devices: {{"cam-[01:03]": {{host: 127.0.0.1, port: "{port}", user: "u{{n}}", tags: [outdoor]}}}}}}
devices: {{lab: {{host: 127.0.0.1, port: {port}}}}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "litefleet.yaml").write_text(
        "inventory: devices.yaml\nfleet: north\nmodels: {cls: {source: a}, det: {source: b}}\n"
    )
    (tmp_path / "devices.yaml").write_text(FLEET.format(port=1))
    return tmp_path


@pytest.fixture
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell whose PATH has `litefleet`."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "litefleet"
    path = os.pathsep.join(p for p in sys.path if p)
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec {sys.executable} -m litefleet "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def ask(program: dict[str, str], cwd: Path, shell: str, line: str) -> list[str]:
    """Return the candidates for the last word of a command line, as the installed script of a shell asks for them."""
    words = line.split(" ")
    env = {**program, "_LITEFLEET_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    env |= {
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(["litefleet"], env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("litefleet probe --limit c", ["cam-01", "cam-02", "cam-03"]),
        ("litefleet probe --limit hall,!cam-0", ["hall,!cam-01", "hall,!cam-02", "hall,!cam-03"]),
        ("litefleet plan --limit t", ["tag:outdoor"]),
        ("litefleet rollout --limit h", ["hall"]),
        ("litefleet verify -m d", ["det"]),
        ("litefleet infer a.npz --model c", ["cls"]),
        ("litefleet probe -i none.yaml --limit c", []),
        ("litefleet probe -c none.yaml --limit c", []),
        ("litefleet rollb", ["rollback"]),
    ],
)
def test_names_of_the_project(line: str, candidates: list[str], project: Path, program: dict[str, str]) -> None:
    assert ask(program, project, "bash", line) == candidates


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish(shell: str, project: Path, program: dict[str, str]) -> None:
    shown = "\n".join(ask(program, project, shell, "litefleet probe --limit cam"))
    assert all(name in shown for name in ("cam-01", "cam-02", "cam-03"))


def test_rollouts_of_the_state_and_nothing_is_made(project: Path, program: dict[str, str]) -> None:
    assert ask(program, project, "bash", "litefleet status r") == []
    assert not (project / ".litefleet").exists()
    (project / ".litefleet").mkdir()
    path = project / ".litefleet" / "state.db"
    State.open(str(path)).close()
    columns = "id, ordinal, fleet, kind, state, policy, waves, created_at, asked_by, models, wave, soak_until, looked, approved"
    columns += ", reason, behind, number, parent, selection, origin, request, updated_at"
    with sqlite3.connect(path) as connection:
        for n, fleet in ((1, "north"), (2, "north"), (3, "south")):
            values = [f"r-20261128-000{n}", n, fleet, "rollout", "done", "{}", "[]", 0, "", "[]", 0, 0, 0, 0]
            values += ["", "{}", n, "", "", "{}", "", 0]
            marks = ",".join("?" * len(values))
            connection.execute(f"INSERT INTO rollouts ({columns}) VALUES ({marks})", values)
        for version, at in (("2.1", 1), ("2026-11-28-3fa9c1", 2)):
            connection.execute(
                "INSERT INTO releases (id, model, kind, manifest, artifact, blobs, runtime_key, runtime_size, recipe, special,"
                " kept_at, version) VALUES (?, 'cls', 'x', '{}', 'ff', '{}', 'system', 0, 'r', false, ?, ?)",
                (str(at), at, version),
            )
    connection.close()
    before = sorted(os.listdir(path.parent))
    assert ask(program, project, "bash", "litefleet status r") == ["r-20261128-0002", "r-20261128-0001"]
    assert ask(program, project, "bash", "litefleet rollback --to 2") == ["2026-11-28-3fa9c1", "2.1"]
    assert ask(program, project, "bash", "litefleet rollback --to p") == ["previous"]
    assert sorted(os.listdir(path.parent)) == before


@pytest.mark.parametrize(
    "text", ["", "models: [", "\0", "- a", "models: {m: }\ninventory: [a]\nstate: postgresql://h/d\n"]
)
def test_broken_files_give_no_candidates_and_no_error(text: str, project: Path, program: dict[str, str]) -> None:
    (project / "litefleet.yaml").write_text(text)
    (project / "fleet.yaml").write_bytes(b"\xff")
    assert ask(program, project, "bash", "litefleet status r") == []
    assert ask(program, project, "bash", "litefleet probe --limit c") == []


def test_bash_itself_completes_with_the_shown_script(project: Path, program: dict[str, str]) -> None:
    if shutil.which("bash") is None:
        lacking("no bash on this machine")
    script = """
    eval "$(litefleet --show-completion bash)"
    COMP_WORDS=(litefleet probe --limit cam); COMP_CWORD=3
    _litefleet_completion litefleet cam --limit
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script], env=program, cwd=project, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["cam-01", "cam-02", "cam-03"], done.stderr


def test_fish_itself_completes_with_the_shown_script(project: Path, program: dict[str, str]) -> None:
    if shutil.which("fish") is None:
        lacking("no fish on this machine")
    script = "litefleet --show-completion fish | source; complete -C 'litefleet probe --limit cam'"
    env = {**program, "HOME": str(project)}
    done = subprocess.run(
        ["fish", "-c", script], env=env, cwd=project, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["cam-01", "cam-02", "cam-03"], done.stderr


def test_zsh_itself_completes_with_the_shown_script(project: Path, program: dict[str, str]) -> None:
    """On a terminal, since zsh completes there only."""
    if shutil.which("zsh") is None:
        lacking("no zsh on this machine")
    ours, theirs = pty.openpty()
    env = {**program, "TERM": "dumb", "HOME": str(project)}
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=project, start_new_session=True
    )
    os.close(theirs)
    try:
        os.write(
            ours,
            b'autoload -Uz compinit; compinit -u -D; eval "$(litefleet --show-completion zsh)"; echo is-$((1+1))\n',
        )
        _until(ours, [b"is-2"])
        os.write(ours, b"litefleet probe --limit cam\t\t")
        said = _until(ours, [b"cam-01", b"cam-02", b"cam-03"])
        assert b"cam-03" in said
    finally:
        shell.kill()
        shell.wait(10)
        os.close(ours)


def _until(terminal: int, words: list[bytes]) -> bytes:
    """Return what a terminal shows until it has shown all of `words`, or nothing for 60 seconds."""
    said = b""
    while not all(word in said for word in words) and select.select([terminal], [], [], 60)[0]:
        said += os.read(terminal, 65536)
    return said


def test_ten_thousand_devices_complete_in_time(project: Path, program: dict[str, str]) -> None:
    (project / "devices.yaml").write_text("devices: {'d[00001:10000]': {host: 'h[1:10000].example'}}\n")
    begun = time.monotonic()
    assert ask(program, project, "bash", "litefleet probe --limit d0999") == [f"d0999{n}" for n in range(10)]
    assert time.monotonic() - begun < 20  # about a second; the test machine may be busy
