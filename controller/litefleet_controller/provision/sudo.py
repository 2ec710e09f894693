"""Runs commands as root over one connection of provision, whatever the login shell and its start-up files are."""

from __future__ import annotations

import secrets
import shlex
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko
from fabric import Connection
from litefleet_agent.findings import finding

from ..common.errors import LitefleetError
from ..common.text import sanitize
from ..devices.bootstrap import in_any_shell, lead
from ..devices.login_output import LoginOutput
from ..devices.transport.base import TransportError
from .carry_out import CommandResult

_CHUNK = 64 * 1024
_KEPT = 16 * 1024  # characters of a command's output


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
        """Run a sh command as the login's user.

        What start-up files print is not the command's, and lines that they read are not of its input.  TransportError
        with LF510 where the login starts no sh.
        """
        mark = secrets.token_hex(16)
        begin = (
            f'while IFS= read -r line; do [ "$line" = ": {mark}" ] && break; done; unset line; echo {mark}; {command}'
        )
        ran = self._exchanged(in_any_shell(begin), lead(mark) + stdin, time_limit_s)
        chatter, found, out = ran.out.partition(f"{mark}\n")
        if found:
            return CommandResult(ran.code, out, ran.err)
        said = LoginOutput(mark)
        said.take(chatter.rstrip("\n").encode())
        raise TransportError(said.ended(ran.code if ran.code >= 0 else None, ran.err))

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
    except OSError:  # the command ended without reading on; its exit code decides
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
