"""Which keys are offered to a device: those that the inventory or the SSH configuration names, else the agent's and the defaults.

The order is OpenSSH's.  A key whose file holds only the public half (a `.pub` file, a hardware key, a file with a
passphrase) is signed with by the SSH agent.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import asyncssh
from litefleet_agent.findings import Finding, finding
from litefleet_agent.formats.files import read_regular
from litefleet_inventory.model import Device

from ...common.files import expanded
from .base import TransportError

_DEFAULTS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_MOST_BYTES = 1 << 20


class KeyFile(NamedTuple):
    """What a key file holds.  One of `private` and `problem` is set; `public` is what an agent may hold of it."""

    path: str
    private: asyncssh.SSHKey | None = None
    certificates: tuple[asyncssh.SSHCertificate, ...] = ()
    public: bytes = b""
    problem: str = ""  # why the file alone is of no use

    def pairs(self) -> list[asyncssh.SSHKeyPair]:
        """Return what can be offered, certificates first; made anew for each connection, as each signs in its own way."""
        if self.private is None:
            return []
        given = [(self.private, certificate) for certificate in self.certificates]
        made = [asyncssh.load_keypairs([pair])[0] for pair in given]
        return [*made, *asyncssh.load_keypairs([self.private])]


@lru_cache(maxsize=1024)
def read_key(path: str, certificates: tuple[str, ...] = ()) -> KeyFile:
    """Return what a private or public key file holds; `certificates` are files besides `path`-cert.pub.  Read once."""
    file = expanded(path)
    try:
        data = read_regular(file, _MOST_BYTES)
    except OSError as error:
        return KeyFile(path, problem=f"cannot be read: {error.strerror or error}")
    public = _public(file, data)
    try:
        private = asyncssh.import_private_key(data)
    except (asyncssh.Error, ValueError) as error:
        return KeyFile(path, public=public, problem=_unusable(data, str(error)))
    if private.get_algorithm().startswith(("sk-", "webauthn-")):
        return KeyFile(path, public=private.public_data, problem="is a hardware key")
    mine = [c for name in (f"{path}-cert.pub", *certificates) for c in _certificates(name)]
    fitting = tuple(c for c in mine if c.key.public_data == private.public_data)
    return KeyFile(path, private, fitting, private.public_data)


def _public(file: Path, data: bytes) -> bytes:
    """Return the public half that stands in the file itself, or beside it; b"" where there is none."""
    for place in (file.with_name(file.name + ".pub"), None):
        try:
            key = asyncssh.read_public_key(place) if place else asyncssh.import_public_key(data)
            return bytes(key.public_data)
        except (OSError, ValueError, asyncssh.Error):
            continue
    return b""


def _unusable(data: bytes, words: str) -> str:
    if not data.strip():
        return "is empty"
    if "assphrase" in words:
        return "has a passphrase"
    if data.startswith(b"PuTTY-User-Key-File"):
        return "is a PuTTY key; convert it: `puttygen KEY -O private-openssh -o NEW`"
    if b"sk-ssh-" in data[:200] or b"sk-ecdsa-" in data[:200] or "sk" in words.split():
        return "is a hardware key"
    if b"PRIVATE KEY" in data:
        return f"is no whole private key ({words})"
    try:
        asyncssh.import_public_key(data)
    except (ValueError, asyncssh.Error):
        return f"is no private key ({words})"
    return "is a public key"


def _certificates(path: str) -> list[asyncssh.SSHCertificate]:
    try:
        return list(asyncssh.load_certificates([str(expanded(path))]))
    except (OSError, ValueError, asyncssh.Error):
        return []


def agent_path(device: Device) -> str:
    """Return the socket of the SSH agent for a device, "" where none is to be used."""
    named = device.ssh.agent
    if named.lower() == "none":
        return ""
    if named.startswith("$"):
        return os.environ.get(named[1:].strip("{}"), "")
    return str(expanded(named)) if named not in ("", "SSH_AUTH_SOCK") else os.environ.get("SSH_AUTH_SOCK", "")


class Identities:
    """The keys for one connection: `offers` yields them one by one, and `offered` names those that were."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._agent: asyncssh.SSHAgentClient | None = None
        self.offered: list[str] = []
        names = (device.key,) if device.key else device.ssh.keys or tuple(f"~/.ssh/{name}" for name in _DEFAULTS)
        self._files = [read_key(name, device.ssh.certificates) for name in names]
        self._only_these = bool(device.key) or device.ssh.keys_only

    @property
    def named(self) -> bool:
        """Whether the inventory or the SSH configuration names a key that a file holds."""
        named = bool(self._device.key or self._device.ssh.keys)
        return named and any(file.private is not None for file in self._files)

    async def offers(self) -> AsyncIterator[asyncssh.SSHKeyPair]:
        """Yield the key pairs in OpenSSH's order: the agent's that are named, the agent's others, those of files.

        Raises: TransportError with LF705 when `key:` of the inventory names a file that is of no use.
        """
        held = {} if self._device.key and self._files[0].private else await self._held()
        if self._device.key and self._files[0].private is None and self._files[0].public not in held:
            raise TransportError(self._useless(self._files[0]))
        named = [held.pop(file.public) for file in self._files if file.public in held]
        for pair in [*named, *(() if self._only_these else held.values())]:
            self.offered.append(f"{pair.get_comment() or pair.get_algorithm()} of the SSH agent")
            yield pair
        signed = {pair.public_data for pair in named}
        for file in self._files:
            for pair in file.pairs() if file.public not in signed else ():
                self.offered.append(f"{file.path}{' with its certificate' if pair.has_cert else ''}")
                yield pair

    def close(self) -> None:
        """Close the connection to the SSH agent."""
        if self._agent is not None:
            self._agent.close()

    async def _held(self) -> dict[bytes, asyncssh.SSHKeyPair]:
        """Return the SSH agent's key pairs by public key; none where there is no agent or it does not answer."""
        path = agent_path(self._device)
        if not path:
            return {}
        try:
            self._agent = await asyncssh.connect_agent(path)
            return {bytes(pair.public_data): pair for pair in await self._agent.get_keys()}
        except (OSError, ValueError, asyncssh.Error):
            return {}

    def _useless(self, file: KeyFile) -> Finding:
        where = "the SSH agent does not hold it" if self._agent is not None else "no SSH agent answers"
        needs = {
            "has a passphrase": f"and {where}: `ssh-add {file.path}`",
            "is a hardware key": f"which only an SSH agent can sign with, and {where}: `ssh-add {file.path}`",
            "is a public key": f"and {where}: name the private key, or add that to the agent",
        }
        more = needs.get(file.problem, "")
        return finding(
            "LF705", f"the key {file.path} of {self._device.name} {file.problem}" + (f", {more}" if more else "")
        )


def named(keys: Iterable[str], most: int = 3) -> str:
    """Return the keys that were offered for a sentence."""
    listed = list(keys)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) + more) or "none"
