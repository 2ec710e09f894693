"""Seals, made and checked with the real ssh-keygen and a real ssh-agent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.releases import trust
from litefleet_agent.releases.store import Store, StoreError
from litefleet_agent.releases.trust import SignersHeader
from litefleet_controller.common.errors import ConfigError, FindingError
from litefleet_controller.config.model import SigningConfig
from litefleet_controller.signing.signer import RELEASE_NAMESPACE, TRUST_NAMESPACE, Signer, seal_bytes
from litefleet_controller.signing.sshsig import SigningError, signer_of

from tests.fakes.ssh_keys import keygen

RELEASE, NOW = "ab" * 32, 1_800_000_000.5


def configured(folder: Path, key: str = "key", line: str | None = None) -> SigningConfig:
    """Return a configuration with `key`, trusted unless another line of allowed_signers is given."""
    public = (folder / f"{key.removesuffix('.pub')}.pub").read_text()
    signers = folder / "allowed_signers"
    signers.write_text(f"ops {public}" if line is None else line)
    return SigningConfig(key=folder / key, allowed_signers=signers, expires_after=60.0)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    keygen(tmp_path / "key")
    return Signer(configured(tmp_path))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An ssh-agent of our own, ended by its process id."""
    socket = tmp_path_factory.mktemp("a") / "s"
    output = subprocess.run(["ssh-agent", "-s", "-a", str(socket)], capture_output=True, text=True, check=True).stdout
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield
    found = re.search(r"SSH_AGENT_PID=(\d+)", output)
    assert found is not None
    os.kill(int(found.group(1)), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _no_agent_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


async def test_a_seal_says_all_and_verifies(signer: Signer) -> None:
    await signer.check()
    signed: dict[str, Any] = await signer.seal(RELEASE, "cls", "shop", 7, NOW)
    issued = int(NOW)
    assert signed["seal"] == {
        "schema": 1,
        "release": RELEASE,
        "model": "cls",
        "fleet": "shop",
        "number": 7,
        "issued": issued,
        "expires": issued + 60,
    }
    await signer.verify(signed, RELEASE, "cls", "shop", NOW + 59)


async def test_the_same_seal_is_signed_with_the_same_bytes(signer: Signer) -> None:
    assert await signer.seal(RELEASE, "cls", "shop", 7, NOW) == await signer.seal(RELEASE, "cls", "shop", 7, NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [("release", "cd" * 32), ("model", "det"), ("fleet", "home"), ("number", 8), ("issued", 1), ("expires", 2**40)],
)
async def test_no_field_of_a_seal_can_be_changed(signer: Signer, field: str, value: object) -> None:
    signed: dict[str, Any] = await signer.seal(RELEASE, "cls", "shop", 7, NOW)
    changed = {**signed, "seal": {**signed["seal"], field: value}}
    assert await _refused(signer, changed) == "LF610"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("cd" * 32, "cls", "shop", NOW), "LF608"),
        ((RELEASE, "det", "shop", NOW), "LF608"),
        ((RELEASE, "cls", "home", NOW), "LF608"),
        ((RELEASE, "cls", "shop", NOW + 61), "LF607"),
    ],
)
async def test_a_seal_is_for_one_release_of_one_fleet_for_some_time(
    signer: Signer, given: tuple[str, str, str, float], code: str
) -> None:
    signed: dict[str, Any] = await signer.seal(RELEASE, "cls", "shop", 7, NOW)
    assert await _refused(signer, signed, *given) == code


async def test_what_is_no_seal_is_refused(signer: Signer) -> None:
    signed: dict[str, Any] = await signer.seal(RELEASE, "cls", "shop", 7, NOW)
    assert await _refused(signer, None) == "LF609"
    assert await _refused(signer, {**signed, "signature": ""}) == "LF609"
    for seal in (None, [], {**signed["seal"], "expires": "never"}, {**signed["seal"], "number": True}):
        assert await _refused(signer, {**signed, "seal": seal}) == "LF610"
    for signature in ("x", 5, signed["signature"].replace("U1NI", "U1NJ"), signed["signature"] * 100):
        assert await _refused(signer, {**signed, "signature": signature}) == "LF610"


