"""Logs in for a provision: fabric over paramiko, each host key judged by litefleet's own list, jump hosts included."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
from fabric import Config, Connection
from litefleet_agent.findings import Finding, finding
from litefleet_inventory import checks
from litefleet_inventory.model import Device

from ..devices.transport.base import TransportError
from ..devices.transport.hostkeys import HostKeys, TrustDecision

__all__ = ["Admin", "Login"]

_LIMIT_S = 20.0
# What paramiko may offer; those that litefleet would not trust are switched off for each connection.
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


@dataclass(frozen=True)
class Admin:
    """Who logs in to change the device, where that is not who the inventory names."""

    user: str = ""
    identity: str = ""  # path of a private key


class _Policy(paramiko.MissingHostKeyPolicy):
    """Asks litefleet whether the key is the device's: paramiko itself is told of none."""

    def __init__(self, decision: TrustDecision) -> None:
        self._decision = decision

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        shown = asyncssh.import_public_key(f"{key.get_name()} {key.get_base64()}")
        if not self._decision.trusts(shown):
            raise paramiko.SSHException("the host key is not trusted")


class Login:
    """Opens connections to a fleet's devices."""

    def __init__(self, host_keys: HostKeys, hops: Any, admin: Admin, limit_s: float = _LIMIT_S) -> None:
        self._host_keys, self._hops, self._admin, self._limit_s = host_keys, hops, admin, limit_s
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its failures come back as findings

    @contextmanager
    def open(self, device: Device) -> Iterator[Connection]:
        """Yield an open connection to `device`; TransportError with a finding when there is none to be had."""
        opened: list[Connection] = []
        try:
            for hop in self._hops(device):
                opened.append(self._connect(_as_device(hop, device), opened, Admin()))
            opened.append(self._connect(device, opened, self._admin))
            yield opened[-1]
        finally:
            for connection in reversed(opened):
                connection.close()

    def _connect(self, device: Device, before: Sequence[Connection], admin: Admin) -> Connection:
        decision = self._host_keys.decision(device)
        connection = Connection(
            device.host,
            user=admin.user or device.user or None,
            port=device.port,
            gateway=before[-1] if before else None,
            connect_timeout=int(self._limit_s),
            connect_kwargs=self._options(device, decision, admin),
            config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        )
        connection.client.set_missing_host_key_policy(_Policy(decision))
        try:
            connection.open()
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            connection.close()
            raise TransportError(decision.refused or _refused(device, admin, error)) from error
        if decision.accepted is not None:
            self._keep(device, decision.accepted, connection)
        return connection

    def _options(self, device: Device, decision: TrustDecision, admin: Admin) -> dict[str, Any]:
        unwanted = [kind for kind in _KEY_TYPES if kind not in decision.algorithms]
        options: dict[str, Any] = {
            "banner_timeout": self._limit_s,
            "auth_timeout": self._limit_s,
            "channel_timeout": self._limit_s,
            "disabled_algorithms": {"keys": unwanted},
        }
        key = admin.identity or ("" if admin.user else device.key)
        if key:
            options.update(key_filename=str(Path(key).expanduser()), allow_agent=False, look_for_keys=False)
        return options

    def _keep(self, device: Device, key: asyncssh.SSHKey, connection: Connection) -> None:
        try:
            self._host_keys.pin(device, key)
        except OSError as error:
            connection.close()
            observed = f"{device.host}:{device.port} was reached, its new key could not be kept: {error}"
            raise TransportError(finding("LF502", observed)) from error


def _as_device(hop: Device | str, behind: Device) -> Device:
    if isinstance(hop, Device):
        return hop
    user, host, port = checks.split_address(hop)
    return Device(name=hop, host=host, port=int(port or 22), user=user, key=behind.key)


def _refused(device: Device, admin: Admin, error: Exception) -> Finding:
    where = f"{device.host}:{device.port}"
    user = admin.user or device.user or "the current user"
    if isinstance(error, (paramiko.PasswordRequiredException, paramiko.AuthenticationException)):
        return finding("LF504", f"{where} refused {user}: {error}")
    return finding("LF501", f"{where}: {error or type(error).__name__}")
