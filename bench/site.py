"""A model for the devices behind one jump host and a thin line, with and without `site_cache`: bytes on the line, and seconds.

    sudo python -m bench.site --devices 40 --rate 2mbit      # four minutes; root, for two network namespaces and tc

The site (jump host and devices, real sshds) is this process's network, the controller's is another; the veth pair between them
is shaped by tbf in both directions.  Agents and an older model are there before; the new one shares no byte with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from bench.environments import ROOT, own_network
from bench.fleet import Bench, Sizes, fetch_source, say

_HERE, _THERE = "10.99.0.1", "10.99.0.2"


class Line:
    """The veth pair between the site and the controller's network."""

    def __init__(self, rate: str) -> None:
        self._rate = rate
        self._other = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        time.sleep(0.5)
        self._ip("link", "add", "line0", "type", "veth", "peer", "name", "line1", "netns", str(self._other.pid))
        self._ip("address", "add", f"{_HERE}/30", "dev", "line0")
        self._ip("link", "set", "line0", "up")
        for words in (f"address add {_THERE}/30 dev line1", "link set line1 up", "link set lo up"):
            self._there("ip", *words.split())

    def shape(self) -> None:
        """Make it thin in both directions."""
        tbf = ["root", "tbf", "rate", self._rate, "burst", "16kb", "latency", "400ms"]
        subprocess.run(["tc", "qdisc", "add", "dev", "line0", *tbf], check=True)
        self._there("tc", "qdisc", "add", "dev", "line1", *tbf)

    def bytes_to_site(self) -> int:
        """Return the bytes that came to the site so far, headers too."""
        lines = Path("/proc/self/net/dev").read_text().splitlines()
        return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("line0:"))

    def command(self, *argv: str) -> list[str]:
        """Return a command that runs in the controller's network."""
        return ["nsenter", "-t", str(self._other.pid), "-n", *argv]

    def close(self) -> None:
        """End the other network."""
        self._other.terminate()
        self._other.wait()

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    def _there(self, *argv: str) -> None:
        subprocess.run(self.command(*argv), check=True)


async def _relay(port: int) -> int:
    """Let the line's end here reach the jump host, which listens on loopback; return the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

        async def way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(way(reader, up_writer), way(up_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, _HERE, 0)
    return int(server.sockets[0].getsockname()[1])


def next_model(source: Path, seed: int) -> None:
    """Make the next release one of a model whose weights all differ a little; `source` is its folder."""
    (params,) = source.glob("*.pdiparams")
    data, at, dice = bytearray(params.read_bytes()), 0, random.Random(seed)
    while at < len(data):  # version, no levels of sequences, version, size of the description, description, numbers
        (size,) = struct.unpack_from("<i", data, at + 16)
        start = at + 20 + size
        at = start + 4 * _numbers(bytes(data[at + 20 : start]))
        data[start:at:4] = dice.randbytes((at - start) // 4)  # the lowest byte of each float32
        data[start + 1 : at : 4] = dice.randbytes((at - start) // 4)
    params.write_bytes(data)


def _numbers(description: bytes) -> int:
    """Return how many numbers a tensor has: the product of its dims (field 2, varints) in a protobuf message."""
    count, at = 1, 0
    while at < len(description):
        tag, value, shift, at = description[at], 0, 0, at + 1
        while True:
            byte = description[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        count *= value if tag == 0x10 else 1
    return count


async def measure(folder: Path, count: int, line: Line) -> None:
    """Roll out the older model, then one without and one with the site cache, and print."""
    lite = await Toolchains().lite()
    specs = [DeviceSpec("gate", kind="sshd")]
    specs += [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, count + 1)]
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        bench = Bench(folder, fleet, Sizes(count, (), 1, 1))
        bench.prepare(lite.python.resolve())
        entries = {device.name: device.inventory_entry() for device in bench.devices}
        entries["gate"] |= {"host": _HERE, "port": await _relay(bench.devices[0].port)}
        for name in bench.names[1:]:
            entries[name]["jump"] = "gate"
        (folder / "system-fleet.yaml").write_text(yaml.safe_dump({"devices": entries}, width=1000))
        config = (folder / "system.yaml").read_text()

        async def run(*words: str) -> float:
            began = time.monotonic()
            parts = os.pathsep.join(str(ROOT / part) for part in ("agent", "inventory", "controller"))
            argv = line.command(sys.executable, "-m", "litefleet_controller", *words, "-c", str(folder / "system.yaml"))
            env = {**os.environ, "PYTHONPATH": parts}
            ended = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, env=env)
            if ended.returncode not in (0, 3):
                raise SystemExit(f"{words}: exit code {ended.returncode}\n{ended.stdout[-3000:]}{ended.stderr[-2000:]}")
            return time.monotonic() - began

        limit = ",".join(bench.names[1:])
        say(f"the older model: {await run('rollout', '--limit', limit):.0f} s")
        line.shape()
        found = []
        for seed, text in enumerate(("", "site_cache: {jump_hosts: [gate]}\n")):
            next_model(folder / "models" / "cls", seed)
            (folder / "system.yaml").write_text(config + text)
            await run("plan", "--limit", "d001")  # converts, makes the goldens
            before = line.bytes_to_site()
            seconds = await run("rollout", "--limit", limit)
            found.append((seconds, line.bytes_to_site() - before))
            say(f"{text.strip() or 'without a site cache'}: {seconds:.1f} s, {found[-1][1]:,} bytes")
    sys.stdout.write(f"| {count} devices behind one line | seconds | bytes to the site |\n|---|---|---|\n")
    for name, (seconds, carried) in zip(("without", "with `site_cache`"), found, strict=True):
        sys.stdout.write(f"| {name} | {seconds:.1f} | {carried:,} |\n")


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--devices", type=int, default=40)
    reader.add_argument("--rate", default="2mbit")
    chosen = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="litefleet-site-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        fetch_source(folder)
        if not own_network():
            raise SystemExit("this bench needs root, for network namespaces")
        line = Line(chosen.rate)
        try:
            asyncio.run(measure(folder, chosen.devices, line))
        finally:
            line.close()


if __name__ == "__main__":
    main()
