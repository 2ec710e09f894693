"""Logins as devices have them: shells, start-up files, menus, interpreters.  Each works, or says which of them it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.devices.outcome import DeviceOutcome

from tests.conftest import find_python, lacking
from tests.fakes.odd_sshd import OddServers, odd_servers, probe

OK = (Verdict.VERIFIED, "")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddServers]:
    with odd_servers(tmp_path_factory.mktemp("logins")) as made:
        yield made


def login(servers: OddServers, folder: Path, shell: str, **more: str) -> DeviceOutcome:
    device = replace(servers.start(shell=shell), **{"python": find_python("3.9"), **more})
    return probe(device, folder)


def told(outcome: DeviceOutcome) -> tuple[Verdict, str]:
    return outcome.verdict, outcome.findings[0].code if outcome.findings else ""


@pytest.mark.parametrize("shell", ["tcsh", "fish", "mksh", "bash", "dash", "zsh"])
def test_login_shells(servers: OddServers, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        lacking(f"no {shell} on this machine")
    assert told(login(servers, tmp_path, f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"')) == OK


@pytest.mark.parametrize("path", ["with sh", "without sh"])
def test_a_restricted_shell(servers: OddServers, tmp_path: Path, path: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ["uname", *(["sh"] if path == "with sh" else [])]:
        (tools / name).symlink_to(str(shutil.which(name)))
    outcome = login(servers, tmp_path, f'PATH={tools} exec {shutil.which("bash")} -r -c "$SSH_ORIGINAL_COMMAND"')
    if path == "with sh":
        assert told(outcome) == OK
    else:
        assert told(outcome) == (Verdict.FAILED, "LF510")
        assert "sh: command not found" in outcome.sentence
        assert "127" in outcome.sentence


@pytest.mark.parametrize(
    "rc", ["echo Welcome to board 7", "read line", "printf 'no end'", "alias sh=false; sh() { false; }", "ulimit -c 0"]
)
def test_start_up_files_that_do_no_harm(servers: OddServers, tmp_path: Path, rc: str) -> None:
    """A login shell reads its start-up file with litefleet's input as its own, as bash does under sshd."""
    (tmp_path / ".bashrc").write_text(f"{rc}\n")
    outcome = login(servers, tmp_path, f'HOME={tmp_path} exec bash -c "$SSH_ORIGINAL_COMMAND"')
    if "sh()" in rc:  # it names its own
        assert told(outcome) == (Verdict.FAILED, "LF510")
    else:
        assert told(outcome) == OK, outcome.sentence


@pytest.mark.parametrize(
    ("rc", "code", "words"),
    [
        ("echo out of order; exit 3", "LF510", "(exit code 3); it said: out of order"),
        ("exit", "LF510", "a start-up file may `exit`"),
        ("exec sh", "LF510", "`exec zsh`"),
        ("exec /bin/false", "LF510", "exit code 1"),
        ("exec cat", "LF507", "another program than a shell"),
    ],
)
def test_start_up_files_that_start_nothing(servers: OddServers, tmp_path: Path, rc: str, code: str, words: str) -> None:
    (tmp_path / ".bashrc").write_text(f"{rc}\n")
    outcome = login(servers, tmp_path, f'HOME={tmp_path} exec bash -c "$SSH_ORIGINAL_COMMAND"')
    assert told(outcome) == (Verdict.FAILED, code), outcome.sentence
    assert words in outcome.sentence


@pytest.mark.parametrize(
    ("shell", "code", "words"),
    [
        ("exec /usr/sbin/nologin", "LF510", "This account is currently not available"),
        ("exec /bin/false", "LF510", "it said nothing"),
        ("echo 'This service allows sftp connections only.'; exit 1", "LF510", "sftp connections only"),
        ("echo ACME; while read l; do echo unknown; done", "LF507", "it said: ACME / unknown"),
    ],
)
def test_logins_that_take_no_commands(servers: OddServers, tmp_path: Path, shell: str, code: str, words: str) -> None:
    outcome = login(servers, tmp_path, shell)
    assert told(outcome) == (Verdict.FAILED, code), outcome.sentence
    assert words in outcome.sentence


def test_a_named_interpreter_is_never_replaced(servers: OddServers, tmp_path: Path) -> None:
    good = 'exec sh -c "$SSH_ORIGINAL_COMMAND"'
    missing = login(servers, tmp_path, good, python="/opt/none/python3")
    assert told(missing) == (Verdict.UNSUPPORTED, "LF301")
    assert "names /opt/none/python3, which is missing" in missing.sentence
    (tmp_path / "python").write_text("text")
    unusable = login(servers, tmp_path, good, python=str(tmp_path / "python"))
    assert told(unusable) == (Verdict.UNSUPPORTED, "LF301")
    old = login(servers, tmp_path, good, python=find_python("2.7"))
    assert told(old) == (Verdict.UNSUPPORTED, "LF301")
    assert "older than Python 3.7" in old.sentence


@pytest.mark.parametrize("module", ["json", "zlib", "encodings"])
def test_an_interpreter_whose_library_is_split(servers: OddServers, tmp_path: Path, module: str) -> None:
    """A Python that lacks one module, made of a real one."""
    python = tmp_path / "python3"
    real = Path(find_python("3.9")).resolve()
    if module == "encodings":  # without it no Python starts at all
        python.write_text(f'#!/bin/sh\nshift 2\nPYTHONHOME=/none exec {real} -s -c "$@"\n')
    else:
        without = tmp_path / "without.py"  # its finders do not see the module, as where its files are missing
        without.write_text(
            "import sys\n"
            "class Without:\n"
            "    def __init__(self, finder): self.finder = finder\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        return None if name == {module!r} else self.finder.find_spec(name, path, target)\n"
            "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
        )
        python.write_text(f'#!/bin/sh\nshift 2\nexec {real} -Es -c "exec(open(\'{without}\').read()); $1" "$2"\n')
    python.chmod(0o755)
    outcome = login(servers, tmp_path, 'exec sh -c "$SSH_ORIGINAL_COMMAND"', python=str(python))
    assert told(outcome) == (Verdict.UNSUPPORTED, "LF301"), outcome.sentence
    assert module in outcome.sentence
    assert "opkg install" in outcome.sentence


def test_a_limit_of_the_login_is_named(servers: OddServers, tmp_path: Path) -> None:
    outcome = login(servers, tmp_path, 'ulimit -f 100; exec sh -c "$SSH_ORIGINAL_COMMAND"')
    assert told(outcome) == (Verdict.FAILED, "LF514"), outcome.sentence
    assert "File too large (ulimit -f: 51200)" in outcome.sentence


@pytest.mark.parametrize(
    "words",
    [
        "litefleet: 1: Cannot fork",  # dash
        "sh: can't fork: Resource temporarily unavailable",  # BusyBox
        "bash: fork: retry: Resource temporarily unavailable",
    ],
)
def test_a_login_that_may_start_no_process(servers: OddServers, tmp_path: Path, words: str) -> None:
    outcome = login(servers, tmp_path, f'echo "{words}" >&2; exit 2')
    assert told(outcome) == (Verdict.FAILED, "LF514"), outcome.sentence
    assert "ulimit -u" in outcome.sentence
