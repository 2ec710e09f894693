"""How many bytes are under way to a device: few where the line is short, which halves its sshd's CPU, and many on a long line.

OpenSSH offers 2 MiB per channel and spends twice the CPU when they are used.  It acknowledges once 96 KiB were consumed, so less
than that would hang.  Other servers may wait for half of what they offered (asyncssh's does), and are left alone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncssh

_SMALL = 256 << 10  # bytes
_LONG_S = 0.02  # a round trip from which on all that is offered is used at once
_GAIN = 1.5  # times the bytes a second; less is no reason for a window twice as large
_MIN_RTT = 148  # offset of tcpi_min_rtt, microseconds, in struct tcp_info of Linux


def round_trip_s(connection: asyncssh.SSHClientConnection, measured_s: float) -> float:
    """Return a connection's round trip in seconds: the kernel's, or, through another program or host, `measured_s`.

    What is measured includes the start of a process on the device, which takes longer than 20 ms on a busy one.
    """
    found = connection.get_extra_info("socket")
    try:
        info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except (AttributeError, OSError):
        return measured_s
    kernel_s = int.from_bytes(info[_MIN_RTT : _MIN_RTT + 4], "little") / 1e6
    return min(measured_s, kernel_s) if 0 < kernel_s < 60 else measured_s


class SendWindow:
    """The bytes under way on one channel; doubled as long as that carries more a second, up to what the peer offered.

    A relay (a TCP proxy, a VPN) hides the length of the line from the kernel, so that the rate decides.  asyncssh has no public
    setting for the window; where its attribute is gone, pushes are only dearer.
    """

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], round_trip: float) -> None:
        self._channel: Any = process.channel
        offered = getattr(self._channel, "_send_window", None)
        is_openssh = str(process.get_extra_info("server_version", "")).startswith("SSH-2.0-OpenSSH")
        self._offered = offered if isinstance(offered, int) and is_openssh else 0
        self.size = self._offered  # bytes; 0 = as the peer says
        self._rate = 0.0  # bytes a second with half of this size
        self._bytes, self._busy_s = 0, 0.0  # since the size changed
        if self._offered > _SMALL and round_trip < _LONG_S:
            self._channel._send_window = self.size = _SMALL

    @contextmanager
    def sending(self, count: int) -> Iterator[None]:
        """Count `count` bytes, which the block sends and waits for."""
        began = time.monotonic()
        yield
        if self.size < self._offered:
            self._count(count, time.monotonic() - began)

    def _count(self, count: int, seconds: float) -> None:
        self._bytes += count
        if self._bytes <= self.size:
            return  # they are accepted without waiting
        self._busy_s += seconds
        sent = self._bytes - self.size
        if sent < 2 * self.size:
            return
        rate = sent / max(self._busy_s, 1e-6)
        if rate < _GAIN * self._rate or self.size / rate < _LONG_S:
            self._offered = 0  # no use: it stays
            return
        self._rate, self._bytes, self._busy_s = rate, 0, 0.0
        more = min(self.size, self._offered - self.size)
        self._channel._send_window += more
        self.size += more
