"""Logs in for provisioning, and runs commands as root there: the one module that uses fabric and paramiko.

Whether a host key is trusted is decided by `devices.transport.hostkeys`, as for the fleet's own connections.
"""

from __future__ import annotations

import logging
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh
import paramiko
from fabric import Config, Connection
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ..common.errors import LitefleetError
from ..common.files import expanded
from ..common.text import sanitize
from ..devices.transport.base import TransportError, hop_device
from ..devices.transport.hostkeys import HostKeys, TrustDecision
from .carry_out import CommandResult

_LIMIT_S = 20.0  # seconds to connect, to log in, and to open a channel
_CHUNK = 64 * 1024
_KEPT = 16 * 1024  # characters of a command's output
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
    """The login for provisioning, where it is not the inventory's."""

    user: str = ""
    identity: str = ""  # path of a private key


class _Policy(paramiko.MissingHostKeyPolicy):
    """Leaves the decision to litefleet's host keys: paramiko has no known hosts of its own."""

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
        """Yield an open connection to `device`; TransportError with a finding when it fails."""
        opened: list[Connection] = []
        try:
            for hop in self._hops(device):
                opened.append(self._connect(hop_device(hop, device), opened, Admin()))
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
        try:
            self._host_keys.keep_accepted(device, decision)
        except TransportError:
            connection.close()
            raise
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
            options.update(key_filename=str(expanded(key)), allow_agent=False, look_for_keys=False)
        return options


def _refused(device: Device, admin: Admin, error: Exception) -> Finding:
    where = f"{device.host}:{device.port}"
    user = admin.user or device.user or "the current user"
    if isinstance(error, (paramiko.PasswordRequiredException, paramiko.AuthenticationException)):
        return finding("LF504", f"{where} refused {user}: {error}")
    return finding("LF501", f"{where}: {error or type(error).__name__}")


def _words(ran: CommandResult) -> str:
    """Return sudo's own words: its last lines, after a lecture that it may hold."""
    lines = [line.strip() for line in ran.err.splitlines() if line.strip()]
    return sanitize(" / ".join(lines[-3:]), 400) or f"it ended with {ran.code}"


class NotRoot(LitefleetError):
    """Root's rights are unavailable on this device."""


class SudoRemote:
    """Runs commands as root over one connection (run.Remote).

    `password` is called at most once, and only where sudo wants one.  It travels on the channel's stdin: it is in no
    command line, no environment and no log.
    """

    def __init__(self, connection: Connection, password: Callable[[], str]) -> None:
        self._connection = connection
        self._password = ""
        self._sudo = self._find_way(password)

    def run(self, command: str, data: bytes = b"", time_limit_s: float = 60.0) -> CommandResult:
        """Run a sh command as root; TransportError when the connection breaks or the time is up."""
        if not self._password:
            return self._exec(f"{self._sudo}sh -c {shlex.quote(command)}", data, time_limit_s)
        # sudo takes the first line, if it asks at all; whatever is left before the mark is not the command's.
        mark = secrets.token_hex(16)
        skip = f'while IFS= read -r line; do [ "$line" = {mark} ] && break; done; unset line; {command}'
        stdin = f"{self._password}\n{mark}\n".encode() + data
        return self._exec(f"{self._sudo}sh -c {shlex.quote(skip)}", stdin, time_limit_s)

    def _find_way(self, password: Callable[[], str]) -> str:
        if self._exec("id -u").out.strip() == "0":
            return ""
        found = self._exec("command -v sudo")
        if found.code:
            raise NotRoot("the login is not root's, and there is no sudo on the device: log in as root (--as root)")
        tried = self._exec("env LC_ALL=C sudo -n true")
        if tried.code == 0:
            return "sudo -n "
        if "password" not in tried.err:  # requiretty, a user that may do nothing: a password changes nothing
            raise NotRoot(f"sudo refuses on this device: {_words(tried)}")
        given = password()
        if not given or "\n" in given:
            raise NotRoot("sudo wants a password on this device, and none was given")
        tried = self._exec("env LC_ALL=C sudo -k -S -p '' true", f"{given}\n".encode())
        if tried.code:
            raise NotRoot(f"sudo did not take the password, or does not allow this user everything: {_words(tried)}")
        self._password = given
        return "sudo -k -S -p '' "

    def _exec(self, command: str, stdin: bytes = b"", time_limit_s: float = 60.0) -> CommandResult:
        """Run a command of the login shell; what its start-up files print is not the command's."""
        mark = secrets.token_hex(16)
        ran = self._exchanged(f"echo {mark}; {command}", stdin, time_limit_s)
        chatter, found, out = ran.out.partition(f"{mark}\n")
        return CommandResult(ran.code, out if found else chatter, ran.err)

    def _exchanged(self, command: str, stdin: bytes, time_limit_s: float) -> CommandResult:
        end = time.monotonic() + time_limit_s
        # paramiko waits for the answer to a request without a limit of its own: past it, the connection ends.
        over = threading.Timer(time_limit_s, self._connection.transport.close)
        over.daemon = True
        over.start()
        try:
            channel = self._connection.create_session()
            with channel:
                channel.settimeout(time_limit_s)
                channel.exec_command(command)
                return _exchange(channel, stdin, end)
        except TimeoutError as error:
            raise TransportError(finding("LF505", f"a command took more than {time_limit_s:.0f} s")) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            message = f"the connection broke: {error or type(error).__name__}"
            if time.monotonic() >= end:
                message = f"a command took more than {time_limit_s:.0f} s"
            raise TransportError(finding("LF505", message)) from error
        finally:
            over.cancel()


def _exchange(channel: Any, stdin: bytes, end: float) -> CommandResult:
    """Send and receive at the same time, so that neither side blocks the other."""
    left, parts = memoryview(stdin), {"out": b"", "err": b""}
    if not left:
        channel.shutdown_write()
    while not (channel.exit_status_ready() and not channel.recv_ready() and not channel.recv_stderr_ready()):
        if time.monotonic() > end:
            raise TimeoutError
        moved = _receive(channel, parts)
        if left and channel.send_ready():
            left, moved = _send(channel, left), True
        if not moved:
            time.sleep(0.01)
    _receive(channel, parts)
    texts = {name: data.decode("utf-8", "replace") for name, data in parts.items()}
    return CommandResult(channel.recv_exit_status(), texts["out"], texts["err"])


def _send(channel: Any, left: memoryview) -> memoryview:
    try:
        left = left[channel.send(bytes(left[:_CHUNK])) :]
        if not left:
            channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:  # the command ended without reading on; its exit code tells
        return memoryview(b"")
    return left


def _receive(channel: Any, parts: dict[str, bytes]) -> bool:
    moved = False
    for name, ready, read in (
        ("out", channel.recv_ready, channel.recv),
        ("err", channel.recv_stderr_ready, channel.recv_stderr),
    ):
        if ready() and (data := read(_CHUNK)):
            parts[name], moved = (parts[name] + data)[-_KEPT:], True
    return moved
