"""One push over long, slow and bad lines: litefleet's beside scp, sftp, rsync -z, paramiko and fabric.

    python -m bench.lines OLD.nb NEW.nb --rounds 3       # all lines at once; two minutes a round for 0.8 MB

Each line is a TCP relay on loopback before an sshd of its own: half a round trip each way, a rate, and for 1 % of the packets a
retransmission timer (200 ms and a round trip) by which everything behind waits.  It does not model TCP's congestion window.
The kernel sees loopback, so that litefleet's window has to find the line's length by the rate, as behind a VPN's relay.

"fresh": the file is not there.  "changed": the old one is there.  "same": the new one is there.  Files for ARM and for ARM
and x86 differ by 24 bytes; those of two opt versions show what a new version costs.  litefleet's agent is on the device;
litefleet hashes what came, the others do not; scp is `scp -O`.  fabric's `put` is paramiko's, after a look at the target.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import NamedTuple

import asyncssh
import fabric
import paramiko
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.agent_client import AgentClient, Request
from litefleet_controller.devices.delta import delta_request, packed_request
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshLimits, SshTransport
from litefleet_inventory.model import Device, Inventory

from bench.environments import Machine, allow_sftp
from bench.results import Figures, Results
from bench.tables import lines_table

_PACKET = 1460  # bytes
_QUEUE = 256 << 10  # bytes that a line holds beyond what is under way
_SFTP_SERVER = "/usr/lib/openssh/sftp-server"
STATES = ("fresh", "changed", "same")


class Wire(NamedTuple):
    """A line."""

    rtt_s: float
    rate: float  # bytes a second
    loss: float = 0.0  # of the packets

    def __str__(self) -> str:
        lost = f", {self.loss:.0%} lost" if self.loss else ""
        return f"{self.rtt_s * 1000:.0f} ms, {self.rate * 8 / 1e6:.0f} Mbit/s{lost}"


WIRES = [Wire(rtt / 1e3, rate * 1e6 / 8) for rate in (10, 1) for rtt in (20, 100, 300)] + [Wire(0.1, 1.25e6, 0.01)]


class Relay:
    """A TCP relay with a line's delay, rate and losses."""

    def __init__(self, wire: Wire, port: int, seed: int = 1) -> None:
        self._wire, self._target, self._dice = wire, port, random.Random(seed)
        self.port, self.passed = 0, 0
        self.turns = (
            0  # times that the client sent after the device had: round trips, as far as they follow one another
        )
        self._delivered = False  # something of the device came to the client since the client sent last

    async def start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = (self._way(reader, up_writer, True), self._way(up_reader, writer, False))
        with suppress(asyncio.CancelledError):  # the bench has ended
            await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, up_writer):
            end.transport.abort()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        wire, under_way = self._wire, deque[tuple[float, bytes]]()
        room = int(wire.rate * wire.rtt_s) + _QUEUE
        free_at = due = 0.0
        wake, held = asyncio.Event(), 0

        async def deliver() -> None:
            nonlocal held
            while True:
                while not under_way:
                    wake.clear()
                    await wake.wait()
                at, data = under_way.popleft()
                await asyncio.sleep(max(at - time.monotonic(), 0))
                held -= len(data)
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                self._delivered |= not up

        task = asyncio.create_task(deliver())
        while True:
            data = b""
            with suppress(ConnectionError):  # a client that left without a word
                data = await reader.read(8 * _PACKET)
            self.passed += len(data)
            if up and self._delivered and data:
                self.turns, self._delivered = self.turns + 1, False
            now = time.monotonic()
            free_at = max(free_at, now) + len(data) / wire.rate
            lost = any(self._dice.random() < wire.loss for _ in range(-(-len(data) // _PACKET)))
            due = max(due, free_at + wire.rtt_s / 2 + (0.2 + wire.rtt_s if lost else 0))
            under_way.append((due, data))
            held += len(data)
            wake.set()
            if not data:
                await task
                return
            while held > room:
                await asyncio.sleep(0.005)


class Job(NamedTuple):
    """What every tool needs: the device behind its relay, the files, and the folder on it."""

    device: Device
    old: Path
    new: Path
    folder: Path
    known_hosts: Path

    @property
    def ssh(self) -> list[str]:
        known = f"UserKnownHostsFile={self.known_hosts}"
        return [
            "-F",
            "none",
            "-i",
            self.device.key,
            "-o",
            known,
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "BatchMode=yes",
        ]

    @property
    def target(self) -> str:
        return f"{self.device.user}@{self.device.host}:{self.folder}/model.nb"


async def _run(*command: str, stdin: bytes = b"") -> None:
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-3, stderr=-1)
    _, said = await process.communicate(stdin)
    if process.returncode:
        raise RuntimeError(f"{command[0]}: {said.decode()[-300:]}")


async def _litefleet(job: Job) -> None:
    transport = SshTransport(
        HostKeys([], job.folder / "pins", False), Inventory((job.device,)).jump_chain, SshLimits(60, 60)
    )
    archive, name = agent_archive(), job.new.name
    command, opening = AgentClient.opening(archive, job.device.root, job.device.python)
    async with transport.open(job.device, command) as channel:
        client = AgentClient(channel)
        hello = await client.start(opening, archive, 120)
        held = hello["blobs"]
        assert isinstance(held, dict)
        if name not in held:
            made = await asyncio.to_thread(
                lambda: delta_request(hello, name, job.new) or packed_request(hello, name, job.new)
            )
            await client.ask([made or Request("put", {"sha256": name}, job.new)], 600)
        await client.stop()


async def _scp(job: Job, *options: str) -> None:
    await _run("scp", "-O", *options, *job.ssh, "-P", str(job.device.port), str(job.new), job.target)


async def _sftp(job: Job) -> None:
    where = f"{job.device.user}@{job.device.host}"
    put = f"put {job.new} {job.folder}/model.nb\n".encode()
    await _run("sftp", *job.ssh, "-P", str(job.device.port), "-s", _SFTP_SERVER, "-b", "-", where, stdin=put)


async def _rsync(job: Job) -> None:
    ssh = " ".join(["ssh", "-p", str(job.device.port), *job.ssh])
    await _run("rsync", "-z", "-e", ssh, "--inplace", "--checksum", str(job.new), job.target)


async def _paramiko(job: Job) -> None:
    def push() -> None:
        with paramiko.SSHClient() as client:
            client.load_host_keys(str(job.known_hosts))
            d = job.device
            client.connect(
                d.host, d.port, d.user, key_filename=d.key, allow_agent=False, look_for_keys=False, timeout=60
            )
            with client.open_sftp() as sftp:
                sftp.put(str(job.new), f"{job.folder}/model.nb", confirm=True)

    await asyncio.to_thread(push)


async def _fabric(job: Job) -> None:
    def push() -> None:
        d = job.device
        login = {"key_filename": d.key, "allow_agent": False, "look_for_keys": False}
        with fabric.Connection(d.host, d.user, d.port, connect_timeout=60, connect_kwargs=login) as connection:
            connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            connection.client.load_host_keys(str(job.known_hosts))
            connection.put(str(job.new), f"{job.folder}/model.nb")

    await asyncio.to_thread(push)


TOOLS: dict[str, Callable[[Job], Awaitable[None]]] = {
    "litefleet": _litefleet,
    "scp": _scp,
    "scp -C": lambda job: _scp(job, "-C"),
    "sftp": _sftp,
    "rsync -z": _rsync,
    "paramiko": _paramiko,
    "fabric": _fabric,
}


def _prepare(job: Job, state: str) -> None:
    """Put the device into a state: for litefleet its store, for the others the target file."""
    blobs = Path(job.device.root) / "blobs"
    shutil.rmtree(blobs, ignore_errors=True)
    blobs.mkdir(parents=True, mode=0o700)
    target = job.folder / "model.nb"
    target.unlink(missing_ok=True)
    there = {"fresh": None, "changed": job.old, "same": job.new}[state]
    if there is not None:
        shutil.copy(there, blobs / there.name)
        shutil.copy(there, target)


async def _line(wire: Wire, relay: Relay, job: Job, rounds: int) -> list[Figures]:
    """Return the median seconds, bytes and round trips of each tool, one entry for each state on one line."""
    found: dict[str, dict[str, list[tuple[float, int, int]]]] = {state: {} for state in STATES}
    await _litefleet(job)  # brings the agent
    for _ in range(rounds):
        for state in STATES:
            for name, tool in TOOLS.items():
                _prepare(job, state)
                began, passed, turns = time.monotonic(), relay.passed, relay.turns
                await tool(job)
                run = (time.monotonic() - began, relay.passed - passed, relay.turns - turns)
                found[state].setdefault(name, []).append(run)
        print(f"{wire}: a round is done", file=sys.stderr)
    return [
        {
            "line": str(wire),
            "state": state,
            "tools": {tool: [median(column) for column in zip(*runs, strict=True)] for tool, runs in tools.items()},
        }
        for state, tools in found.items()
    ]


async def _bench(old: Path, new: Path, rounds: int) -> list[Figures]:
    with tempfile.TemporaryDirectory(prefix="lines-") as text:
        base = Path(text)
        store = base / "store"
        store.mkdir()
        files = []
        for path in (old, new):
            data = path.read_bytes()
            files.append(store / sha256(data).hexdigest())
            files[-1].write_bytes(data)
        specs = [DeviceSpec(f"d{i}", kind="sshd", python=sys.executable) for i in range(len(WIRES))]
        async with EmbeddedFleet(base / "devices", specs) as fleet:
            await allow_sftp(fleet.devices.values())
            relays, jobs = [], []
            for wire, made in zip(WIRES, fleet.devices.values(), strict=True):
                relays.append(Relay(wire, made.port))
                await relays[-1].start()
                folder = base / f"on-{made.name}"
                folder.mkdir()
                known = folder / "known_hosts"
                known.write_text(f"[{made.host}]:{relays[-1].port} {made.host_public_key}\n")
                device = Device(
                    made.name, made.host, relays[-1].port, made.user, str(made.key_path), python=sys.executable,
                    root=str(folder / "root"), host_keys=(made.host_public_key,),
                )  # fmt: skip
                jobs.append(Job(device, files[0], files[1], folder, known))
            lines = await asyncio.gather(*(_line(*each, rounds) for each in zip(WIRES, relays, jobs, strict=True)))
    return [row for line in lines for row in line]


def main() -> None:
    """Run the bench and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="put the figures into this file of `make bench`, for bench.tables")
    given = parser.parse_args()
    asyncssh.set_log_level("ERROR")
    for tool in ("scp", "sftp", "rsync"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing on this machine")
    assert subprocess.run(["ssh", "-V"], capture_output=True, check=False).returncode == 0
    here = given.json is not None and given.json.exists()
    results = Results.read(given.json) if here else Results(Machine.this().text(), "", given.json)
    results.lines = asyncio.run(_bench(given.old, given.new, given.rounds))
    results.write()
    sizes = f"old {given.old.stat().st_size:,} bytes, new {given.new.stat().st_size:,}"
    print(f"{sizes}; medians of {given.rounds}; load {os.getloadavg()[0]:.0f}\n\n{lines_table(results)}")


if __name__ == "__main__":
    main()
