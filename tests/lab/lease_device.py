"""A real device with a real controller on one machine, and one of them stops or the network drops what is sent.

Run as root in a network namespace of its own (`unshare --net`): python -m tests.lab.lease_device FOLDER KIND LEASE_S FIRST
KIND: "to the device", "to the controller", "both" (nftables drops the packets of that direction), "controller stopped",
"agent stopped", "clock forward" and "clock back" (the device's wall clock changes by years, and the controller stops).
Prints JSON: how many seconds after the activation the release was reverted and the store's lock was free.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from litefleet_agent.releases.journal import Journal, State
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.store import Store, StoreError
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.agent_client import AgentClient, Request
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_inventory import load as load_inventory
from litefleet_inventory.model import Device, Inventory

from tests.agent.support.release_fixtures import opened, proven
from tests.fakes.embedded_inventory import inventory_yaml

RULES = {
    "to the device": "tcp dport {port} drop",
    "to the controller": "tcp sport {port} drop",
}
LIMIT_S = 60.0
# The device's own Python takes its wall clock from here: the seconds in a file beside its environment are added to the real time.
WALL_CLOCK = """
import os, sys, time
real, file = time.time, os.path.join(sys.prefix, "clock")
def wall():
    with open(file) as given:
        return real() + float(given.read())
time.time = wall
"""
CLOCKS = {"clock forward": 73 * 365 * 86400.0, "clock back": -50 * 365 * 86400.0}


async def controller(inventory: str, releases: list[str], lease_s: float) -> None:
    """Activate the releases, the last one under a lease, and then wait for ever."""
    loaded: Inventory = load_inventory(Path(inventory))
    device: Device = loaded.devices[0]
    transport = SshTransport(HostKeys([], Path(inventory).with_name("pins"), True), loaded.jump_chain)
    archive = agent_archive()
    command, opening = AgentClient.opening(archive, device.root, device.python)
    async with transport.open(device, command) as channel:
        client = AgentClient(channel)
        await client.start(opening, archive, 60)
        for release in releases[:-1]:
            await client.ask([Request("activate", {"release": release})], 60)
        await client.ask([Request("activate", {"release": releases[-1], "lease_s": lease_s})], 60)
        print("activated", flush=True)
        await asyncio.sleep(3600)


def drop(kind: str, port: int) -> None:
    rules = "\n".join(RULES[one].format(port=port) for one in RULES if kind in (one, "both"))
    table = f"table inet lease {{\nchain out {{\ntype filter hook output priority 0;\n{rules}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)


def sessions() -> list[int]:
    """Return the processes that serve a session in this network namespace, other than the lease watchdog."""
    ours, found = os.readlink("/proc/self/ns/net"), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if (folder / "comm").read_text() == "litefleet-lease\n":
                continue
            if os.readlink(folder / "ns/net") == ours and any(b"sys.version_info<(3,7)" in word for word in words[:4]):
                found.append(int(folder.name))
        except OSError:
            continue
    assert found
    return found


def clocked_python(folder: Path) -> str:
    """Return the interpreter of an environment whose wall clock the test can set."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "sitecustomize.py").write_text(WALL_CLOCK)
    (folder / "clock").write_text("0")
    return str(folder / "bin/python")


async def until(happened: Callable[[], bool]) -> float | None:
    begun = time.monotonic()
    while not happened():
        if time.monotonic() - begun > LIMIT_S:
            return None
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


def free(root: Path) -> bool:
    store = Store(str(root))
    try:
        store.lock(0)
    except StoreError:
        return False
    store.unlock()
    return True


async def main(folder: Path, kind: str, lease_s: float, first: bool) -> dict[str, object]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    python = clocked_python(folder / "python")
    async with EmbeddedFleet(folder / "fleet", [DeviceSpec("a", python=python)]) as fleet:
        device = fleet.devices["a"]
        store = opened(device.root, Clock())
        releases = [proven(store, note) for note in ("1", "2")][1 if first else 0 :]
        store.unlock()
        inventory = folder / "fleet.yaml"
        inventory.write_text(inventory_yaml(fleet))
        argv = [sys.executable, "-m", __spec__.name, "controller", str(inventory), json.dumps(releases), str(lease_s)]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        stopped: list[int] = []
        try:
            assert await process.stdout.readline() == b"activated\n"
            begun = time.monotonic()
            if kind in ("controller stopped", *CLOCKS):
                process.send_signal(signal.SIGSTOP)
                (folder / "python/clock").write_text(str(CLOCKS.get(kind, 0)))
            elif kind == "agent stopped":
                for pid in sessions():
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
            else:
                drop(kind, device.port)
            assert store.link("cls", "current") == releases[-1]
            await until(lambda: store.link("cls", "current") == ("" if first else releases[0]))
            reverted = time.monotonic() - begun
            held = not free(device.root)
            journal = Journal(str(device.root))  # says so just after the link does
            await until(lambda: journal.read().operations[-1].state is State.UNDONE)
            shift = journal.read().operations[-1].at - time.time()
            assert abs(shift - CLOCKS.get(kind, 0)) < 86400, shift
            if kind in ("agent stopped", *CLOCKS):
                ended = None
            else:
                await until(lambda: free(device.root))
                ended = time.monotonic() - begun
            return {"reverted_s": reverted, "held": held, "free_s": ended, "current": store.link("cls", "current")}
        finally:
            process.kill()
            await process.wait()
            for pid in stopped:  # a stopped process gets no hang-up
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "controller":
        asyncio.run(controller(sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])))
    else:
        print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4] == "first"))))
