"""Sends a channel's data as sealed packets: asyncssh copies each byte eleven times on its way to the socket, this three times.

As in `lighter`, this replaces a method of one channel.  Where a later asyncssh has another way to send, or a connection another
cipher than AES-GCM, asyncssh's own method sends everything.
"""

from __future__ import annotations

import os
import time
from typing import Any

from asyncssh.constants import MSG_CHANNEL_DATA
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_TAG = 16  # bytes, of AES-GCM
_LENGTH = 4  # bytes, in front of a packet (RFC 4253, section 6)
_LEAST_PADDING = 4  # bytes
_OF_CONNECTION = (
    "_send_encryption",
    "_send_seq",
    "_send_enchdrlen",
    "_send_blocksize",
    "_rekey_bytes",
    "_rekey_bytes_sent",
    "_rekey_seconds",
    "_kex_complete",
    "_auth_complete",
    "_compressor",
    "_send",
)
_OF_CHANNEL = ("_send_buf", "_send_buf_len", "_send_window", "_send_pktsize", "_send_chan", "_flush_send_buf")
_OF_CIPHER = ("_key", "_iv", "_update_iv")


def with_sealed_data(connection: Any, channel: Any) -> None:
    """Send this channel's data with fewer copies, as many packets at once as the peer's window takes."""
    if not all(hasattr(connection, name) for name in _OF_CONNECTION):
        return
    if not all(hasattr(channel, name) for name in _OF_CHANNEL) or not hasattr(AESGCM, "encrypt_into"):
        return
    flush, sender = channel._flush_send_buf, _Sender(connection, channel)

    def send_and_flush() -> None:
        sender.send()
        flush()  # what is left, and the pause or the end behind it

    channel._flush_send_buf = send_and_flush


class _Sender:
    """Sends what waits on one channel, where it is plain data and nothing else is due on the connection."""

    def __init__(self, connection: Any, channel: Any) -> None:
        self._connection, self._channel = connection, channel
        self._encryption: object = None  # of which `_seal` is, where it is one of AES-GCM; others begin with new keys
        self._seal: AESGCM | None = None

    def send(self) -> None:
        """Seal and send as much as may be sent now."""
        channel = self._channel
        while channel._send_buf and channel._send_window and channel._send_buf[0][1] is None and self._may_send():
            piece: bytearray = channel._send_buf[0][0]
            count = min(len(piece), channel._send_window)
            with memoryview(piece) as data:
                self._connection._send(self._sealed(data, count))
            if count == len(piece):
                del channel._send_buf[0]
            else:
                del piece[:count]
            channel._send_buf_len -= count
            channel._send_window -= count

    def _may_send(self) -> bool:
        connection = self._connection
        if not connection._kex_complete or not connection._auth_complete or connection._compressor:
            return False
        if connection._rekey_bytes_sent >= connection._rekey_bytes:
            return False
        if connection._rekey_seconds and time.monotonic() >= connection._rekey_time:
            return False
        if self._encryption is not connection._send_encryption:
            self._encryption, self._seal = connection._send_encryption, _seal_of(connection._send_encryption)
        return self._seal is not None and self._channel._send_chan is not None

    def _sealed(self, data: memoryview, count: int) -> bytearray:
        """Return `count` bytes as packets (RFC 4254, section 5.2; RFC 5647), each with its own nonce."""
        connection, channel = self._connection, self._channel
        seal, cipher, block = self._seal, connection._send_encryption._cipher, connection._send_blocksize
        assert seal is not None
        recipient = bytes((MSG_CHANNEL_DATA,)) + channel._send_chan.to_bytes(4, "big")
        out, at = bytearray(), 0
        for start in range(0, count, channel._send_pktsize):
            size = min(channel._send_pktsize, count - start)
            head = recipient + size.to_bytes(4, "big")
            padding = -(connection._send_enchdrlen + len(head) + size) % block
            padding += block if padding < _LEAST_PADDING else 0
            with data[start : start + size] as part:
                packet = b"".join((bytes((padding,)), head, part, os.urandom(padding)))
            length = len(packet).to_bytes(_LENGTH, "big")
            end = at + _LENGTH + len(packet) + _TAG
            if not out:  # all packets but the last are of one size
                out = bytearray((end - at) * -(-count // channel._send_pktsize))
            out[at : at + _LENGTH] = length
            with memoryview(out) as view:
                seal.encrypt_into(cipher._iv, packet, length, view[at + _LENGTH : end])
            cipher._update_iv()
            connection._send_seq = (connection._send_seq + 1) & 0xFFFFFFFF
            connection._rekey_bytes_sent += len(packet)
            at = end
        del out[at:]
        return out


def _seal_of(encryption: object) -> AESGCM | None:
    """Return the cipher of asyncssh's encryption of packets; None where it is not AES-GCM."""
    cipher = getattr(encryption, "_cipher", None)
    known = type(cipher).__name__ == "GCMCipher" and all(hasattr(cipher, name) for name in _OF_CIPHER)
    return AESGCM(cipher._key) if known else None  # type: ignore[union-attr]
