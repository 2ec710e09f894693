"""How jump hosts are written, and in which words a connection that can't be made is reported."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from litefleet_controller.devices.transport.base import TransportError
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_inventory.model import Device, Inventory


def refusal(folder: Path, device: Device, accept_new: bool = False) -> str:
    """Return what is said of a device that can't be reached."""
    transport = SshTransport(HostKeys([], folder / "pins", accept_new), Inventory((device,)).jump_chain)

    async def connect() -> None:
        async with transport.open(device, "true"):
            pass

    with pytest.raises(TransportError) as caught:
        asyncio.run(connect())
    assert caught.value.found.code == "LF501"
    return caught.value.found.observed


def closed_port(address: str) -> int:
    """Return a port on which nobody listens."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
            return int(probe.getsockname()[1])
    except OSError:
        pytest.skip(f"this machine has no {address}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_closed_port_is_a_refused_connection(host: str, tmp_path: Path) -> None:
    port = closed_port("127.0.0.1")
    seen = refusal(tmp_path, Device(name="d", host=host, port=port))
    assert seen.startswith(f"{host}:{port}: connection refused")
    assert "Errno" not in seen
    assert "(" not in seen


@pytest.mark.parametrize("user", ["", "me@"])
@pytest.mark.parametrize(("address", "written"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")])
def test_a_jump_host_with_a_port_is_dialled_there(user: str, address: str, written: str, tmp_path: Path) -> None:
    port = closed_port(address)
    device = Device(name="d", host="192.0.2.1", jump=f"{user}{written}:{port}")
    assert refusal(tmp_path, device) == f"{address}:{port}: connection refused"


@pytest.mark.parametrize(
    "jump",
    ["me@gw:ssh", "me@gw:0", "me@gw:65536", "me@gw:", "me@[::1", "me@[::1]x", "me@[::1]22", "[::1]]:22", "me@", "gw:²"],
)
def test_a_jump_host_that_is_written_wrong_is_a_sentence(jump: str, tmp_path: Path) -> None:
    seen = refusal(tmp_path, Device(name="d", host="192.0.2.1", jump=jump))
    assert seen.startswith(f"the jump host {jump!r} of d cannot be used: ")
    assert len(seen) > len(f"the jump host {jump!r} of d cannot be used: ")


@pytest.mark.parametrize("through", ["the device", "its jump host"])
def test_the_ssh_configuration_does_not_change_a_connection_by_itself(
    through: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says of a device is taken over where the inventory leaves it open, by `ssh_config` alone."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  HostName 192.0.2.7\n  ProxyCommand echo wrong; exit 1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    port = closed_port("127.0.0.1")
    jump = f"127.0.0.1:{port}" if through == "its jump host" else ""
    device = Device(name="d", host="192.0.2.1" if jump else "127.0.0.1", port=port, jump=jump)
    assert refusal(tmp_path, device).startswith(f"127.0.0.1:{port}: connection refused")
