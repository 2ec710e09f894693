"""`litefleet provision` reaches what a rollout reaches: keys, certificates, agents, ProxyCommand, names, login shells."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from fabric import Connection
from litefleet_controller.devices.transport import identities
from litefleet_controller.devices.transport.base import TransportError
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.provision.carry_out import CommandResult
from litefleet_controller.provision.login import Admin, Login, shown_fingerprint
from litefleet_controller.provision.provision import Choice, Provision
from litefleet_controller.provision.sudo import SudoRemote
from litefleet_inventory.model import Device, Inventory, SshSettings

from tests.conftest import lacking
from tests.fakes.odd_sshd import OddServers, unpinned
from tests.fakes.ssh_keys import add, keygen, sign, ssh_agent

pytestmark = pytest.mark.usefixtures("home")


class Unprivileged(SudoRemote):
    """Runs commands as the login's user."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, command: str, data: bytes = b"", time_limit_s: float = 60.0) -> CommandResult:
        return self._exec(command, data, time_limit_s)


def told(
    device: Device, home: Path, known: Path | None = None, hops=lambda device: (), admin: Admin | None = None
) -> str:
    """Return "" where `echo` runs on a device, else the code and the sentence of what failed."""
    login = Login(HostKeys([known] if known else [], home / "pins", False), hops, admin or Admin())
    try:
        with login.open(device) as connection:
            done = Unprivileged(connection).run("read -r line; echo \"got $line\" '!'\necho second", b"data\n")
            assert (done.code, done.out) == (0, "got data !\nsecond\n"), done
    except TransportError as error:
        return f"{error.found.code} {error.found.observed}"
    return ""


def test_a_certificate_beside_the_key_or_named_is_offered(servers: OddServers, home: Path) -> None:
    authority, key = keygen(home / "ca"), keygen(home / "id", "rsa")
    device = replace(servers.start(f"TrustedUserCAKeys {authority}.pub", "AuthorizedKeysFile none"), key=str(key))
    assert told(device, home).startswith(f"LF504 127.0.0.1:{device.port} refused {device.user}: offered were: {key}")
    sign(authority, key.with_suffix(".pub"), "-n", device.user)
    identities.read_key.cache_clear()
    assert told(device, home) == ""
    (home / "id-cert.pub").rename(home / "elsewhere.pub")
    identities.read_key.cache_clear()
    assert told(replace(device, ssh=SshSettings(certificates=(str(home / "elsewhere.pub"),))), home) == ""


def test_keys_of_an_agent_and_too_many_of_them(servers: OddServers, plain: Device, home: Path, monkeypatch) -> None:
    with ssh_agent(home / "agent") as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        add(*(keygen(home / f"k{n}") for n in range(8)))
        many = told(replace(plain, key=""), home)
        assert many.startswith("LF504")
        assert "too many keys were offered" in many
        add(servers.key)
        only = SshSettings(
            keys=(f"{servers.key}.pub",), keys_only=True
        )  # IdentitiesOnly, and a key that the agent holds
        assert told(replace(plain, key="", ssh=only), home) == ""
        assert told(replace(plain, key="", ssh=SshSettings(agent="none")), home).endswith("there was no key to offer")
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert told(replace(plain, key="", ssh=SshSettings(keys=(str(home / "k0"), str(servers.key)))), home) == ""
    assert told(replace(plain, key=str(home / "none")), home).startswith(
        f"LF705 the key {home}/none of {plain.name} cannot"
    )
    assert told(replace(plain, key=""), home, admin=Admin(plain.user, str(servers.key))) == ""


