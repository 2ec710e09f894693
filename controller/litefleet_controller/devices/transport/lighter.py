"""What asyncssh does for each packet and a connection of ours does not need: a third of the CPU that sending a file takes.

asyncssh has no settings for it, so two of its methods are replaced on one connection or channel.  Where a later asyncssh has
them no more, nothing changes but the CPU time.
"""

from __future__ import annotations

import logging
from typing import Any

import asyncssh

_MSG_IGNORE = 2  # RFC 4253, section 12


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


def _nothing(*packet: object, **more: object) -> None:
    """Log nothing."""
