"""The resident service as a device has it: from the real .pyz, and a newer one that takes over under load."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest
from litefleet_agent.service.history import read_history
from litefleet_controller.devices.agent_archive import agent_archive

from tests.agent.support.service_process import Device, Load, Manager, Service
from tests.conftest import lite_environment, paddle_goldens, raw_nb

pytestmark = pytest.mark.toolchain


def put(root: Path, data: bytes) -> str:
    """Leave an agent where a session leaves it, under the fixed name too, and return its SHA-256."""
    folder = root / "agent"
    folder.mkdir(exist_ok=True)
    sha = hashlib.sha256(data).hexdigest()
    (folder / f"{sha}.pyz").write_bytes(data)
    link(root, f"{sha}.pyz")
    return sha


def link(root: Path, name: str) -> None:
    new = root / "agent" / "new"
    new.symlink_to(name)
    new.replace(root / "agent" / "litefleet-agent.pyz")


def test_a_newer_agent_takes_over_without_a_lost_request(tmp_path: Path) -> None:
    goldens = paddle_goldens("cls")
    device = Device(tmp_path / "root", lite_environment())
    release = device.release(raw_nb("cls", "x86"), goldens)
    device.activate(release)
    old = put(device.root, agent_archive().data)
    argv = ["-Es", str(device.root / "agent" / "litefleet-agent.pyz")]
    with Manager(tmp_path) as manager, Service(device, argv, NOTIFY_SOCKET=manager.path) as service:
        manager.until("READY=1")
        status = service.status()
        assert (status["version"], status["health"]) == (old, "ok")
        with Load(service, goldens) as load:
            load.more(20)
            link(device.root, "nowhere.pyz")  # neither what is not there,
            service.signal(signal.SIGHUP)
            (device.root / "agent" / f"{'0' * 64}.pyz").write_bytes(agent_archive().data[:-100])  # nor half of one
            link(device.root, f"{'0' * 64}.pyz")
            service.signal(signal.SIGHUP)
            load.more(20)
            new = put(device.root, agent_archive().data.replace(b"/usr/bin/env python3\n", b"/usr/bin/python3\n", 1))
            os.unlink(device.root / "agent" / f"{old}.pyz")  # cleared away: the old one needs nothing of it any more
            service.signal(signal.SIGHUP)
            manager.until("RELOADING=1")
            manager.until("READY=1")
            load.more(20)
            load.end()
        assert (load.wrong, load.lost, load.refused) == ([], 0, {})
        assert set(load.releases) == {release}
        status = service.status()
        assert (status["version"], status["pid"]) == (new, service.process.pid)
        assert len([output for output in manager.heard if output.startswith("RELOADING=1")]) == 1
        assert service.stop() == 0
    entries = read_history(str(device.root)).entries
    assert [entry["kind"] for entry in entries] == ["started", "switched", "stopped", "started", "switched", "stopped"]
