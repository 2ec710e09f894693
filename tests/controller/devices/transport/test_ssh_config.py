"""The SSH configuration, read as OpenSSH reads it: compared with `ssh -G`, and used at real servers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.devices.transport.ssh_config import SshConfig
from litefleet_inventory.model import Device, Inventory

from tests.conftest import lacking
from tests.fakes.odd_sshd import OddServers, odd_servers, probe

TEXT = """\
# ours
IdentitiesOnly yes
Host cam-7 board
    HostName 10.0.0.7
    Port=2207
    User edge
    IdentityFile ~/.ssh/%n
    IdentityFile "~/.ssh/with space"
    UserKnownHostsFile ~/.ssh/boards /etc/boards
Host cam-* !cam-9
    Port 99
    HostKeyAlias alias-%n
    ProxyJump gw
Host gw
    HostName 192.0.2.9
    User jumper
Match host 10.0.0.7 user edge
    CertificateFile ~/.ssh/%r-cert.pub
Match originalhost proxied exec "true"
    ProxyCommand nc -x %r %h %p 2>/dev/null
Host *
    User everyone
    SomethingNew 7
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("name", ["cam-7", "board", "cam-8", "cam-9", "gw", "proxied", "other"])
def test_what_is_taken_is_what_ssh_takes(config: Path, name: str) -> None:
    if shutil.which("ssh") is None:
        lacking("no ssh on this machine")
    argv = ["ssh", "-G", "-o", "IgnoreUnknown=SomethingNew", "-F", str(config), name]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    wanted: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        option, _, value = line.partition(" ")
        wanted.setdefault(option, []).append(value)
    made = SshConfig([config]).applied(Device(name, name))
    assert [made.host, str(made.port), made.user] == [wanted[o][0] for o in ("hostname", "port", "user")]
    home = str(Path.home())
    if made.ssh.keys:
        expanded = [value.replace("%n", name) for value in wanted["identityfile"]]
        assert [key.replace("~", home) for key in made.ssh.keys] == [value.replace("~", home) for value in expanded]
    assert made.ssh.keys_only == (wanted["identitiesonly"][0] == "yes")
    assert made.jump == wanted.get("proxyjump", [""])[0]
    assert bool(made.ssh.proxy_command) == ("proxycommand" in wanted)
    assert bool(made.ssh.certificates) == ("certificatefile" in wanted)
    assert bool(made.ssh.known_as) == ("hostkeyalias" in wanted)


_NASTY = {
    "tabs": "Host\tcam-1\n\tHostName\t10.0.0.7\n\tUser\t edge\n\tPort\t=\t2222\n",
    "comments": "Host cam-1 # it's the first\r\n HostName 10.0.0.7 # lab\r\n User edge#1 # c\r\n Port 2222 # d\r\n",
    "a domain's user": 'Host cam-1\n User LAB\\edge\n "HostName" "10.0.0.7"\n',
    "no jump by an empty command": "Host cam-*\n ProxyCommand none\nHost *\n ProxyJump gw\n",
    "a command before a jump": "Host cam-1\n ProxyCommand nc %h %p\nHost *\n ProxyJump gw\n",
    "a jump before a command": "Host cam-1\n ProxyJump gw\n ProxyCommand nc %h %p\n",
    "a final match": "Host cam-1\n HostName 10.0.0.7\nMatch final host 10.0.0.7\n User last\n Port 2022\n",
    "brackets": "Host cam-[1]\n HostName 10.0.0.7\n",
    "a host in two blocks": "Host cam-1\n User a\nHost *\n User b\nHost cam-1\n User c\n Port 2222\n",
}


@pytest.mark.parametrize("kind", _NASTY)
def test_odd_files_are_read_as_ssh_reads_them(config: Path, kind: str) -> None:
    if shutil.which("ssh") is None:
        lacking("no ssh on this machine")
    config.write_text("Match all\nHost *\n" + _NASTY[kind] + "Host *\n User everyone\n", newline="")
    done = subprocess.run(["ssh", "-G", "-F", str(config), "cam-1"], capture_output=True, text=True, check=True)
    wanted = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    made = SshConfig([config]).applied(Device("cam-1", "cam-1"))
    assert [made.host, str(made.port), made.user] == [wanted[o] for o in ("hostname", "port", "user")]
    assert made.jump == wanted.get("proxyjump", "")
    assert bool(made.ssh.proxy_command) == ("proxycommand" in wanted)


def test_a_byte_order_mark_gives_a_block_of_one_host_to_no_other(config: Path) -> None:
    config.write_text("\ufeffHost cam-1\n HostName 10.0.0.7\n User root\n")
    assert SshConfig([config]).applied(Device("cam-2", "cam-2")).host == "cam-2"
    assert SshConfig([config]).applied(Device("cam-1", "cam-1")).host == "10.0.0.7"


