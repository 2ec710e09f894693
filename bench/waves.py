"""A rollout in three waves over thin lines, with and without `prepare_next`: seconds.

    python -m bench.waves --devices 20 --rate 2      # ten minutes; --rate in Mbit/s

Each device is an sshd behind a relay of its own (`lines.Relay`, 40 ms a round trip).  Agents and an older model are there before;
the new one, PP-OCR's text recognition with other weights, shares no byte with it.  Proofs share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from bench.environments import ROOT
from bench.fleet import Bench, Sizes, fetch_source, say
from bench.lines import Relay, Wire
from bench.site import next_model

_RTT_S = 0.04
_SOURCE = "ch_PP-OCRv4_rec_infer"


async def _rollout(folder: Path, *words: str) -> float:
    """Run a command in a process of its own and return its seconds."""
    began = time.monotonic()
    parts = os.pathsep.join(str(ROOT / part) for part in ("agent", "inventory", "controller"))
    argv = [sys.executable, "-m", "litefleet_controller", *words, "-c", str(folder / "system.yaml")]
    env = {**os.environ, "PYTHONPATH": parts}
    ended = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, env=env)
    if ended.returncode:
        raise SystemExit(f"{words}: exit code {ended.returncode}\n{ended.stdout[-3000:]}{ended.stderr[-2000:]}")
    return time.monotonic() - began


async def measure(folder: Path, count: int, rate: float, rounds: int) -> dict[bool, list[float]]:
    """Return the seconds of each rollout, by whether files went ahead."""
    lite = await Toolchains().lite()
    specs = [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, count + 1)]
    found: dict[bool, list[float]] = {False: [], True: []}
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        bench = Bench(folder, fleet, Sizes(count, (), 1, 1))
        bench.prepare(lite.python.resolve())
        text = (folder / "system.yaml").read_text()
        text = text.replace("[1, 3, 48, 192]", "[1, 3, 48, 320]").replace("models/cls", f"models/{_SOURCE}")
        (folder / "system.yaml").write_text(text)
        say(f"the older model: {await _rollout(folder, 'rollout'):.0f} s")
        entries = {}
        for device in bench.devices:
            relay = Relay(Wire(_RTT_S, rate * 1e6 / 8), device.port)
            await relay.start()
            entries[device.name] = device.inventory_entry() | {"port": relay.port}
        (folder / "system-fleet.yaml").write_text(yaml.safe_dump({"devices": entries}, width=1000))
        for number in range(2 * rounds):
            ahead = number % 2 == 1
            next_model(folder / "models" / _SOURCE, number)
            policy = {"waves": [1, "20%", "100%"], "gates": "off", "parallel": count, "prepare_next": ahead}
            (folder / "system.yaml").write_text(text + yaml.safe_dump({"rollout": policy}))
            await _rollout(folder, "plan", "--limit", "d001")  # converts, makes the goldens
            found[ahead].append(await _rollout(folder, "rollout"))
            say(f"prepare_next {ahead}: {found[ahead][-1]:.1f} s")
    return found


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--devices", type=int, default=20)
    reader.add_argument("--rate", type=float, default=2.0, help="Mbit/s of each device's line")
    reader.add_argument("--rounds", type=int, default=1)
    chosen = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="litefleet-waves-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        fetch_source(folder, _SOURCE)
        found = asyncio.run(measure(folder, chosen.devices, chosen.rate, chosen.rounds))
    sys.stdout.write(f"| {chosen.devices} devices, {chosen.rate:g} Mbit/s each | seconds |\n|---|---|\n")
    for ahead, seconds in found.items():
        name = "with `prepare_next`" if ahead else "without"
        sys.stdout.write(f"| {name} | {', '.join(f'{s:.1f}' for s in seconds)} |\n")


if __name__ == "__main__":
    main()
