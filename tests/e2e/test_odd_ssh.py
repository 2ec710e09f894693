"""SSH as people have it, at real servers: keys, certificates, agents, host keys, old servers, jump hosts, other services."""

from __future__ import annotations

import base64
import http.server
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.transport import identities
from litefleet_inventory.model import Device, Inventory, SshSettings

from tests.fakes.odd_sshd import OddServers, probe, unpinned
from tests.fakes.ssh_keys import add, keygen, sign, ssh_agent

OK = (Verdict.VERIFIED, "")

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of an SSH agent that holds nothing yet."""
    with ssh_agent(home / "agent") as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield socket


def hardware_key() -> bytes:
    """Return the private file of a key in a security token: it holds the token's handle and no secret (PROTOCOL.u2f)."""

    def text(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    kind, public = b"sk-ssh-ed25519@openssh.com", bytes(range(32))
    inner = bytes(8) + text(kind, public, b"ssh:") + b"\x01" + text(b"handle", b"", b"comment")
    inner += bytes(range(1, 1 + -len(inner) % 8))
    data = b"openssh-key-v1\0" + text(b"none", b"none", b"") + (1).to_bytes(4, "big")
    data += text(text(kind, public, b"ssh:"), inner)
    lines = base64.encodebytes(data)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + lines + b"-----END OPENSSH PRIVATE KEY-----\n"


def told(outcome: DeviceOutcome) -> tuple[Verdict, str]:
    return outcome.verdict, outcome.findings[0].code if outcome.findings else ""


@pytest.mark.parametrize("allowed", ["", "PubkeyAcceptedAlgorithms rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp384"])
def test_every_kind_of_key_logs_in(servers: OddServers, home: Path, allowed: str) -> None:
    """An RSA key's signature is of a kind that the server named."""
    device = servers.start(*[allowed] if allowed else [])
    known = servers.folder / f"d{device.port}" / "authorized_keys"
    for kind in ("ed25519", "rsa", "ecdsa"):
        key = keygen(home / kind, kind, bits=384 if kind == "ecdsa" else 0)
        with known.open("a") as public:
            public.write(key.with_suffix(".pub").read_text())
        assert told(probe(replace(device, key=str(key)), home)) == OK, kind


@pytest.mark.parametrize("name", ["id_rsa", "id_ed25519", "id_ecdsa_sk"])
@pytest.mark.parametrize("content", [b"", b"PuTTY-User-Key-File-3: ssh-ed25519\n", b"\0" * 400])
def test_a_broken_default_key_never_matters(plain: Device, home: Path, name: str, content: bytes) -> None:
    (home / ".ssh" / name).write_bytes(content)
    assert told(probe(plain, home)) == OK
    without = probe(replace(plain, key=""), home)
    assert told(without) == (Verdict.FAILED, "LF504")
    assert "there was no key to offer" in without.sentence


def test_a_default_key_beside_a_broken_one_is_used(plain: Device, home: Path) -> None:
    (home / ".ssh" / "id_rsa").touch()
    (home / ".ssh" / "id_ed25519").write_bytes(Path(plain.key).read_bytes())
    assert told(probe(replace(plain, key=""), home)) == OK


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"PuTTY-User-Key-File-2: ssh-rsa\n", "is a PuTTY key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "is no whole private key"),
    ],
)
def test_a_named_key_that_is_of_no_use_is_a_failure_of_this_machine(
    plain: Device, home: Path, content: bytes | None, words: str
) -> None:
    key = home / "key"
    if content is not None:
        key.write_bytes(content)
    outcome = probe(replace(plain, key=str(key)), home)
    assert told(outcome) == (Verdict.FAILED, "LF705")
    assert words in outcome.sentence