def test_the_inventory_wins_and_what_was_taken_is_told(config: Path) -> None:
    device = Device("c", "cam-7", 22, "pi", "keys/pi", jump="me@other", port_is_set=True)
    made = SshConfig([config]).applied(device)
    assert (made.host, made.port, made.user, made.key, made.jump) == ("10.0.0.7", 22, "pi", "keys/pi", "me@other")
    assert made.ssh.keys == ()
    assert "Hostname 10.0.0.7" in made.ssh.taken
    assert not any(word.startswith(("Port", "User ", "IdentityFile", "ProxyJump")) for word in made.ssh.taken)
    assert SshConfig([]).applied(device) is device
    ours = SshConfig([config], own_known_hosts=False).applied(Device("c", "cam-7"))
    assert ours.ssh.known_hosts == ()


def test_jump_hosts_are_configured_too(config: Path) -> None:
    config.write_text(TEXT + "Host far\n    ProxyJump root@first:2222,cam-8\n")
    read = SshConfig([config])
    far = read.applied(Device("far", "far", key="keys/one"))
    hops = read.hops(Inventory((far,)), far)
    assert [(h.host, h.port, h.user) for h in hops] == [("first", 2222, "root"), ("cam-8", 99, "everyone")]
    assert {h.key for h in hops} == {"keys/one"}
    seven = read.applied(Device("cam-7", "cam-7"))
    assert [(h.host, h.user) for h in read.hops(Inventory((seven,)), seven)] == [("192.0.2.9", "jumper")]
    config.write_text("Host a\n    ProxyJump b\nHost b\n    ProxyJump a\n")
    read = SshConfig([config])
    loop = read.applied(Device("a", "a"))
    assert len(read.hops(Inventory((loop,)), loop)) < 20


@pytest.mark.parametrize("line", ["Port ssh", 'IdentityFile "half', "IdentitiesOnly maybe", "HostName"])
def test_a_mistake_is_named_with_its_line(config: Path, line: str) -> None:
    config.write_text(f"Host *\n\n{line}\n")
    with pytest.raises(ConfigError, match="line 3: ") as caught:
        SshConfig([config]).applied(Device("a", "a"))
    assert str(config) in str(caught.value)
    assert "config: false" in str(caught.value)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddServers]:
    with odd_servers(tmp_path_factory.mktemp("configured")) as made:
        yield made


def test_at_a_real_server(servers: OddServers, tmp_path: Path, config: Path) -> None:
    gate, device = servers.start(), servers.start()
    if shutil.which("busybox") is None:
        lacking("no busybox on this machine")
    known = tmp_path / "boards"
    known.write_text(f"board-1 {device.host_keys[0]}\n[127.0.0.1]:{gate.port} {gate.host_keys[0]}\n")
    common = f"IdentityFile {servers.key}\nUser {device.user}\nUserKnownHostsFile {known}\n"
    block = f"HostName 127.0.0.1\nPort {device.port}\nHostKeyAlias board-1\n{common}"
    config.write_text(
        f"Host one\n{block}Host two\n{block}ProxyJump gate\nHost gate\nHostName 127.0.0.1\nPort {gate.port}\n{common}"
        f"Host three\n{block}ProxyCommand busybox nc %h %p\nHost four\n{block}ProxyCommand /opt/none/nc %h %p\n"
        f"Host five\n{block}ProxyCommand busybox nc %h 1\n"
    )
    read = SshConfig([config])
    for name in ("one", "two", "three", "four", "five"):
        plain = Device(name, name, root=device.root)
        made = read.applied(plain)
        outcome = probe(made, tmp_path, hops=lambda d: read.hops(Inventory((d,)), d))
        code = outcome.findings[0].code if outcome.findings else ""
        if name in ("four", "five"):
            expected = (Verdict.FAILED, "LF512") if name == "four" else (Verdict.UNREACHABLE, "LF501")
            assert (outcome.verdict, code) == expected, outcome.sentence
            assert "ProxyCommand" in outcome.sentence
        else:
            assert (outcome.verdict, code) == (Verdict.VERIFIED, ""), outcome.sentence
    assert probe(replace(device, host_keys=()), tmp_path).verdict is Verdict.FAILED


def test_none_means_no_known_hosts_file_of_the_user(tmp_path: Path) -> None:
    """OpenSSH reads no file of the user's then; the default one would trust more than was asked for."""
    (tmp_path / "config").write_text("Host cam-1\n    UserKnownHostsFile none\n")
    assert SshConfig([tmp_path / "config"]).applied(Device("cam-1", "cam-1")).ssh.known_hosts == ("/dev/null",)
    assert SshConfig([tmp_path / "config"]).applied(Device("cam-2", "cam-2")).ssh.known_hosts == ()