async def test_a_signature_for_something_else_is_none(signer: Signer, tmp_path: Path) -> None:
    signed: dict[str, Any] = await signer.seal(RELEASE, "cls", "shop", 7, NOW)
    text = seal_bytes(signed["seal"])
    borrowed = await signer.sign_text(text.decode(), TRUST_NAMESPACE)
    assert await _refused(signer, {**signed, "signature": borrowed}) == "LF610"
    signers = tmp_path / "allowed_signers"
    assert await signer_of(signers, text, borrowed, TRUST_NAMESPACE) == "ops"
    assert await signer_of(signers, text + b" ", borrowed, TRUST_NAMESPACE) == ""


async def test_a_foreign_key_is_not_trusted(signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    keygen(tmp_path / "foreign" / "key")
    signed = await Signer(configured(tmp_path / "foreign")).seal(RELEASE, "cls", "shop", 7, NOW)
    assert await _refused(signer, signed) == "LF610"


async def test_a_key_that_is_not_trusted_is_reported_with_the_line_to_add(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
    config = configured(tmp_path, line=f"them {other}")
    with pytest.raises(ConfigError, match=r"add this line: (litefleet namespaces=.*)") as caught:
        await Signer(config).check()
    with pytest.raises(SigningError, match="does not accept"):
        await Signer(config).seal(RELEASE, "cls", "shop", 7, NOW)
    config.allowed_signers.write_text(str(caught.value).split("add this line: ")[1] + "\n")
    await Signer(config).check()
    config.allowed_signers.unlink()
    with pytest.raises(ConfigError, match="make it with this line: litefleet "):
        await Signer(config).check()


@pytest.mark.parametrize("text", ["", "# nobody\n", "ops ssh-ed25519 AAAA\n", "hello\n", "#" * 70_000])
async def test_a_list_of_signers_that_devices_would_refuse_is_refused_here(tmp_path: Path, text: str) -> None:
    keygen(tmp_path / "key")
    with pytest.raises(ConfigError, match="a right line for the signing key is: litefleet "):
        await Signer(configured(tmp_path, line=text)).check()


async def test_a_device_accepts_the_seal_and_a_new_list(signer: Signer, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "device"))
    store.lock()
    assert trust.set_signers(store, signer.allowed_signers())
    signed: dict[str, Any] = await signer.seal(RELEASE, "cls", "shop", 7, NOW)
    assert trust.accept(store, RELEASE, "cls", signed, NOW) == []
    new = signer.allowed_signers() + "# a new list\n"
    with pytest.raises(StoreError):
        trust.set_signers(store, new, await signer.sign_text(new, RELEASE_NAMESPACE))
    assert trust.set_signers(store, new, await signer.sign_text(new, TRUST_NAMESPACE))
    older = await signer.seal(RELEASE, "cls", "shop", 6, NOW)
    with pytest.raises(StoreError, match="already accepted 7"):
        trust.accept(store, RELEASE, "cls", older, NOW)


async def test_the_number_in_the_list_grows_with_every_change_and_only_then(signer: Signer, tmp_path: Path) -> None:
    path = signer._config.allowed_signers
    path.chmod(0o640)
    bare = path.read_text()
    first = signer.numbered_signers("doors", NOW)
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o640
    assert first.split("\n", 1)[1] == bare
    assert (SignersHeader.of(first).fleet, SignersHeader.of(first).number) == ("doors", int(NOW * 1000))
    assert signer.numbered_signers("doors", NOW + 5) == first
    path.write_text(first + "# the new colleague\n")
    second = signer.numbered_signers("doors", NOW - 9999)  # the clock does not matter any more
    assert SignersHeader.of(second).number == int(NOW * 1000) + 1
    third = signer.numbered_signers("doors", NOW, reset=True)
    assert (SignersHeader.of(third).number, SignersHeader.of(third).reset) == (int(NOW * 1000) + 2, int(NOW))
    assert signer.numbered_signers("doors", NOW + 5) == third
    assert SignersHeader.of(signer.numbered_signers("gates", NOW))[:2] == ("gates", int(NOW * 1000) + 3)
    await signer.check()  # ssh-keygen takes the header for a comment


async def test_devices_follow_the_numbered_list(signer: Signer, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "device"))
    store.lock()
    first = signer.numbered_signers("doors", NOW)
    trust.set_signers(store, first)
    path = signer._config.allowed_signers
    path.write_text(first + "# the new colleague\n")
    second = signer.numbered_signers("doors", NOW)
    assert trust.set_signers(store, second, await signer.sign_text(second, TRUST_NAMESPACE)) is True
    with pytest.raises(StoreError) as caught:
        trust.set_signers(store, first, await signer.sign_text(first, TRUST_NAMESPACE))
    assert caught.value.code == "too-old"


