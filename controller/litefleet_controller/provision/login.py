"""Logs in for provisioning, by the rules of the fleet's own connections: the one module that opens connections with fabric.

Whether a host key is trusted is decided by `devices.transport.hostkeys`, which keys are offered by
`devices.transport.identities`; ProxyCommand, HostKeyAlias and the rest of the SSH configuration hold here too.  What paramiko
cannot do is said: host certificates, SHA-1 signatures and SHA-1 key exchange.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncssh
import paramiko
from fabric import Config, Connection
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ..devices.transport.base import CIPHERS, KEX, LEGACY, TransportError, hop_device
from ..devices.transport.failures import address_of, look_again
from ..devices.transport.hostkeys import HostKeys, TrustDecision
from ..devices.transport.ssh_config import proxy_of
from .keys import FleetKeys

_LIMIT_S = 20.0  # seconds to connect, to log in, and to open a channel
# What paramiko may offer; what litefleet would not trust or use unasked is switched off for each connection.
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
    "ssh-dss",
)
_OLD_CIPHERS = ("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc")
_OLD_KEX = (
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group-exchange-sha1",
)


@dataclass(frozen=True)
class Admin:
    """The login for provisioning, where it is not the inventory's."""

    user: str = ""
    identity: str = ""  # path of a private key

    def applied(self, device: Device) -> Device:
        """Return a device with this login; another user's key is not the inventory's."""
        key = self.identity or ("" if self.user else device.key)
        return replace(device, user=self.user or device.user or getpass.getuser(), key=key)


class _Policy(paramiko.MissingHostKeyPolicy):
    """Leaves the decision to litefleet's host keys: paramiko has no known hosts of its own."""

    def __init__(self, decision: TrustDecision) -> None:
        self._decision = decision

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if not self._decision.trusts(_public(key)):
            raise paramiko.SSHException("the host key is not trusted")


def _public(key: paramiko.PKey) -> asyncssh.SSHKey:
    return asyncssh.import_public_key(f"{key.get_name()} {key.get_base64()}")


def shown_fingerprint(connection: Connection) -> str:
    """Return the fingerprint of the host key that an open connection was made with."""
    return str(_public(connection.transport.get_remote_server_key()).get_fingerprint())


class Login:
    """Opens connections to a fleet's devices."""

    def __init__(self, host_keys: HostKeys, hops: Any, admin: Admin, limit_s: float = _LIMIT_S) -> None:
        self._host_keys, self._hops, self._admin, self._limit_s = host_keys, hops, admin, limit_s
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its failures come back as findings

    @contextmanager
    def open(self, device: Device) -> Iterator[Connection]:
        """Yield an open connection to `device`; TransportError with a finding when it fails."""
        opened: list[Connection] = []
        with ExitStack() as stack:
            for hop in self._hops(device):
                opened.append(self._connect(Admin().applied(hop_device(hop, device)), opened, stack))
            yield self._connect(self._admin.applied(device), opened, stack)

    def _connect(self, device: Device, before: Sequence[Connection], stack: ExitStack) -> Connection:
        decision, keys = self._host_keys.decision(device), FleetKeys(device, device.user)
        proxy = stack.enter_context(proxy_of(device))
        connection = Connection(
            device.host,
            user=device.user,
            port=device.port,
            gateway=before[-1] if before else None,
            connect_timeout=int(self._limit_s),
            connect_kwargs=self._options(device, decision, keys),
            config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        )
        stack.callback(connection.close)
        connection.client.set_missing_host_key_policy(_Policy(decision))
        try:
            if proxy.command:
                connection.connect_kwargs["sock"] = stack.enter_context(_piped(proxy.command))
            connection.open()
        except paramiko.AuthenticationException as error:
            raise TransportError(keys.refused()) from error
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            found = _untrusted(device, decision) or proxy.failure(device, _failure(device, before, error))
            if found.code == "LF501" and not before and not proxy.command and isinstance(error, paramiko.SSHException):
                found = asyncio.run(_look_again(device, decision, self._limit_s)) or found
            raise TransportError(found) from error
        self._host_keys.keep_accepted(device, decision)
        return connection

    def _options(self, device: Device, decision: TrustDecision, keys: FleetKeys) -> dict[str, Any]:
        unwanted = {"keys": [kind for kind in _KEY_TYPES if kind not in decision.algorithms], "kex": list(_OLD_KEX)}
        if not device.legacy:
            unwanted["ciphers"] = list(_OLD_CIPHERS)
        return {
            "auth_strategy": keys,
            "banner_timeout": self._limit_s,
            "auth_timeout": self._limit_s,
            "channel_timeout": self._limit_s,
            "disabled_algorithms": unwanted,
        }


@contextmanager
def _piped(command: Sequence[str]) -> Iterator[socket.socket]:
    """Yield a socket to a ProxyCommand; paramiko's own class for it takes its end for silence."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                list(command), stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True
            )
        try:
            yield ours
        finally:
            process.terminate()
            process.wait()


def _untrusted(device: Device, decision: TrustDecision) -> Finding | None:
    """Return why a host key was refused; provision cannot check a host certificate."""
    refused = decision.refused
    if refused is None or decision.known or not decision.is_known:
        return refused
    return finding(
        refused.code,
        f"{address_of(device)} is known by an authority's certificate only, which provision cannot check (paramiko knows no host "
        f"certificates): pin its key with `litefleet accept-key {device.name}`",
    )


def _failure(device: Device, before: Sequence[Connection], error: Exception) -> Finding:
    where = address_of(device)
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return _cannot(device, f"{where}: {error}")
    if isinstance(error, paramiko.ChannelException) and before:
        over = f"the jump host {before[-1].host}:{before[-1].port}"
        if error.code == 1:  # RFC 4254, 5.1: administratively prohibited
            return finding("LF512", f"{over} refuses to forward to {where}: administratively prohibited ({error.text})")
        return finding("LF501", f"{over} cannot reach {where}: {error.text}")
    return finding("LF501", f"{where}: {error or type(error).__name__}")


def _cannot(device: Device, observed: str) -> Finding:
    """Return LF511 with what is left to do where paramiko lacks an algorithm."""
    if not device.legacy:
        observed += "; `legacy: true` for this device permits old ones"
    return finding(
        "LF511",
        f"{observed}; provision (paramiko {paramiko.__version__}) has no SHA-1 at all: `litefleet provision --dry-run` shows the "
        "commands, to be run on the device by hand, and rollouts work without the service",
    )


async def _look_again(device: Device, decision: TrustDecision, limit_s: float) -> Finding | None:
    ours = {"key exchange": KEX, "host key": [a for a in decision.algorithms if a not in LEGACY]}
    found = await look_again(device, None, {**ours, "encryption": CIPHERS}, limit_s)
    return _cannot(device, found.observed) if found is not None and found.code == "LF511" else found
