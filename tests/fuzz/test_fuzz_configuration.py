"""What operators write or copy: litefleet.yaml, inventories, known_hosts, keys, lists of signers; and seals of devices."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from litefleet_agent.releases.signature import Outcome, check_signature
from litefleet_agent.releases.store import StoreError
from litefleet_agent.releases.trust import Seal, SignersHeader, check_signers
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.config import load_config
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.doctor.host_ssh import check_known_hosts
from litefleet_controller.signing.keys import read_key
from litefleet_inventory import InventoryError
from litefleet_inventory.model import Device
from litefleet_inventory.parse import parse

from tests.controller.config.test_load import WHOLE
from tests.fakes.ssh_keys import keygen
from tests.fuzz.harness import Reader, Values, fuzz

INVENTORY = b"""\
defaults: {user: me, port: 22, key: ~/.ssh/id}
groups:
  hall: {devices: {"cam-[01:03]": {host: "10.0.0.{n}"}, gw: {host: gw.example}}, arch: aarch64}
  all-halls: {children: [hall]}
devices: {d1: {host: 127.0.0.1, jump: gw, root: /var/lib/x, python: python3}}
"""
YAML_WORDS = (
    b"!!python/object:os.system x", b"&a [*a]", b"<<: ", b"[1:9999999]", b"[01:03]", b"\t", b"- ", b": ", b"{", b"[" * 60,
    b"2026-13-45", b"0o9", b"1e999", b"!!binary x", b"? ", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"%YAML 9.9\n", b"1" * 5000,
    b"!!timestamp x", b"0b2", b"1:99:99", b".inf", b"~", b"=", b"!!set {a}", b"---\n",
    b"~nobody-such/x",
)  # fmt: skip
SEAL = {"schema": 1, "release": "a" * 64, "model": "cls", "fleet": "shop", "number": 3, "issued": 5, "expires": 9}
BOARD = Device(name="d", host="board.example", port=2222)


def at(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a reader of bytes that goes by way of a file."""

    def of(data: bytes) -> object:
        path.write_bytes(data)
        path.chmod(0o600)
        return read(path)

    return of


def test_configuration(tmp_path: Path) -> None:
    read = at(tmp_path / "litefleet.yaml", load_config)
    fuzz(Reader("litefleet.yaml", (WHOLE.encode(),), read, (ConfigError,), YAML_WORDS))


def test_inventories() -> None:
    def read(data: bytes) -> object:
        return parse(data.decode("utf-8", "surrogateescape"))

    fuzz(Reader("inventory", (INVENTORY,), read, (InventoryError,), YAML_WORDS))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keygen(tmp_path_factory.mktemp("keys") / "key")


def test_known_hosts(tmp_path: Path, key: Path) -> None:
    public = key.with_suffix(".pub").read_bytes()
    hashed = b"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= " + public
    sample = (
        b"[board.example]:2222 " + public + b"@revoked * " + public + hashed + b"# note\n\n10.0.0.*,!10.0.0.1 " + public
    )
    words = (
        b"@cert-authority ",
        b"|1|",
        b"*",
        b"!",
        b"[",
        b"]:99999",
        b"ssh-rsa AAAA",
        b"\xff",
        b"\0",
        b",,",
        b"\r",
        b"\x85",
    )
    pins = tmp_path / "pins"

    def trust(path: Path) -> None:
        keys = HostKeys([path], pins, accept_new=True)
        decision = keys.decision(BOARD)
        assert decision.algorithms
        decision.trusts(asyncssh.read_public_key(key.with_suffix(".pub")))

    fuzz(Reader("known_hosts", (sample,), at(tmp_path / "known_hosts", trust), (), words))  # odd lines are skipped
    fuzz(Reader("doctor's known_hosts", (sample,), at(tmp_path / "known_hosts", check_known_hosts), (), words))


def test_keys(tmp_path: Path, key: Path) -> None:
    words = (
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
        b"PRIVATE KEY-----",
        b"ssh-ed25519",
        b"\0\0\0\x0b",
        b"\xff\xff\xff\xff",
    )
    private = Reader("private key", (key.read_bytes(),), at(tmp_path / "key", read_key), (ConfigError,), words)
    fuzz(private)
    public = key.with_suffix(".pub").read_bytes()
    fuzz(Reader("public key", (public,), at(tmp_path / "key.pub", read_key), (ConfigError,), words))


def test_signers_and_seals(key: Path) -> None:
    header = SignersHeader("shop", 3, "refuse", 5).line().encode()
    sample = header + b'ops namespaces="litefleet-*" ' + key.with_suffix(".pub").read_bytes()

    def signers(data: bytes) -> object:
        return check_signers(data.decode("utf-8", "surrogateescape"))

    words = (
        b"# litefleet-signers {",
        b'"number": 1e999',
        b"[" * 3000,
        b"cert-authority",
        b"ssh-ed25519 AAAA",
        b"\0",
        b"\x85",
    )
    fuzz(Reader("allowed_signers", (sample,), signers, (StoreError,), words))
    fuzz(Values("seal", (SEAL,), Seal.parse, (StoreError,)))


def test_no_changed_signature_or_list_is_good(tmp_path: Path, key: Path) -> None:
    """Each input starts ssh-keygen: few are tried."""
    if not shutil.which("ssh-keygen"):
        pytest.fail("ssh-keygen is missing: install openssh-client")
    payload, listed = b"the release", "ops " + key.with_suffix(".pub").read_text()
    signed = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "litefleet-release"],
        input=payload,
        capture_output=True,
        check=True,
    ).stdout
    body = b"".join(signed.split(b"\n")[1:-2])

    def check(data: bytes) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            outcome = check_signature(payload, data.decode(), "litefleet-release", listed, str(tmp_path)).outcome
            changed = b"".join(b"".join(data.split(b"\n")[1:-2]).split()) != body  # spaces are no part of base64
            assert not (changed and outcome is Outcome.GOOD and data.strip() != signed.strip())

    fuzz(Reader("signature", (signed,), check, (), (b"-----END SSH SIGNATURE-----", b"AAAA", b"\0"), least=10))
