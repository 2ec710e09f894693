"""The lab's own smoke test: its devices are what they claim to be, and they leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.lab.arm_devices import LabDevice, lab_device, why_not
from tests.lab.rootfs import AARCH64

pytestmark = pytest.mark.lab

ASK = "import struct,platform,numpy; print(platform.machine(), struct.calcsize('P') * 8, numpy.arange(5).sum())"


def check(device: LabDevice, machine: str, bits: int, part: str) -> None:
    said = device.ssh("uname -m; hostname; cat")
    assert (said.returncode, said.stdout.decode().split()) == (0, [machine, f"{machine}-{device.server}"]), said
    answer = device.ssh(f'python3 -c "{ASK}"')
    assert answer.stdout.decode().split() == [machine, str(bits), "10"], answer
    assert f"CPU part\t: {part}" in device.ssh("cat /proc/cpuinfo").stdout.decode()


def test_an_aarch64_device_logs_in_and_runs_python(aarch64_device: LabDevice) -> None:
    check(aarch64_device, "aarch64", 64, "0xd08")


def test_an_armv7_device_logs_in_and_runs_python(armv7_device: LabDevice) -> None:
    check(armv7_device, "armv7l", 32, "0xc07")


def test_a_device_takes_a_push_without_sftp(armv7_device: LabDevice) -> None:
    sent = os.urandom(1 << 20)
    got = armv7_device.ssh("cat > /tmp/pushed && cat /tmp/pushed", stdin=sent)
    assert got.stdout == sent, got.stderr


def test_a_stopped_device_leaves_no_mount_and_no_file() -> None:
    if why_not():
        lacking(why_not())
    with lab_device(AARCH64, "dropbear") as device:
        folder = device.log.parent
        device.ssh("echo here > /root/mark")
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not Path(f"/proc/{device.pid}").exists()
    with lab_device(AARCH64, "dropbear") as again:
        assert again.ssh("ls /root").stdout == b""
