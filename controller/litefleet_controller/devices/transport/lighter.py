"""What asyncssh does and a connection of ours does not need: a third of the CPU that sending a file takes, three round trips.

asyncssh has no settings for it, so methods are replaced on one connection or channel.  Where a later asyncssh has them no more,
nothing changes but the time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import asyncssh
from asyncssh.logging import SSHLogger
from asyncssh.public_key import SSHLocalKeyPair

_MSG_IGNORE = 2  # RFC 4253, section 12
_LOGIN = b"ssh-userauth"  # RFC 4252
_ASK, _SIGNED = b"\0", b"\1"  # RFC 4252, section 7: a public key comes without or with a signature


def without_ignored_packets(connection: Any) -> None:
    """Send no empty packet ahead of each packet.

    asyncssh sends one so that nobody can choose the first block that a CBC cipher encrypts with an initialization vector that
    is known (RFC 4251, section 9.3.1).  Ciphers in counter mode and authenticated ones have no such vector, and OpenSSH sends
    none either.  Not for connections that may use CBC.
    """
    send = getattr(connection, "send_packet", None)
    if send is None:
        return

    def send_packet(kind: int, *parts: bytes, **more: Any) -> None:
        if kind != _MSG_IGNORE:
            send(kind, *parts, **more)

    connection.send_packet = send_packet


def without_packet_log(sender: Any) -> None:
    """Write no log line for each packet of a connection or channel, unless somebody reads such lines."""
    if not logging.getLogger(asyncssh.__name__).isEnabledFor(logging.DEBUG):
        sender.log_sent_packet = sender.log_received_packet = _nothing


class _LevelFirst(SSHLogger):
    """A logger that writes its arguments as text only where somebody reads the line."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        if self._logger.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)


def with_log_level_first(connection: Any) -> None:
    """Make no text of a line that nobody reads: asyncssh makes it for 25 lines a login, and one for each piece of data."""
    logger = getattr(connection, "_logger", None)
    if type(logger) is SSHLogger and hasattr(logger, "_logger"):
        logger.__class__ = _LevelFirst  # those of its channels are of the same class


def with_one_keepalive_timer(connection: Any) -> None:
    """Look at the end of the keepalive's interval whether something has come meanwhile.

    asyncssh cancels the timer and sets another one whenever anything comes.
    """
    missed = getattr(connection, "_keepalive_timer_callback", None)
    interval, loop = getattr(connection, "_keepalive_interval", 0), getattr(connection, "_loop", None)
    if missed is None or loop is None or not interval or not hasattr(connection, "_reset_keepalive_timer"):
        return
    heard = loop.time()

    def hear() -> None:
        nonlocal heard
        heard = loop.time()

    def look() -> None:
        left = heard + interval - loop.time()
        if left > 0:
            connection._keepalive_timer = loop.call_later(left, look)
        else:
            missed()

    connection._reset_keepalive_timer, connection._keepalive_timer_callback = hear, look


def with_signature_at_once(connection: Any) -> None:
    """Log in by signing at once: two round trips less than to ask which methods there are, and then whether the key is known.

    Only with keys that this process holds: an SSH agent may ask a person for each signature.
    """
    send = getattr(connection, "send_userauth_request", None)
    if send is None or getattr(connection, "_auth_methods", None) != [b"none"]:
        return
    connection._auth_methods = [b"publickey"]

    async def send_userauth_request(method: bytes, *parts: bytes, **more: Any) -> None:
        pair = getattr(connection._auth, "_keypair", None)
        if method == b"publickey" and parts[:1] == (_ASK,) and isinstance(pair, SSHLocalKeyPair):
            parts, more = (_SIGNED, *parts[1:]), {"key": pair, "trivial": False}
        await send(method, *parts, **more)

    connection.send_userauth_request = send_userauth_request


def with_login_before_accept(connection: Any) -> asyncio.Event:
    """Send the login right behind the request for the login service: one round trip less than to wait for its acceptance.

    A server reads both in their order; OpenSSH and dropbear do.  The host's key has been checked by then.  Returns the event of
    the acceptance: the server names the signatures that it accepts before it, which the choice of an RSA signature needs.
    """
    accepted = asyncio.Event()
    request, begin = getattr(connection, "send_service_request", None), getattr(connection, "try_next_auth", None)
    if request is None or begin is None or not hasattr(connection, "_auth_in_progress"):
        accepted.set()
        return accepted

    def send_service_request(service: bytes) -> None:
        request(service)
        if service == _LOGIN:
            connection._auth_in_progress = True
            connection.try_next_auth = try_next_auth
            begin()

    def try_next_auth(**more: Any) -> None:
        if accepted.is_set() or more:
            begin(**more)
        accepted.set()  # the first call without arguments is the acceptance: the login is under way

    connection.send_service_request = send_service_request
    return accepted


def _nothing(*packet: object, **more: object) -> None:
    """Log nothing."""
