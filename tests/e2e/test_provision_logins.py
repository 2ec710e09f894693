"""`litefleet provision` at real servers: start-up files that print, and sudo's own words."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.provision.carry_out import CommandResult
from litefleet_controller.provision.login import Admin, Login
from litefleet_controller.provision.sudo import NotRoot, SudoRemote

from tests.fakes.odd_sshd import OddServers, odd_servers

LECTURE = "We trust you have received the usual lecture from the local System Administrator."


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddServers]:
    with odd_servers(tmp_path_factory.mktemp("provision")) as made:
        yield made


def run(servers: OddServers, folder: Path, sudo: str, chatter: str = "", password: str = "") -> CommandResult:
    """Run `echo done` as root at a device whose `id` and `sudo` are ours."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("sh", "env", "true"):
        (tools / name).symlink_to(str(shutil.which(name)))
    for name, text in (("id", "echo 1000"), ("sudo", sudo)):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    shell = f'PATH={tools}; {chatter or ":"}; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    login = Login(HostKeys([], folder / "pins", False), lambda device: (), Admin())
    with login.open(servers.start(shell=shell)) as connection:
        return SudoRemote(connection, lambda: password).run("echo done")


ALLOWED = 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'


@pytest.mark.parametrize("chatter", ["", "echo hello", "echo hello; echo again", "printf 'no end '", "echo oops >&2"])
def test_what_start_up_files_print_is_not_the_commands(servers: OddServers, tmp_path: Path, chatter: str) -> None:
    assert run(servers, tmp_path, ALLOWED, chatter).out == "done\n"


@pytest.mark.parametrize(
    ("sudo", "words"),
    [
        ("echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1", "you must have a tty"),
        ("echo 'edge is not in the sudoers file.' >&2; exit 1", "not in the sudoers file"),
        ("echo \"Sorry, user edge is not allowed to execute '/bin/true' as root\" >&2; exit 1", "is not allowed to"),
        ("exit 3", "it ended with 3"),
    ],
)
def test_sudo_that_refuses_is_quoted(servers: OddServers, tmp_path: Path, sudo: str, words: str) -> None:
    with pytest.raises(NotRoot, match="sudo refuses on this device") as caught:
        run(servers, tmp_path, sudo)
    assert words in str(caught.value)


def test_a_wrong_password_is_said_in_sudos_words(servers: OddServers, tmp_path: Path) -> None:
    sudo = (
        "[ $1 = -n ] && { echo 'sudo: a password is required' >&2; exit 1; }; "
        f"echo '{LECTURE}' >&2; echo 'sudo: 1 incorrect password attempt' >&2; exit 1"
    )
    with pytest.raises(NotRoot, match="1 incorrect password attempt"):
        run(servers, tmp_path, sudo, password="guess")
