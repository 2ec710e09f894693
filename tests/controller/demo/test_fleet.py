"""The embedded fleet, entered with OpenSSH's own client where there is one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import asyncssh
import pytest
import yaml
from litefleet_controller.demo import DeviceSpec, EmbeddedDevice, EmbeddedError, EmbeddedFleet
from litefleet_controller.demo.openssh_device import find_sshd
from litefleet_controller.demo.process_tree import descendants, is_running

from tests.fakes.embedded_inventory import inventory_yaml

MAY_SKIP = os.environ.get("CI") != "true"  # in CI they run, and fail, where OpenSSH is missing
NO_SSHD = MAY_SKIP and find_sshd() is None
KINDS = ["asyncssh", pytest.param("sshd", marks=pytest.mark.skipif(NO_SSHD, reason="no sshd here"))]
needs_ssh = pytest.mark.skipif(MAY_SKIP and shutil.which("ssh") is None, reason="no OpenSSH client here")


async def login(device: EmbeddedDevice, command: str, data: bytes = b"") -> tuple[int | None, bytes, bytes]:
    """Log in with the real ssh client, the host key checked; return exit code, stdout, stderr."""
    known = device.place.folder / "known_hosts"
    known.write_text(f"[{device.host}]:{device.port} {device.host_public_key}\n")
    argv = [
        "ssh",
        "-F",
        "none",
        "-p",
        str(device.port),
        "-i",
        str(device.key_path),
        "-o",
        f"UserKnownHostsFile={known}",
    ]
    argv += ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    child = await asyncio.create_subprocess_exec(
        *argv, f"{device.user}@{device.host}", command, stdin=-1, stdout=-1, stderr=-1
    )
    out, err = await asyncio.wait_for(child.communicate(data), 60)
    return child.returncode, out, err


async def greeting(device: EmbeddedDevice) -> bytes:
    reader, writer = await asyncio.open_connection(device.host, device.port)
    try:
        return await asyncio.wait_for(reader.readline(), 1)
    finally:
        writer.close()


@needs_ssh
@pytest.mark.parametrize("kind", KINDS)
async def test_a_login_has_its_own_environment_streams_and_exit_code(kind: str, tmp_path: Path) -> None:
    sent = os.urandom(3_000_000)
    async with EmbeddedFleet(tmp_path, [DeviceSpec("d", kind, env={"LAB_WORD": "two words"})]) as fleet:
        device = fleet.devices["d"]
        code, out, err = await login(device, 'cat; echo "$HOME|$LAB_WORD" >&2; exit 7', sent)
    assert code == 7
    assert out == sent
    assert err.decode() == f"{tmp_path / 'd' / 'home'}|two words\n"


@needs_ssh
@pytest.mark.parametrize("kind", KINDS)
async def test_a_device_without_python_has_tools_and_no_python(kind: str, tmp_path: Path) -> None:
    async with EmbeddedFleet(tmp_path, [DeviceSpec("bare", kind, without_python=True)]) as fleet:
        ask = "for p in python3 python3.11 python3.13 python perl; do command -v $p; done; uname -s; echo hi | wc -c"
        code, out, err = await login(fleet.devices["bare"], ask)
    assert (code, out.split(), err) == (0, [os.uname().sysname.encode(), b"3"], b"")


@needs_ssh
@pytest.mark.parametrize("kind", KINDS)
async def test_another_key_is_refused(kind: str, tmp_path: Path) -> None:
    async with EmbeddedFleet(tmp_path / "a", [DeviceSpec("d", kind)]) as fleet:
        device = fleet.devices["d"]
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(device.key_path))
        device.key_path.chmod(0o600)
        code, out, err = await login(device, "echo in")
    assert (code, out) == (255, b"")
    assert b"Permission denied" in err


async def test_a_silent_device_accepts_and_says_nothing(tmp_path: Path) -> None:
    async with EmbeddedFleet(tmp_path, [DeviceSpec("mute", "silent")]) as fleet:
        with pytest.raises(TimeoutError):
            await greeting(fleet.devices["mute"])
        await fleet.kill("mute")
        with pytest.raises(OSError, match=r"Connect call failed|refused"):
            await greeting(fleet.devices["mute"])


@needs_ssh
@pytest.mark.parametrize("kind", KINDS)
async def test_kill_cuts_a_running_command_and_restart_keeps_address_key_and_files(kind: str, tmp_path: Path) -> None:
    async with EmbeddedFleet(tmp_path, [DeviceSpec("d", kind)]) as fleet:
        before = fleet.devices["d"]
        mark = before.place.home / "pid"
        running = asyncio.create_task(login(before, f"echo $$ > {mark}; sleep 600"))
        while not (mark.exists() and mark.read_text().strip()):
            await asyncio.sleep(0.05)
        await fleet.kill("d")
        code, _, _ = await asyncio.wait_for(running, 10)
        assert code == 255
        assert not is_running(int(mark.read_text()))
        await fleet.restart("d")
        after = fleet.devices["d"]
        assert (after.port, after.host_public_key) == (before.port, before.host_public_key)
        assert (await login(after, f"cat {mark}"))[1].decode() == mark.read_text()


async def test_twenty_devices_start_together_and_stop_leaves_no_process(tmp_path: Path) -> None:
    async with EmbeddedFleet(tmp_path, [DeviceSpec(f"d{n:02}") for n in range(20)]) as fleet:
        pids = [d.process.pid for d in fleet.devices.values() if d.process.pid is not None]
        assert len({d.port for d in fleet.devices.values()}) == 20
        for device in fleet.devices.values():
            assert (await greeting(device)).startswith(b"SSH-")
    assert not [pid for pid in pids if is_running(pid)]
    assert not set(pids) & set(descendants(os.getpid()))


async def test_the_inventory_names_every_device_and_how_to_reach_it(tmp_path: Path) -> None:
    spec = DeviceSpec("d", "silent", python="/opt/py/bin/python3", settings={"tags": ["canary"]})
    async with EmbeddedFleet(tmp_path, [spec]) as fleet:
        device = fleet.devices["d"]
        entry = yaml.safe_load(inventory_yaml(fleet))["devices"]["d"]
    assert entry == {
        "host": "127.0.0.1",
        "port": device.port,
        "user": device.user,
        "key": str(tmp_path / "id_ed25519"),
        "root": str(tmp_path / "d/home/.local/share/litefleet"),
        "host_key": device.host_public_key,
        "python": "/opt/py/bin/python3",
        "tags": ["canary"],
    }


def test_an_unknown_kind_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        EmbeddedError, match=r"Device d: kind 'telnet' is unknown\. Available: ssh, sshd, asyncssh, silent"
    ):
        EmbeddedFleet(tmp_path, [DeviceSpec("d", "telnet")])


_INTERRUPTED = """
import asyncio, pathlib, sys
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
async def main():
    async with EmbeddedFleet(pathlib.Path(sys.argv[1]), [DeviceSpec("a"), DeviceSpec("b")]) as fleet:
        print(*[d.process.pid or "" for d in fleet.devices.values()], flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_ctrl_c_stops_the_fleet(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _INTERRUPTED, str(tmp_path), stdout=-1, stderr=-1, env=env
    )
    assert child.stdout is not None
    pids = [int(word) for word in (await asyncio.wait_for(child.stdout.readline(), 30)).split()]
    child.send_signal(2)
    await asyncio.wait_for(child.communicate(), 30)
    assert not [pid for pid in pids if is_running(pid)]