def test_a_user_certificate_beside_the_key_is_offered(servers: OddServers, home: Path) -> None:
    authority, key = keygen(home / "ca"), keygen(home / "id")
    device = servers.start(f"TrustedUserCAKeys {authority}.pub", "AuthorizedKeysFile none")
    mine = replace(device, key=str(key))
    assert told(probe(mine, home)) == (Verdict.FAILED, "LF504")
    sign(authority, key.with_suffix(".pub"), "-n", device.user)
    identities.read_key.cache_clear()
    assert told(probe(mine, home)) == OK
    (home / "id-cert.pub").rename(home / "elsewhere.pub")  # CertificateFile of the SSH configuration
    identities.read_key.cache_clear()
    assert told(probe(mine, home)) == (Verdict.FAILED, "LF504")
    assert told(probe(replace(mine, ssh=SshSettings(certificates=(str(home / "elsewhere.pub"),))), home)) == OK


def test_many_keys_of_an_agent(servers: OddServers, plain: Device, home: Path, agent: Path) -> None:
    add(*(keygen(home / f"k{n}") for n in range(8)))
    many = probe(replace(plain, key=""), home)
    assert told(many) == (Verdict.FAILED, "LF504")
    assert "too many keys were offered" in many.sentence
    assert "name one with `key:`" in many.sentence
    assert told(probe(plain, home)) == OK  # `key:` is the only one that is offered
    add(servers.key)
    only = SshSettings(keys=(f"{servers.key}.pub",), keys_only=True)
    assert told(probe(replace(plain, key="", ssh=only), home)) == OK
    first = SshSettings(keys=(f"{servers.key}.pub",))  # named ones come before the others, as for OpenSSH
    assert told(probe(replace(plain, key="", ssh=first), home)) == OK
    assert told(probe(replace(plain, key="", ssh=SshSettings(agent="none")), home)) == (Verdict.FAILED, "LF504")


@pytest.mark.parametrize("kind", ["passphrase", "public", "hardware"])
def test_a_key_that_only_an_agent_can_sign_with(
    servers: OddServers, plain: Device, home: Path, agent: Path, kind: str
) -> None:
    named, words = (
        home / "key",
        {"passphrase": "has a passphrase", "public": "is a public key"}.get(kind, "hardware key"),
    )
    if kind == "passphrase":
        named.write_bytes(servers.key.read_bytes())
        named.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(named)], check=True, capture_output=True)
        (home / "key.pub").write_bytes(Path(f"{servers.key}.pub").read_bytes())
    elif kind == "public":
        named.write_bytes(Path(f"{servers.key}.pub").read_bytes())
    else:
        named.write_bytes(hardware_key())
    outcome = probe(replace(plain, key=str(named)), home)
    assert told(outcome) == (Verdict.FAILED, "LF705")
    assert words in outcome.sentence
    assert "the SSH agent does not hold it" in outcome.sentence or "no SSH agent answers" in outcome.sentence
    assert f"ssh-add {named}" in outcome.sentence or kind == "public"
    if kind != "hardware":
        add(servers.key)
        assert told(probe(replace(plain, key=str(named)), home)) == OK


def test_host_certificates(servers: OddServers, home: Path) -> None:
    authority, host_key = keygen(home / "ca"), keygen(home / "host")
    sign(authority, home / "host.pub", "-h", "-n", "127.0.0.1")
    device = unpinned(servers.start(f"HostCertificate {home}/host-cert.pub", host_key=host_key))
    public = " ".join(authority.with_suffix(".pub").read_text().split()[:2])
    known = home / "known_hosts"
    assert told(probe(device, home, [known])) == (Verdict.FAILED, "LF502")
    known.write_text(f"@cert-authority * {public}\n")
    assert told(probe(device, home, [known])) == OK
    known.write_text(f"@cert-authority *.example {public}\n")
    assert told(probe(device, home, [known])) == (Verdict.FAILED, "LF502")
    shown = " ".join((home / "host.pub").read_text().split()[:2])
    known.write_text(f"@cert-authority * {public}\n@revoked * {shown}\n")
    assert told(probe(device, home, [known])) == (Verdict.FAILED, "LF503")
    known.write_text(f"@cert-authority * {public}\n@revoked * {public}\n")
    assert told(probe(device, home, [known])) == (Verdict.FAILED, "LF503")


