"""How many bytes are under way: few at first, more as long as that is faster, never more than the peer offered."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from litefleet_controller.devices.transport import window
from litefleet_controller.devices.transport.window import SendWindow

OFFERED = 2 << 20


def opened(round_trip: float, server: str = "SSH-2.0-OpenSSH_9.2") -> tuple[SendWindow, Any]:
    channel = SimpleNamespace(_send_window=OFFERED)
    process: Any = SimpleNamespace(channel=channel, get_extra_info=lambda name, default="": server)
    return SendWindow(process, round_trip), channel


def pushed(monkeypatch: pytest.MonkeyPatch, line_s: float, rate: float, size: int = 40 << 20) -> int:
    """Push over a line whose length the kernel does not know; return the window at the end."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    sender, _ = opened(0.001)
    for _ in range(size // window._SMALL * 2):
        with sender.sending(window._SMALL // 2):
            now += window._SMALL / 2 / min(rate, sender.size / line_s)
    return sender.size


def test_all_that_is_offered_on_a_long_line_and_little_on_a_short_one() -> None:
    assert (opened(0.3)[0].size, opened(0.3)[1]._send_window) == (OFFERED, OFFERED)
    assert (opened(0.001)[0].size, opened(0.001)[1]._send_window) == (256 << 10, 256 << 10)
    assert opened(0.001, "SSH-2.0-dropbear")[1]._send_window == OFFERED


@pytest.mark.parametrize(
    ("line_s", "rate", "size"),
    [
        (0.3, 1e9, OFFERED),  # long and wide: up to what is offered
        (0.3, 1.25e6, 512 << 10),  # 10 Mbit/s: 375 kB are under way at most
        (0.001, 50e6, 256 << 10),  # short: the device's CPU is the limit
        (0.02, 125e3, 512 << 10),  # 1 Mbit/s: one attempt
    ],
)
def test_it_grows_as_long_as_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, line_s: float, rate: float, size: int
) -> None:
    assert pushed(monkeypatch, line_s, rate) in (size, 2 * size)