async def test_the_documented_way_to_set_it_up_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "releases.md").read_text()
    script = page.split("```sh\n")[1].split("```")[0]
    assert "ssh-keygen -t" in script
    script = script.replace("ssh-keygen", "ssh-keygen -q -N ''")
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    await Signer(SigningConfig(key=tmp_path / "release-key", allowed_signers=tmp_path / "allowed_signers")).check()


async def test_an_expired_line_of_the_trusted_signers_does_not_count(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    public = (tmp_path / "key.pub").read_text()
    config = configured(tmp_path, line=f'ops valid-before="20200101" {public}')
    with pytest.raises(ConfigError, match="check the dates and namespaces"):
        await Signer(config).check()


async def test_an_rsa_key_is_refused(tmp_path: Path) -> None:
    keygen(tmp_path / "key", kind="rsa")
    for name in ("key", "key.pub"):
        with pytest.raises(ConfigError, match="type ssh-rsa; litefleet signs with ed25519"):
            await Signer(configured(tmp_path, name)).check()


@pytest.mark.parametrize(
    "text", ["", "hello", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"]
)
async def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    keygen(tmp_path / "key")
    config = configured(tmp_path)
    for path in (config.key, tmp_path / "other.pub"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="is no OpenSSH key file"):
            await Signer(config.model_copy(update={"key": path})).check()


async def test_a_key_that_is_missing_or_open_to_others_is_refused(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    config = configured(tmp_path)
    config.key.chmod(0o640)
    for name in ("key", "key.pub"):
        with pytest.raises(ConfigError, match="chmod 600"):
            await Signer(configured(tmp_path, name)).check()
    config.key.unlink()
    with pytest.raises(ConfigError, match=r"key is missing.*makes one"):
        await Signer(config).check()


async def test_a_passphrase_is_never_asked_for(tmp_path: Path) -> None:
    keygen(tmp_path / "key", passphrase="secret")
    with pytest.raises(ConfigError, match=r"has a passphrase.*ssh-add"):
        await Signer(configured(tmp_path)).check()


async def test_a_key_in_an_agent_signs(tmp_path: Path, agent: None) -> None:
    keygen(tmp_path / "key")
    config = configured(tmp_path, "key.pub")
    subprocess.run(["ssh-add", "-q", str(tmp_path / "key")], check=True)
    (tmp_path / "key").unlink()
    await Signer(config).check()
    subprocess.run(["ssh-add", "-q", "-D"], check=True)
    with pytest.raises(ConfigError, match="no SSH agent holds the key"):
        await Signer(config).check()


async def test_a_machine_without_ssh_keygen_says_so(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"ssh-keygen cannot be started.*OpenSSH client tools"):
        await signer.check()
    old = tmp_path / "ssh-keygen"
    old.write_text('#!/bin/sh\necho "unknown option -- Y" >&2\nexit 1\n')
    old.chmod(0o755)
    with pytest.raises(ConfigError, match="too old to sign"):
        await signer.check()


async def test_trusted_signers_that_cannot_be_read_are_reported(signer: Signer, tmp_path: Path) -> None:
    signature = await signer.sign_text("x", RELEASE_NAMESPACE)
    with pytest.raises(SigningError, match="the list of trusted signers"):
        await signer_of(tmp_path / "none", b"x", signature, RELEASE_NAMESPACE)


async def _refused(
    signer: Signer, signed: Any, release: str = RELEASE, model: str = "cls", fleet: str = "shop", now: float = NOW
) -> str:
    with pytest.raises(FindingError) as caught:
        await signer.verify(signed, release, model, fleet, now)
    return caught.value.findings[0].code