@pytest.mark.parametrize("options", [("-n", "other.example"), ("-V", "20200101:20200102")])
def test_a_host_certificate_that_does_not_hold_here(servers: OddServers, home: Path, options: tuple[str, ...]) -> None:
    authority, host_key = keygen(home / "ca"), keygen(home / "host")
    sign(authority, home / "host.pub", "-h", *options)
    device = unpinned(servers.start(f"HostCertificate {home}/host-cert.pub", host_key=host_key))
    known = home / "known_hosts"
    known.write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")
    outcome = probe(device, home, [known])
    assert told(outcome) == (Verdict.FAILED, "LF503")
    assert "Certificate " in outcome.sentence


def test_a_pinned_key_of_another_type_is_a_changed_key(servers: OddServers, home: Path) -> None:
    device = servers.start(host_key=keygen(home / "host", "rsa"))
    other = " ".join(keygen(home / "other").with_suffix(".pub").read_text().split()[:2])
    outcome = probe(replace(device, host_keys=(other,)), home)
    assert told(outcome) == (Verdict.FAILED, "LF503")
    assert "ssh-rsa" in outcome.sentence
    assert "ssh-ed25519" in outcome.sentence
    assert told(probe(device, home)) == OK


@pytest.mark.parametrize(
    "line",
    [
        "HostKeyAlgorithms ssh-rsa",
        "KexAlgorithms diffie-hellman-group14-sha1",
        "Ciphers aes128-cbc",
        "Ciphers 3des-cbc",
    ],
)
def test_old_servers_need_a_word_of_the_inventory(servers: OddServers, home: Path, line: str) -> None:
    device = servers.start(line, host_key=keygen(home / "host", "rsa"))
    outcome = probe(device, home)
    assert told(outcome) == (Verdict.FAILED, "LF511")
    assert f"offers only {line.split()[1]}" in outcome.sentence
    assert "`legacy: true`" in outcome.sentence
    assert told(probe(replace(device, legacy=True), home)) == OK
    assert told(probe(replace(unpinned(device), legacy=True), home, accept_new=True)) == OK


def test_a_method_that_nobody_should_use_is_not_promised(servers: OddServers, home: Path) -> None:
    outcome = probe(servers.start("KexAlgorithms diffie-hellman-group1-sha1"), home)
    assert told(outcome) == (Verdict.FAILED, "LF511")
    assert "legacy" not in outcome.sentence


def test_jump_hosts_say_why(servers: OddServers, plain: Device, home: Path) -> None:
    closed, open_one = servers.start("AllowTcpForwarding no"), servers.start()
    closed, open_one = replace(closed, name="gw-closed"), replace(open_one, name="gw-open")
    refused = replace(plain, jump="gw-closed")
    chain = Inventory((closed, open_one, refused)).jump_chain
    outcome = probe(refused, home, hops=chain)
    assert told(outcome) == (Verdict.FAILED, "LF512")
    assert "gw-closed" in outcome.sentence
    assert "administratively prohibited" in outcome.sentence
    assert f"127.0.0.1:{plain.port}" in outcome.sentence
    away = probe(replace(plain, jump="gw-open", port=1), home, hops=chain)
    assert told(away) == (Verdict.UNREACHABLE, "LF501")
    assert "gw-open" in away.sentence
    assert told(probe(replace(plain, jump="gw-open"), home, hops=chain)) == OK


def test_something_else_than_ssh_answers(plain: Device, home: Path, servers: OddServers) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        device = replace(plain, port=web.server_address[1])
        outcome = probe(device, home)
        assert told(outcome) == (Verdict.FAILED, "LF507")
        assert "something else than SSH answers" in outcome.sentence
        assert "HTTP" in outcome.sentence or "DOCTYPE" in outcome.sentence
        gate = replace(servers.start(), name="gate")
        behind = replace(device, jump="gate")
        assert told(probe(behind, home, hops=Inventory((gate, behind)).jump_chain)) == (Verdict.FAILED, "LF507")
        web.shutdown()


def test_a_refused_login_names_what_was_offered(plain: Device, home: Path) -> None:
    stranger = keygen(home / "stranger")
    outcome = probe(replace(plain, key=str(stranger)), home)
    assert told(outcome) == (Verdict.FAILED, "LF504")
    assert str(stranger) in outcome.sentence