def test_a_proxy_command_is_used_and_quoted(plain: Device, home: Path) -> None:
    relay = f'python3 -c \'import socket,sys,os,threading\ns=socket.create_connection(("127.0.0.1",{plain.port}))\n'
    relay += "def up():\n while (d:=os.read(0,65536)): s.sendall(d)\n"
    relay += "threading.Thread(target=up,daemon=True).start()\nwhile (d:=s.recv(65536)): os.write(1,d)'"
    through = SshSettings(proxy_command=relay, known_as="known-so")
    known = home / "known"
    known.write_text(f"known-so {plain.host_keys[0]}\n")  # HostKeyAlias
    away = replace(unpinned(plain), host="192.0.2.1", port=7, ssh=through)
    assert told(away, home, known) == ""
    failed = told(replace(away, ssh=SshSettings(proxy_command="echo no route to hall 3 >&2; exit 1")), home, known)
    assert failed.startswith("LF501 192.0.2.1:7")
    assert "it said: no route to hall 3" in failed
    assert told(replace(away, ssh=SshSettings(proxy_command="/none/proxy %h")), home, known).startswith("LF512")


def test_what_paramiko_lacks_is_said_with_what_is_left(servers: OddServers, home: Path) -> None:
    old = servers.start("HostKeyAlgorithms ssh-rsa", host_key=keygen(home / "host", "rsa"))
    for device in (old, replace(old, legacy=True)):
        said = told(device, home)
        assert said.startswith("LF511"), said
        assert "has no SHA-1 at all: `litefleet provision --dry-run` shows the commands" in said
    ciphers = servers.start("Ciphers aes256-cbc")
    assert "`legacy: true` for this device permits old ones" in told(ciphers, home)
    assert told(replace(ciphers, legacy=True), home) == ""
    authority, key = keygen(home / "ca"), keygen(home / "shown")
    sign(authority, key.with_suffix(".pub"), "-h")
    certified = unpinned(servers.start(f"HostCertificate {key}-cert.pub", host_key=key))
    known = home / "known"
    known.write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")
    said = told(certified, home, known)
    assert said.startswith("LF502")
    assert f"`litefleet accept-key {certified.name}`" in said


def test_a_jump_host_that_refuses_is_named(servers: OddServers, plain: Device, home: Path) -> None:
    closed = replace(servers.start("AllowTcpForwarding no"), name="gate")
    behind = replace(plain, jump="gate")
    said = told(behind, home, hops=Inventory((closed, behind)).jump_chain)
    assert said.startswith(f"LF512 the jump host 127.0.0.1:{closed.port} refuses to forward")


@pytest.mark.parametrize("shell", ["tcsh", "fish", "mksh", "bash"])
def test_any_login_shell_and_start_up_files_that_read(servers: OddServers, home: Path, shell: str) -> None:
    found = shutil.which(shell)
    if found is None:
        lacking(f"no {shell} on this machine")
    reads = "read x; read y; " if shell == "bash" else ""
    device = servers.start(
        shell=f'export HOME; {reads}echo hello; exec {found} -c "$SSH_ORIGINAL_COMMAND"', path="/usr/bin:/bin"
    )
    assert told(device, home) == ""


def test_a_login_that_starts_no_shell_is_quoted(servers: OddServers, home: Path) -> None:
    device = servers.start(shell="echo This account is currently not available.; exit 1")
    said = told(device, home)
    assert said.startswith("LF510")
    assert "it said: This account is currently not available." in said


def test_one_machine_under_two_names_is_found(plain: Device, home: Path) -> None:
    said: list[str] = []
    task = Provision(Choice(), said.append, lambda: "")
    with Login(HostKeys([], home / "pins", False), lambda device: (), Admin()).open(plain) as connection:
        remote, key = Unprivileged(connection), shown_fingerprint(connection)
        assert asyncssh.import_public_key(plain.host_keys[0]).get_fingerprint() == key
        task._check_machine(plain, key, remote)
        task._check_machine(plain, key, remote)  # again under its own name
        with pytest.raises(TransportError) as caught:
            task._check_machine(replace(plain, name="second"), key, remote)
        assert caught.value.found.code == "LF513"
        shared = "and the same boot: one machine under several names; it was provisioned as"
        assert f"{shared} {plain.name}" in caught.value.found.observed
        assert said == []
        task._seen = {key: (name, "another boot") for key, (name, _) in task._seen.items()}  # a clone of its image
        task._check_machine(replace(plain, name="clone"), key, remote)
        assert "started separately" in said[-1]
